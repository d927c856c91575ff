"""kdlib.experiments.table: every column against the measure that it is said to be, and people's votes as counted."""

import numpy as np
import pandas as pd
import pytest

from kdlib.evaluation.metrics import Interval, fit_gaussian, frechet_distance, precision_recall, share_interval
from kdlib.experiments.table import (
    MEASURED,
    NO_VOTES,
    Drawn,
    as_table,
    differences,
    drawn_statistics,
    measure_methods,
    open_drawn,
    people,
    preferred_by_judge,
    side_by_side,
    spread_statistics,
)
from kdlib.files import save_array
from tests.evaluation.human.test_count import BY_HAND, OTHER, SIDES, save_key, save_votes

WIDTH, NUM_PROMPTS, NUM_NEAREST = 5, 13, 3
PROMPTS = [f"prompt {number}" for number in range(NUM_PROMPTS)]


def drawn(seed, shift=0.0):
    random = np.random.default_rng(seed)
    said = pd.DataFrame({"prompt": PROMPTS, "draw": 0, "top1": False, "top5": random.random(NUM_PROMPTS) < 0.4,
                         "alignment": random.random(NUM_PROMPTS)})
    return Drawn((random.standard_normal((NUM_PROMPTS, WIDTH)) + shift).astype(np.float32), said, 1234)


@pytest.fixture
def methods():
    return {"ours": drawn(0), "gan": drawn(1, 1.0), "flat": drawn(2, 0.3)}


@pytest.fixture
def reference():
    return np.random.default_rng(9).standard_normal((40, WIDTH)).astype(np.float32)


def test_the_columns_are_the_measures_that_they_are_said_to_be(methods, reference):
    rows = measure_methods(methods, reference, NUM_NEAREST, 30, seed=0)
    for name, of in methods.items():
        expected = precision_recall(reference, of.features, NUM_NEAREST)
        assert tuple(rows[name]) == ("fd_sticker", "concept_top5", "text_alignment", "precision", "recall") == MEASURED
        assert rows[name]["fd_sticker"].value == pytest.approx(
            frechet_distance(fit_gaussian(of.features), fit_gaussian(reference)))
        assert rows[name]["concept_top5"] == share_interval(of.said.top5.to_numpy())
        assert rows[name]["text_alignment"].value == pytest.approx(of.said.alignment.mean())
        assert rows[name]["precision"].value == pytest.approx(expected["precision"])
        assert rows[name]["recall"].value == pytest.approx(expected["recall"])
        assert all(interval.low <= interval.value <= interval.high for interval in rows[name].values())
    assert rows == measure_methods(methods, reference, NUM_NEAREST, 30, seed=0)


def test_precision_and_recall_of_some_prompts_are_those_of_their_pictures(methods, reference):
    features, rows = methods["flat"].features, np.array([1, 3, 4, 8, 11])
    found = spread_statistics(features, reference, NUM_NEAREST)
    expected = precision_recall(reference, features[rows], NUM_NEAREST)
    assert found["precision"](rows) == pytest.approx(expected["precision"])
    assert found["recall"](rows) == pytest.approx(expected["recall"])
    assert found["recall"](np.repeat(rows, 3)) == pytest.approx(expected["recall"])  # repeated prompts add nothing
    assert found["recall"](np.array([2, 2, 2, 5])) == 0.0  # two pictures have no third neighbour
    assert set(drawn_statistics(methods["flat"], reference, NUM_NEAREST)) == set(MEASURED)
    with pytest.raises(ValueError, match="2 pictures are too few for this; it takes at least 4"):
        spread_statistics(features[:2], reference, NUM_NEAREST)


def test_differences_are_theirs_minus_ours(methods, reference):
    rivals = {"gan": "ours", "flat": "gan"}
    found = differences(methods, rivals, reference, 30, seed=0)
    assert set(found) == set(rivals)
    for name, row in found.items():
        gap = methods[name].said.alignment.mean() - methods[rivals[name]].said.alignment.mean()
        assert row["text_alignment"].value == pytest.approx(gap)
        distances = [frechet_distance(fit_gaussian(methods[of].features), fit_gaussian(reference))
                     for of in (name, rivals[name])]
        assert row["fd_sticker"].value == pytest.approx(distances[0] - distances[1])
    other = methods["gan"].said.assign(prompt=PROMPTS[::-1])
    with pytest.raises(ValueError, match="gan drew other prompts than ours"):
        differences({**methods, "gan": methods["gan"]._replace(said=other)}, rivals, reference, 3, seed=0)


def test_the_judges_preference_is_the_share_of_prompts_with_a_higher_alignment(methods):
    ours, theirs = (methods[name].said.alignment.to_numpy(copy=True) for name in ("ours", "gan"))
    theirs[:2] = ours[:2]  # ties are none for ours
    said = methods["gan"].said.assign(alignment=theirs)
    found = preferred_by_judge({"ours": methods["ours"], "gan": methods["gan"]._replace(said=said)}, {"gan": "ours"})
    won = sum(theirs[row] < ours[row] for row in range(2, NUM_PROMPTS))
    assert found["gan"].value == pytest.approx(won / NUM_PROMPTS) and set(found) == {"gan"}


# --- files -----------------------------------------------------------------------------------------------------------

def test_of_several_draws_the_first_counts(tmp_path):
    features = np.random.default_rng(0).standard_normal((NUM_PROMPTS, 2, WIDTH)).astype(np.float32)
    said = pd.DataFrame({"prompt": np.repeat(PROMPTS, 2), "draw": [0, 1] * NUM_PROMPTS,
                         "top5": [True, False] * NUM_PROMPTS, "alignment": np.arange(2.0 * NUM_PROMPTS)})
    save_array(tmp_path / "features.npy", features)
    said.to_csv(tmp_path / "verdicts.csv", index=False)
    found = open_drawn(tmp_path, PROMPTS, None)
    np.testing.assert_array_equal(found.features, features[:, 0])
    assert found.said.top5.all() and found.said.alignment.tolist() == list(range(0, 2 * NUM_PROMPTS, 2))
    with pytest.raises(ValueError, match="pictures of other prompts than are asked for"):
        open_drawn(tmp_path, PROMPTS[:-1], None)


def test_people_have_not_voted_until_they_have(tmp_path):
    assert people(tmp_path, ["gan", "flat", "none"]) == dict.fromkeys(["gan", "flat", "none"], NO_VOTES)
    votes = tmp_path / "data" / "votes"
    votes.mkdir(parents=True)
    save_key(votes / "key.json", [(id, "gan", side) for id, side in SIDES.items()] + [("p9", "flat", "left")])
    assert people(tmp_path, ["gan"]) == {"gan": NO_VOTES}  # a key alone is no vote
    said = lambda id, vote: {"o": SIDES[id], "t": OTHER[SIDES[id]], "-": "neither"}[vote]
    for rater in range(5):
        save_votes(votes / f"{rater}.json", f"r{rater}",
                   {id: said(id, given[rater]) for id, given in BY_HAND.items() if given[rater] != " "})
    found = people(tmp_path, ["gan", "flat", "none"])
    assert found["gan"].startswith("quality 0.667 [") and found["gan"].endswith("alignment -")  # two pairs of three
    assert found["flat"] == "quality -, alignment -" and found["none"] == "not asked"
    (votes / "key.json").unlink()
    with pytest.raises(ValueError, match="has votes, but no key.json"):
        people(tmp_path, ["gan"])


def test_the_table_says_all_of_it_in_words(methods):
    rows = {name: dict.fromkeys(MEASURED, Interval(0.5, 0.25, 0.75)) for name in methods}
    methods = {**methods, "flat": methods["flat"]._replace(num_parameters=None)}
    table = as_table(methods, rows, {"gan": Interval(0.9, 0.8, 0.95)}, {"gan": NO_VOTES})
    assert list(table.index) == ["ours", "gan", "flat"] and list(table.columns[:5]) == list(MEASURED)
    assert table.loc["gan"].tolist()[4:] == ["0.5 [0.25, 0.75]", "1,234", "0.9 [0.8, 0.95]", NO_VOTES]
    assert table.loc["flat", "parameters"] == "-" and table.loc["ours"].tolist()[-2:] == ["-", "-"]
    both = side_by_side({"stickers": table, "photographs": table.loc[["ours"]]}, ["fd_sticker", "people prefer ours"])
    assert both.columns.tolist() == [(of, column) for of in ("stickers", "photographs")
                                     for column in ("fd_sticker", "people prefer ours")]
    assert both.loc["ours", ("photographs", "fd_sticker")] == "0.5 [0.25, 0.75]"
    assert pd.isna(both.loc["gan", ("photographs", "fd_sticker")])
