"""kdlib.experiments.zero_shot: measures of pictures with names that are no classes."""

import numpy as np
import pytest
import torch

from kdlib.evaluation.judge import Judge
from kdlib.experiments import zero_shot
from kdlib.experiments.zero_shot import fit_to_names, measured, set_statistics


class TextJudge(Judge):
    """Its map into the space of texts leaves features as they are."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.text = torch.nn.Linear(10, 10, bias=False)
        self.text.weight.data = torch.eye(10)


@pytest.fixture(autouse=True)
def texts(monkeypatch):
    """Title n of ten is the n-th axis."""
    monkeypatch.setattr(zero_shot, "text_features", lambda titles: torch.eye(10)[[int(title) for title in titles]])


def ten():
    """Titles 0 to 9, and a picture of each: the first five show the next title more than their own, and others less."""
    features = 3 * np.eye(10, dtype=np.float32)
    features[:5] += 5 * np.eye(10, dtype=np.float32)[[1, 2, 3, 4, 5]]
    features[0, 1:7] = 4  # six titles fit better than its own
    features[9] = 1  # all alike
    return features, [str(n) for n in range(10)]


def test_the_fit_to_names():
    said = fit_to_names(TextJudge(), *ten())
    assert said.alignment.tolist() == pytest.approx(
        [3 / np.sqrt(9 + 6 * 16)] + [3 / np.sqrt(9 + 25)] * 4 + [1] * 4 + [1 / np.sqrt(10)])
    assert said.named_top5.tolist() == [False] + [True] * 8 + [False], "where all fit alike, none is named"


def test_statistics_are_of_the_titles_that_are_asked():
    features, titles = ten()
    found = set_statistics(TextJudge(), features, titles, features)
    assert found["fd_sticker"](np.arange(10)) == pytest.approx(0, abs=1e-4)
    assert found["named_top5"](np.array([0, 1, 9, 9])) == 0.25
    assert found["alignment"](np.array([5, 6])) == pytest.approx(1)
    intervals = measured(found, 10, 50, 0)
    assert intervals["named_top5"].value == 0.8 and intervals["named_top5"].low < 0.8 < intervals["named_top5"].high
