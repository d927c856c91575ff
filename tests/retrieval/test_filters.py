"""kdlib.retrieval.filters against plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlib.data.catalogue import Catalogue, folder_catalogue
from kdlib.retrieval import by_column, by_quantile, by_score, same_group

CREDITS = {"a.png": {"licence": "MIT"}, "b.png": {"licence": "CC0-1.0"}, "c.png": {"licence": "CC-BY-4.0"}}
CATALOGUE = folder_catalogue([(name, b"") for name in (*CREDITS, "d.png")], CREDITS)
IDS = ["d.png", "c.png", "absent", "b.png", "a.png"]


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=30), st.floats(-9, 9), st.floats(-9, 9))
def test_scores_from_low_up_to_high(scores, one, other):
    low, high = sorted([one, other])
    if low < high:
        assert by_score(np.array(scores), low, high).tolist() == [low <= score < high for score in scores]
    assert by_score(np.array(scores)).all()


def test_quantiles_part_the_pictures():
    scores = np.random.default_rng(0).permutation(100) / 7
    parts = [by_quantile(scores, low / 4, (low + 1) / 4) for low in range(4)]
    assert [part.sum() for part in parts] == [25] * 4 and np.sum(parts, axis=0).tolist() == [1] * 100
    assert scores[parts[0]].max() < scores[parts[1]].min()
    tied = by_quantile(np.array([1.0, 1, 1, 2]), 0.5, 1.0)
    assert tied.tolist() == [True] * 4  # three equal scores stay together


def test_by_licence_of_those_that_the_catalogue_knows():
    assert by_column(IDS, CATALOGUE, "licence", ["MIT", "CC0-1.0"]).tolist() == [False, False, False, True, True]
    assert by_column(IDS, CATALOGUE, "licence", {"unknown"}).tolist() == [True, False, False, False, False]
    assert by_column(IDS, Catalogue.empty(), "style", []).sum() == 0


def test_same_group_holds_the_picture_itself():
    assert same_group(["p", "q", "r"], ["cat", "dog", "cat"]) == [{"p", "r"}, {"q"}, {"p", "r"}]


@pytest.mark.parametrize("call, message", [
    (lambda: by_score(np.array([1.0, np.nan])), "the score of picture 1 is not a number"),
    (lambda: by_score(np.array([1.0]), 2.0, 2.0), "no score is at least 2.0 and below 2.0"),
    (lambda: by_quantile(np.array([1.0]), 0.5, 0.5), r"\(0.5, 0.5\) are no quantiles"),
    (lambda: by_quantile(np.array([1.0]), -0.1, 0.5), "are no quantiles"),
    (lambda: by_quantile(np.array([np.nan]), 0.0, 0.5), "the score of picture 0 is not a number"),
    (lambda: by_column(IDS, CATALOGUE, "licence", ["CC0"]), "no picture has the licence 'CC0'; .*there are CC-BY-4.0"),
    (lambda: by_column(IDS, CATALOGUE, "licence", ["CC-BY-4"]), "did you mean 'CC-BY-4.0'"),
    (lambda: by_column(IDS, CATALOGUE, "licence", "MIT"), r"give a list of values, such as \['MIT'\]"),
    (lambda: same_group(["a"], ["x", "y"]), "1 ids and 2 groups"),
])
def test_slips_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
