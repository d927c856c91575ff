"""kdlib.experiments.aesthetics: which neighbours condition, what a slope is, what is learned from what."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

from kdlib.data.dataset import DataSet
from kdlib.evaluation.shading import Shading
from kdlib.experiments import aesthetics
from kdlib.experiments.aesthetics import (
    area_under_curve,
    draw_by_score,
    learn_shading,
    parts_by_score,
    slope_within,
)
from kdlib.models.condition import Condition
from kdlib.models.discrete.tokenizer import Tokenizer
from kdlib.pipeline import Pipeline
from kdlib.types import Neighbours


def test_parts_rise_in_score_and_keep_the_order_of_the_neighbours():
    scores = np.array([[5.0, 1, 4, 0, 3, 2], [7, 7, 7, 7, 7, 7]])
    assert parts_by_score(scores, 3).tolist() == [[[1, 3], [4, 5], [0, 2]], [[0, 1], [2, 3], [4, 5]]]
    assert parts_by_score(scores, 1).tolist() == [[[0, 1, 2, 3, 4, 5]]] * 2
    with pytest.raises(ValueError, match="6 neighbours can't be divided into 4 equal parts"):
        parts_by_score(scores, 4)


def test_the_slope_is_that_of_a_regression_with_a_level_for_each_prompt():
    random = np.random.default_rng(0)
    x, levels = random.normal(size=(7, 5)), random.normal(size=(7, 1)) * 9
    y = 0.3 * x + levels + random.normal(size=(7, 5))
    rows = np.array([0, 3, 3, 6])
    level_of = np.repeat(np.eye(4), 5, axis=0)
    known = LinearRegression(fit_intercept=False).fit(np.c_[x[rows].reshape(-1), level_of], y[rows].reshape(-1))
    assert slope_within(x, y)(rows) == pytest.approx(known.coef_[0])
    assert slope_within(x, 0.5 * x + levels)(rows) == pytest.approx(0.5)


def test_the_area_under_the_curve():
    random = np.random.default_rng(0)
    scores, hits = random.integers(0, 9, 40).astype(float), random.random(40) < 0.3
    assert area_under_curve(scores, hits) == pytest.approx(roc_auc_score(hits, scores))


class ToyPipeline(Pipeline):
    """Finds greys, which are embedded as their level, and draws their mean, half a level for each of 256 less."""

    def __init__(self):
        self.settings, self.asked = {"k": 2}, []

    def retrieve(self, prompts, k=None, index=None):
        levels = np.array([[40, 10, 90, 70, 20, 60], [5, 200, 100, 150, 0, 50]], np.float32)[:, :k]
        vectors = np.repeat(levels[:, :, None], 3, axis=2)
        ids = np.array([[str(int(level)) for level in row] for row in levels])
        return Neighbours(ids, np.zeros(levels.shape, np.float32), vectors), Condition.from_numpy(
            np.ones((2, 3), np.float32), vectors)

    def generate(self, condition, num_steps=None, guidance_scale=None, seed=0):
        self.asked.append((condition.neighbours[:, :, 0].tolist(), condition.query.sum().item(), num_steps, seed))
        return [Image.new("RGB", (4, 4), (int(level),) * 3) for level in condition.neighbours[:, :, 0].mean(1) / 2]


def greys():
    levels = [0, 5, 10, 20, 40, 50, 60, 70, 90, 100, 150, 200]
    pictures = np.array(levels, np.uint8)[:, None, None, None] + np.zeros((1, 4, 4, 3), np.uint8)
    return DataSet(pd.DataFrame({"id": list(map(str, levels))}), pictures)


def test_each_part_of_the_neighbours_conditions_once():
    pipe = ToyPipeline()
    found = draw_by_score(pipe, ["a", "b"], greys(), lambda pictures: pictures[:, 0, 0, 0].astype(float), 3, 7, 11)
    assert [of for of, *_ in pipe.asked] == [[[10, 20], [5, 0]], [[40, 60], [100, 50]], [[90, 70], [200, 150]]]
    assert {tuple(more) for _, *more in pipe.asked} == {(6.0, 7, 11)}
    assert found.nearest.tolist() == [["10", "40", "90"], ["5", "100", "200"]]
    assert found.neighbours.tolist() == [[15, 50, 80], [2.5, 75, 175]]
    assert found.scores.tolist() == [[7, 25, 40], [1, 37, 87]] and len(found.drawn) == 3


class Rebuilder(Tokenizer):
    def __init__(self):
        pass


class Known(Shading):
    """Knows pictures as they are, and takes rebuilt ones for all the same."""

    def __call__(self, pictures):
        return np.where(pictures[:, 0, 0, 0] < 100, pictures[:, 0, 0, 0] % 2 == 0, 0).astype(float)


def test_shading_is_learned_from_training_concepts_as_they_are_and_rebuilt(monkeypatch):
    """Pictures say in their first pixel which they are; the tokenizer adds 100."""
    table = pd.DataFrame({"split": ["train"] * 6 + ["test"] * 4, "skin_tone": [""] * 5 + ["dark"] + [""] * 4,
                          "svg": ["<Gradient", "flat"] * 5})
    pictures = np.arange(10, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 2, 2, 3), np.uint8)
    seen = {}

    def fit(pictures, shaded):
        seen.update(zip(pictures[:, 0, 0, 0].tolist(), shaded.tolist(), strict=True))
        return Known(np.zeros(1), np.ones(1), np.ones(1), 0.0)

    monkeypatch.setattr(aesthetics, "reconstruct_pictures", lambda tokenizer, shown: (shown + 100, None))
    monkeypatch.setattr(aesthetics, "fit_shading", fit)
    _, areas = learn_shading(DataSet(table, pictures), Rebuilder(), 99, 99, 0)
    assert seen == {n + more: n % 2 == 0 for n in range(5) for more in (0, 100)}
    assert areas == {"real": 1.0, "rebuilt": 0.5}
