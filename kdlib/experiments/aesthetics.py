"""The paper's Fig. 9: neighbours of a higher score, pictures of a higher score?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from kdlib.data.dataset import DataSet
from kdlib.evaluation.shading import Shading, fit_shading, has_gradient
from kdlib.models.discrete.tokenizer import Tokenizer, reconstruct_pictures
from kdlib.pipeline import Pipeline

Score = Callable[[UInt8[np.ndarray, "num_pictures height width 3"]], Float[np.ndarray, " num_pictures"]]


class ByScore(NamedTuple):
    """What was drawn from each part of the neighbours, and the mean scores of both.

    drawn       drawn[part][prompt]; part 0 has the lowest scores
    nearest     ids of the nearest neighbour in each part
    neighbours  mean score of the neighbours that conditioned
    scores      score of what was drawn from them
    """

    drawn: list[list[Image.Image]]
    nearest: np.ndarray
    neighbours: Float[np.ndarray, "num_prompts num_parts"]
    scores: Float[np.ndarray, "num_prompts num_parts"]


def draw_by_score(pipe: Pipeline, prompts: list[str], pictures: DataSet, score: Score, num_parts: int, num_steps: int,
                  seed: int) -> ByScore:
    """Divides the nearest num_parts * k pictures of each prompt by their score, and draws from each part.

    pictures  what the index holds
    score     of pictures, uint8 (num_pictures, height, width, 3)

    All parts are drawn with the same random numbers. Raises ValueError where the index has too few pictures.
    """
    found, whole = pipe.retrieve(prompts, num_parts * pipe.settings["k"])
    ids, place = np.unique(found.ids, return_inverse=True)
    scores = score(pictures.pictures_of(ids))[place].reshape(found.ids.shape)
    parts = parts_by_score(scores, num_parts)
    taken = np.arange(len(prompts))[:, None]
    conditions = [replace(whole, neighbours=torch.from_numpy(found.vectors[taken, parts[:, part]]))
                  for part in range(num_parts)]
    drawn = [pipe.generate(condition, num_steps, seed=seed) for condition in conditions]
    return ByScore(drawn, np.take_along_axis(found.ids, parts[:, :, 0], 1),
                   np.stack([scores[taken, parts[:, part]].mean(1) for part in range(num_parts)], axis=1),
                   np.stack([score(np.stack([np.asarray(one) for one in images])) for images in drawn], axis=1))


def parts_by_score(scores: Float[np.ndarray, "num_prompts num_neighbours"],
                   num_parts: int) -> Int[np.ndarray, "num_prompts num_parts part_size"]:
    """Which neighbours are in which part, by rising score, as many in each; in a part they keep their order.

    Equal scores are divided in the order of the neighbours. Raises ValueError for a number that can't be divided.
    """
    num_prompts, num_neighbours = scores.shape
    if num_neighbours % num_parts:
        raise ValueError(f"{num_neighbours} neighbours can't be divided into {num_parts} equal parts")
    order = np.argsort(scores, axis=1, kind="stable")
    return np.sort(order.reshape(num_prompts, num_parts, num_neighbours // num_parts), axis=2)


def slope_within(x: Float[np.ndarray, "num_prompts num_parts"],
                 y: Float[np.ndarray, "num_prompts num_parts"]) -> Callable[[Int[np.ndarray, " rows"]], float]:
    """The slope of y over x within prompts, for `bootstrap`: 1 is drawn as given, 0 is no influence.

    Least squares with a level of its own for each prompt, since an apple is more colourful than a spoon anyway.
    """
    over, along = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    return lambda rows: float((over[rows] * along[rows]).sum() / (over[rows] ** 2).sum())


def learn_shading(stickers: DataSet, tokenizer: Tokenizer, num_learned: int, num_tested: int,
                  seed: int) -> tuple[Shading, dict[str, float]]:
    """The score of shading, and how well it tells what it hasn't learned: the area under the ROC curve.

    It learns from `num_learned` drawings of training concepts, as they are and as the tokenizer rebuilds them, since
    what is drawn bears the tokenizer's marks, too; it is tested on as many as `num_tested` of held-out concepts.

    Returns the score and {"real": area, "rebuilt": area}: 0.5 is chance, 1 tells all.
    """
    random = np.random.default_rng(seed)
    plain, shaded = (stickers.table.skin_tone == "").to_numpy(), has_gradient(stickers.table.svg.tolist())
    shown = {}
    for split, num in (("train", num_learned), ("test", num_tested)):
        rows = np.flatnonzero(plain & (stickers.table.split == split).to_numpy())
        rows = np.sort(random.permutation(rows)[:num])
        real = np.asarray(stickers.pictures[rows])
        shown[split] = real, reconstruct_pictures(tokenizer, real)[0], shaded[rows]
    real, rebuilt, label = shown["train"]
    score = fit_shading(np.concatenate([real, rebuilt]), np.r_[label, label])
    real, rebuilt, label = shown["test"]
    return score, {"real": area_under_curve(score(real), label), "rebuilt": area_under_curve(score(rebuilt), label)}


def area_under_curve(scores: Float[np.ndarray, " num_pictures"], hits: Bool[np.ndarray, " num_pictures"]) -> float:
    """How often one of the hits scores higher than one of the others, equal scores half."""
    higher = scores[hits][:, None] - scores[~hits]
    return float((np.sign(higher) / 2 + 0.5).mean())
