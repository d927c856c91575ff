"""The claims: a verdict needs the whole interval, a missing number is no verdict, the table is whole."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kdlib.compendium.report.claims import VERDICTS, flatten, judge_claims, load_claims, show, verdict_of

ROOT = Path(__file__).resolve().parents[3]
TEXTS = {"claim": "more is better", "place": "Fig. 7", "paper": "0.77"}


def interval(low, high):
    return {"value": (low + high) / 2, "low": low, "high": high}


def judged(key, holds, **numbers):
    ours = {"stage": "some/stage", "key": key, "what": "a ratio", "holds": holds}
    return judge_claims([TEXTS | {"ours": ours}], {"some/stage": numbers}).iloc[0]


@pytest.mark.parametrize("low, high, holds, verdict", [
    (0.7, 0.9, "below 1", "holds"), (1.1, 1.3, "below 1", "does not hold"), (0.9, 1.1, "below 1", "can't be told"),
    (0.7, 1.0, "below 1", "can't be told"), (1.0, 1.0, "above 1", "can't be told"),
    (-0.7, -0.6, "above -0.5", "does not hold"), (-0.4, 3.0, "above -0.5", "holds"),
    (float("nan"), float("nan"), "above 0", "can't be told")])
def test_a_verdict_needs_the_whole_interval_on_one_side(low, high, holds, verdict):
    assert verdict_of(interval(low, high), holds) == verdict


@given(ends=st.tuples(st.floats(-9, 9), st.floats(-9, 9)).map(sorted), limit=st.integers(-9, 9))
def test_above_and_below_are_each_other_s_opposite(ends, limit):
    above, below = (verdict_of(interval(*ends), f"{side} {limit}") for side in ("above", "below"))
    assert {"holds": "does not hold", "does not hold": "holds"}.get(above, above) == below


def test_a_number_without_interval_is_exact():
    assert verdict_of(7, "above 5") == "holds" and verdict_of(0.3, "above 0.5") == "does not hold"
    assert judged("a.b", "above 5", a={"b": 7}).ours == "7"


def test_of_several_numbers_all_have_to_hold():
    good, open_, bad = interval(1.1, 1.2), interval(0.9, 1.2), interval(0.5, 0.6)
    said = lambda *found: judged("to_10.*.fd", "above 1", to_10={
        str(k): {"fd": value, "cmmd": bad} for k, value in enumerate(found)}).verdict
    assert said(good, good) == "holds" and said(good, open_) == "can't be told"
    assert said(good, open_, bad) == "does not hold"
    assert judged("to_10.*.fd", "above 1", to_10={"1": {"fd": good}, "5": {"fd": good}}).ours == \
        "1.15 [1.1, 1.2]; 1.15 [1.1, 1.2]"


@pytest.mark.parametrize("value, verdict", [("holds", "holds"), ("does not hold", "does not hold"),
                                            ("can't be told", "can't be told"), ("yes", "not run"), (7, "not run")])
def test_a_stage_s_own_verdict_is_taken_as_said(value, verdict):
    assert judged("claims.10 is best, by far", "as said", claims={"10 is best, by far": value}).verdict == verdict


def test_what_is_missing_is_not_run_and_says_what_it_lacks():
    ours = {"stage": "steps", "key": "ratio.fd", "what": "a ratio", "holds": "below 1"}
    for metrics in ({}, {"steps": {}}, {"steps": {"ratio": {"fd": "nan"}}}, {"other": {"ratio": {"fd": 0.5}}}):
        row = judge_claims([TEXTS | {"ours": ours}], metrics).iloc[0]
        assert (row.verdict, row.ours, row.why) == ("not run", "", "there is no ratio.fd in steps/metrics.json")


def test_what_cannot_be_asked_says_why():
    row = judge_claims([TEXTS | {"cannot": "no people"}], {}).iloc[0]
    assert (row.verdict, row.why, row.ours, row.stage) == ("can't be asked", "no people", "", "")
    assert (row.claim, row.place, row.paper) == ("more is better", "Fig. 7", "0.77")


def test_numbers_are_flattened_and_shown():
    nested = {"a": {"b": interval(1, 3), "c": {"d": 12345}}, "e": "text"}
    assert flatten(nested) == {"a.b": interval(1, 3), "a.c.d": 12345, "e": "text"}
    assert [show(value) for value in flatten(nested).values()] == ["2 [1, 3]", "12,345", "text"]


# --- reports/claims.yaml -------------------------------------------------------------------------------------------

def test_the_list_of_claims_is_whole():
    claims = load_claims(ROOT)
    assert len({row["claim"] for row in claims}) == len(claims) >= 25
    asked = [row["ours"] for row in claims if "ours" in row]
    assert {ours["stage"] for ours in asked} >= {"conditioning", "geometry"} and len(asked) < len(claims)
    assert all("|" not in value and "\n" not in value for row in claims for value in [
        row["claim"], row["place"], row["paper"], row.get("cannot", ""), row.get("ours", {}).get("what", "")])
    table = judge_claims(claims, {})
    assert set(table.verdict) == {"not run", "can't be asked"} < set(VERDICTS) and not table.isna().any(axis=None)


@pytest.mark.parametrize("change", [
    {"place": None}, {"cannot": "so"}, {"ours": None}, {"holds": "under 1"}, {"holds": "below"}, {"stage": None},
    {"extra": 3}])
def test_a_claim_that_says_too_little_or_too_much_is_named(tmp_path, change):
    ours = {"stage": "steps", "key": "ratio", "what": "a ratio", "holds": "below 1.5"}
    row = TEXTS | {"ours": ours}
    (tmp_path / "reports").mkdir()
    path = tmp_path / "reports" / "claims.yaml"
    path.write_text(yaml.safe_dump([row]))
    assert load_claims(tmp_path) == [row]
    for name, value in change.items():
        part = ours if name in ours else row
        part.update({name: value}) if value is not None else part.pop(name)
    path.write_text(yaml.safe_dump([row]))
    with pytest.raises(ValueError, match=re.escape("claims.yaml: 'more is better' needs")):
        load_claims(tmp_path)
