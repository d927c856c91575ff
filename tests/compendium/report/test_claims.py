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
    ours |= {} if holds == "as said" else {"matters": 0}
    return judge_claims([TEXTS | {"ours": ours}], {"some/stage": numbers}).iloc[0]


@pytest.mark.parametrize("low, high, holds, verdict", [
    (0.7, 0.9, "below 1", "holds"), (1.1, 1.3, "below 1", "does not hold"), (0.9, 1.1, "below 1", "can't be told"),
    (0.7, 1.0, "below 1", "can't be told"), (1.0, 1.0, "above 1", "can't be told"),
    (-0.7, -0.6, "above -0.5", "does not hold"), (-0.4, 3.0, "above -0.5", "holds"),
    (float("nan"), float("nan"), "above 0", "can't be told")])
def test_a_verdict_needs_the_whole_interval_on_one_side(low, high, holds, verdict):
    assert verdict_of(interval(low, high), holds, 0) == verdict


@pytest.mark.parametrize("low, high, verdict", [
    (0.9, 1.1, "can't be told"), (0.96, 1.04, "no effect"),  # around the limit
    (1.01, 1.04, "no effect"), (0.96, 0.99, "no effect"),    # beside it, by less than what matters
    (1.0, 1.0, "no effect"),
    (0.95, 1.04, "can't be told"), (0.96, 1.05, "can't be told"), (0.95, 1.05, "can't be told"),  # at the edge
    (0.9501, 1.0499, "no effect"), (0.9499, 1.0, "can't be told"), (1.0, 1.0501, "can't be told"),
    (0.95, 0.99, "holds"), (1.01, 1.05, "does not hold"),    # at the edge, but on one side
    (0.90, 0.99, "holds"), (1.01, 1.10, "does not hold"), (0.5, 0.6, "holds"), (1.5, 1.6, "does not hold"),
    (float("nan"), float("nan"), "can't be told"), (0.99, float("nan"), "can't be told")])
def test_an_interval_within_what_matters_is_no_effect(low, high, verdict):
    """Of a ratio that should be below 1, where five percent matter."""
    found = {"value": 1.0, "low": low, "high": high}
    assert verdict_of(found, "below 1", 0.05) == verdict
    turned = {"holds": "does not hold", "does not hold": "holds"}.get(verdict, verdict)
    assert verdict_of(found, "above 1", 0.05) == turned


def test_an_exact_number_has_no_effect_if_it_is_as_near_to_its_limit():
    assert verdict_of(0.54, "above 0.5", 0.05) == "no effect" == verdict_of(0.46, "above 0.5", 0.05)
    assert verdict_of(0.56, "above 0.5", 0.05) == "holds" and verdict_of(0.44, "above 0.5", 0.05) == "does not hold"


@given(ends=st.tuples(st.floats(-9, 9), st.floats(-9, 9)).map(sorted), matters=st.floats(0, 9))
def test_what_matters_is_the_same_on_both_sides_and_more_of_it_makes_no_effect_only(ends, matters):
    found, mirrored = interval(*ends), interval(-ends[1], -ends[0])
    assert verdict_of(found, "above 0", matters) == verdict_of(mirrored, "below 0", matters)
    assert verdict_of(found, "above 0", matters) in (verdict_of(found, "above 0", 0), "no effect")


@given(ends=st.tuples(st.floats(-9, 9), st.floats(-9, 9)).map(sorted), limit=st.integers(-9, 9))
def test_above_and_below_are_each_other_s_opposite(ends, limit):
    above, below = (verdict_of(interval(*ends), f"{side} {limit}", 0.5) for side in ("above", "below"))
    assert {"holds": "does not hold", "does not hold": "holds"}.get(above, above) == below


def test_a_number_without_interval_is_exact():
    assert verdict_of(7, "above 5", 0) == "holds" and verdict_of(0.3, "above 0.5", 0) == "does not hold"
    assert judged("a.b", "above 5", a={"b": 7}).ours == "7"


def test_of_several_numbers_all_have_to_hold():
    good, open_, bad = interval(1.1, 1.2), interval(0.9, 1.2), interval(0.5, 0.6)
    said = lambda *found: judged("to_10.*.fd", "above 1", to_10={
        str(k): {"fd": value, "cmmd": bad} for k, value in enumerate(found)}).verdict
    assert said(good, good) == "holds" and said(good, open_) == "can't be told"
    assert said(good, open_, bad) == "does not hold"
    ours = {"stage": "s", "key": "*", "what": "a ratio", "holds": "above 1", "matters": 0.1}
    mixed = lambda *found: judge_claims([TEXTS | {"ours": ours}], {"s": dict(zip("abc", found, strict=False))}
                                        ).verdict[0]
    within = interval(0.95, 1.05)
    assert mixed(good, within) == "no effect" == mixed(within, open_, good) and mixed(bad, within) == "does not hold"
    assert judged("to_10.*.fd", "above 1", to_10={"1": {"fd": good}, "5": {"fd": good}}).ours == \
        "1.15 [1.1, 1.2]; 1.15 [1.1, 1.2]"


@pytest.mark.parametrize("value, verdict", [("holds", "holds"), ("does not hold", "does not hold"),
                                            ("can't be told", "can't be told"), ("no effect", "no effect"),
                                            ("yes", "not run"), (7, "not run")])
def test_a_stage_s_own_verdict_is_taken_as_said(value, verdict):
    assert judged("claims.10 is best, by far", "as said", claims={"10 is best, by far": value}).verdict == verdict


def test_what_is_missing_is_not_run_and_says_what_it_lacks():
    ours = {"stage": "steps", "key": "ratio.fd", "what": "a ratio", "holds": "below 1", "matters": 0.05}
    for metrics in ({}, {"steps": {}}, {"steps": {"ratio": {"fd": "nan"}}}, {"other": {"ratio": {"fd": 0.5}}}):
        row = judge_claims([TEXTS | {"ours": ours}], metrics).iloc[0]
        assert (row.verdict, row.ours, row.why) == ("not run", "", "there is no ratio.fd in steps/metrics.json")


def test_what_cannot_be_asked_says_why():
    row = judge_claims([TEXTS | {"cannot": "no people"}], {}).iloc[0]
    assert (row.verdict, row.why, row.ours, row.stage) == ("can't be asked", "no people", "", "")
    assert (row.claim, row.place, row.paper) == ("more is better", "Fig. 7", "0.77")
    row = judge_claims([TEXTS | {"not_built": "no editor"}], {}).iloc[0]
    assert (row.verdict, row.why, row.ours, row.stage) == ("not built", "no editor", "", "")


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
        row["claim"], row["place"], row["paper"], row.get("cannot", ""), row.get("not_built", ""),
        row.get("ours", {}).get("what", "")])
    table = judge_claims(claims, {})
    assert set(table.verdict) == {"not run", "can't be asked"} < set(VERDICTS)
    assert not table.isna().any(axis=None)


def test_the_smallest_effect_that_matters_is_the_same_for_all_numbers_of_a_kind():
    """As the head of claims.yaml has it."""
    asked = [row["ours"] for row in load_claims(ROOT) if "matters" in row.get("ours", {})]
    of = lambda kind: {ours["matters"] for ours in asked if re.search(kind, f"{ours['key']} {ours['holds']}")}
    assert of(" (above|below) 1$") == {0.05} == of(" above 0.5$|^gain_over_chance"), "ratios, shares"
    assert of("^difference.*fd_sticker") == {2} and of("^difference.*text_alignment") == {0.01}
    assert of("^kendall") == {0.2} and of("^gigabytes") == {0}


@pytest.mark.parametrize("change", [
    {"place": None}, {"cannot": "so"}, {"ours": None}, {"holds": "under 1"}, {"holds": "below"}, {"stage": None},
    {"extra": 3}, {"not_built": "so"}, {"matters": None}, {"matters": -0.1}, {"matters": True}, {"matters": "small"},
    {"holds": "as said"}])
def test_a_claim_that_says_too_little_or_too_much_is_named(tmp_path, change):
    ours = {"stage": "steps", "key": "ratio", "what": "a ratio", "holds": "below 1.5", "matters": 0}
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
