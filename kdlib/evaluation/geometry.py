"""Where points lie: angles between embeddings, the gap between two clouds of them, pictures that are nearly others."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8

from kdlib.evaluation.metrics import check_features


def angles(first: Float[np.ndarray, "*rows width"], second: Float[np.ndarray, "*rows width"]
           ) -> Float[np.ndarray, "*rows"]:
    """Angles between unit vectors, row by row, in degrees."""
    return np.degrees(np.arccos(np.clip((first.astype(np.float64) * second).sum(-1), -1, 1)))


def modality_gap(first: Float[np.ndarray, "num_pairs width"], second: Float[np.ndarray, "num_pairs width"]
                 ) -> Callable[[Int[np.ndarray, " num_rows"]], float]:
    """The length of the mean difference of paired rows (Liang et al., 2022), as `bootstrap` wants it.

    Noise alone gives a mean of few differences a length, so its square is estimated without bias: from the products of
    two different pairs. A pair that was drawn twice doesn't meet itself, and what comes out below 0 counts as 0.
    Raises ValueError for fewer than two pairs.
    """
    check_features(first, at_least=2)
    apart = first.astype(np.float64) - second
    own = (apart ** 2).sum(1)

    def statistic(rows: Int[np.ndarray, " num_rows"]) -> float:
        counts = np.bincount(rows, minlength=len(apart)).astype(np.float64)
        products = ((counts @ apart) ** 2).sum() - counts ** 2 @ own
        return float(np.sqrt(max(products, 0.0) / max(len(rows) ** 2 - counts @ counts, 1.0)))

    return statistic


def told_apart(first: Float[np.ndarray, "num_pairs width"], second: Float[np.ndarray, "num_pairs width"],
               num_folds: int = 5, ridge: float = 0.1) -> Float[np.ndarray, " num_pairs"]:
    """How much of each pair a linear classifier puts on the right side: 0, 0.5 or 1; a mean of 0.5 is a guess.

    The classifier is ridge regression of +1 (first) and -1 (second), fitted to the pairs of all other folds. Pair i is
    in fold i mod num_folds. Raises ValueError for fewer pairs than folds.
    """
    check_features(first, at_least=num_folds)
    fold, right = np.arange(len(first)) % num_folds, np.empty(len(first))
    for held in range(num_folds):
        learned = np.concatenate([first[fold != held], second[fold != held]]).astype(np.float64)
        centre, sign = learned.mean(0), np.repeat([1.0, -1.0], len(learned) // 2)
        learned = learned - centre
        normal = np.linalg.solve(learned.T @ learned + ridge * np.eye(learned.shape[1]), learned.T @ sign)
        sides = [(rows[fold == held] - centre) @ normal for rows in (first, second)]
        right[fold == held] = ((sides[0] > 0).astype(float) + (sides[1] < 0)) / 2
    return right


def pixel_distances(pictures: UInt8[np.ndarray, "num_pictures height width 3"],
                    others: UInt8[np.ndarray, "num_others other_height other_width 3"], max_shift_px: int = 1,
                    size_px: int = 32) -> Float[np.ndarray, "num_pictures num_others"]:
    """Root mean square differences of pixels (of 1 = white) of all pairs, each at its best shift; to about 0.001.

    Pictures are made `size_px` small, and shifted there by up to `max_shift_px` on white, both ways.
    """
    shrink = lambda x: F.interpolate(torch.from_numpy(x).permute(0, 3, 1, 2) / 255, size=(size_px, size_px),
                                     mode="area")
    padded, fixed = F.pad(shrink(pictures), [max_shift_px] * 4, value=1.0), shrink(others).flatten(1)
    shifts = itertools.product(range(2 * max_shift_px + 1), repeat=2)
    found = [torch.cdist(padded[:, :, down:down + size_px, right:right + size_px].flatten(1), fixed)
             for down, right in shifts]
    return (torch.stack(found).amin(0) / fixed.shape[1] ** 0.5).numpy()
