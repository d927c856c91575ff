"""Distances between sets of pictures, in any network's features, and how sure one can be of them.

Every function takes float arrays (num_pictures, width), one row a picture. With the judge's features the Frechet
distance is "FD-sticker": it is not the FID, whose features are Inception's, and no number of it compares with one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int, UInt8

Features = Float[np.ndarray, "_ width"]  # "_": two sets may hold different numbers of pictures


class Interval(NamedTuple):
    """A number and the ends of its interval."""

    value: float
    low: float
    high: float


class Gaussian(NamedTuple):
    """Mean (width,) and a factor F (rank, width) of the covariance, which is F^T F; float64."""

    mean: Float[np.ndarray, " width"]
    factor: Float[np.ndarray, "rank width"]


# --- Frechet distance ------------------------------------------------------------------------------------------------

def fit_gaussian(features: Features) -> Gaussian:
    """Mean and unbiased covariance of the rows. Raises ValueError for fewer than two rows or a value that is no number.

    The factor is the R of a QR decomposition, so that many pictures take no more room or time later than `width`.
    """
    check_features(features, at_least=2)
    features = features.astype(np.float64)
    mean = features.mean(0)
    return Gaussian(mean, np.linalg.qr(features - mean, mode="r") / np.sqrt(len(features) - 1))


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), the squared Wasserstein-2 distance (Dowson and Landau, 1982).

    Heusel et al. (2017) take it of two sets of pictures. With C = F^T F the last trace is the sum of the singular
    values of F1 F2^T: no matrix root, and exact also where there are fewer pictures than features.
    Symmetric, 0 for equal Gaussians. Raises ValueError for unequal widths.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(f"features are {len(first.mean)} and {len(second.mean)} wide; use one network for both")
    cross = np.linalg.norm(first.factor @ second.factor.T, "nuc")
    spread = (first.factor ** 2).sum() + (second.factor ** 2).sum() - 2 * cross
    return float(((first.mean - second.mean) ** 2).sum() + max(spread, 0.0))


def frechet_bias(features: Features, num_first: int, num_second: int, num_draws: int, seed: int) -> np.ndarray:
    """(num_draws,) Frechet distances between two disjoint random subsets of the rows of one and the same set.

    The true distance is 0, so what comes out is the estimate's bias at these two sizes (Chong and Forsyth, 2020).
    Raises ValueError where the rows are too few for both.
    """
    if num_first + num_second > len(features):
        raise ValueError(f"{len(features)} pictures can't be split into {num_first} and {num_second}; ask for fewer")
    random = np.random.default_rng(seed)
    orders = [random.permutation(len(features)) for _ in range(num_draws)]
    return np.array([frechet_distance(fit_gaussian(features[order[:num_first]]),
                                      fit_gaussian(features[order[num_first:num_first + num_second]]))
                     for order in orders])


# --- kernel distance -------------------------------------------------------------------------------------------------

def cmmd(first: Features, second: Features, bandwidth: float = 10.0) -> float:
    """1000 times the squared maximum mean discrepancy with the kernel exp(-|x - y|^2 / (2 bandwidth^2)).

    Jayasumana et al. (2024) take it of CLIP's features, with this bandwidth and this factor; here it is the unbiased
    estimate, whose expectation does not depend on the numbers of pictures and which may come out below 0.
    Raises ValueError for fewer than two rows, unequal widths, or a bandwidth that is not positive.
    """
    if not bandwidth > 0:
        raise ValueError(f"bandwidth = {bandwidth} must be positive")
    for features in (first, second):
        check_features(features, at_least=2)
    kernel = lambda x, y: np.exp(-distances(x, y) ** 2 / (2 * bandwidth ** 2))
    within = [(kernel(x, x).sum() - len(x)) / (len(x) * (len(x) - 1)) for x in (first, second)]
    return float(1000 * (sum(within) - 2 * kernel(first, second).mean()))


# --- fidelity and diversity, apart -----------------------------------------------------------------------------------

def precision_recall(real: Features, drawn: Features, num_nearest: int) -> dict[str, float]:
    """Precision, recall (Kynkaanniemi et al., 2019), density and coverage (Naeem et al., 2020).

    A picture's ball reaches to its `num_nearest`-th nearest neighbour among the others of its own set.
    precision  share of drawn pictures in the ball of any real one         recall  the same with the roles changed
    density    mean number of real balls that a drawn picture is in, over num_nearest: outliers count less; may pass 1
    coverage   share of real pictures whose ball holds a drawn one
    Recall rests on the drawn pictures' balls, which are wide where these are few: compare it at equal numbers only.
    Raises ValueError where a set has no `num_nearest` others.
    """
    for features in (real, drawn):
        check_features(features, at_least=num_nearest + 1)
    between = distances(drawn, real)
    in_real = between <= ball_radii(real, num_nearest)
    in_drawn = between <= ball_radii(drawn, num_nearest)[:, None]
    return {"precision": float(in_real.any(1).mean()), "recall": float(in_drawn.any(0).mean()),
            "density": float(in_real.sum(1).mean() / num_nearest), "coverage": float(in_real.any(0).mean())}


def ball_radii(features: Float[np.ndarray, "num_pictures width"],
               num_nearest: int) -> Float[np.ndarray, " num_pictures"]:
    """Each row's distance to its `num_nearest`-th nearest other row."""
    apart = distances(features, features)
    np.fill_diagonal(apart, np.inf)
    return np.partition(apart, num_nearest - 1, axis=1)[:, num_nearest - 1]


def distances(first: Float[np.ndarray, "num_pictures width"], second: Float[np.ndarray, "num_others width"]
              ) -> Float[np.ndarray, "num_pictures num_others"]:
    """Euclidean distances of all pairs, in float64; exactly 0 between equal rows."""
    rows = [torch.from_numpy(x.astype(np.float64)) for x in (first, second)]
    return torch.cdist(*rows, compute_mode="donot_use_mm_for_euclid_dist").numpy()


# --- certainty -------------------------------------------------------------------------------------------------------

def share_interval(hits: Bool[np.ndarray, " num_prompts"]) -> Interval:
    """The share of hits among independent prompts with its exact 95% interval (Clopper and Pearson, 1934).

    It holds the true share at least 19 times of 20, however few the prompts; no hits at all leave doubt, too, where
    the bootstrap would say [0, 0]. Raises ValueError for no prompts.
    """
    from scipy.stats import binomtest  # takes two seconds

    if not len(hits):
        raise ValueError("there are no prompts to take a share of; give one hit (True) or miss (False) for each")
    found = binomtest(int(hits.sum()), len(hits))
    return Interval(found.statistic, *map(float, found.proportion_ci(0.95, method="exact")))


def bootstrap(statistic: Callable[[Int[np.ndarray, " num_prompts"]], float], num_prompts: int, num_draws: int,
              seed: int, centred: bool = False) -> Interval:
    """A statistic of all prompts with its 95% percentile interval (Efron, 1979): prompts are drawn with repetition.

    statistic  a number from the rows of prompts to use; it takes whatever belongs to a prompt (several seeds, both
               of two models to compare) along with it
    centred    shifts the resampled values to have the value as their mean. For distances between distributions: a
               resample has only 63% of the pictures, each distance from it is too long, and the plain interval would
               lie beside the value
    Raises ValueError for no prompts or no draws.
    """
    if num_prompts < 1 or num_draws < 1:
        raise ValueError(f"num_prompts = {num_prompts} and num_draws = {num_draws} must be at least 1")
    random = np.random.default_rng(seed)
    value = float(statistic(np.arange(num_prompts)))
    drawn = np.array([statistic(random.integers(0, num_prompts, num_prompts)) for _ in range(num_draws)])
    low, high = np.quantile(drawn + (value - drawn.mean() if centred else 0.0), [0.025, 0.975])
    return Interval(value, float(low), float(high))


def check_features(features: np.ndarray, at_least: int) -> None:
    """Raises ValueError unless there are `at_least` rows, and numbers only."""
    if len(features) < at_least:
        raise ValueError(f"{len(features)} pictures are too few for this; it takes at least {at_least}")
    if not np.isfinite(features).all():
        raise ValueError("features hold values that are no finite numbers; is the judge's model damaged?")


# --- of single pictures and texts ------------------------------------------------------------------------------------

def retrieval_recall(queries: Float[np.ndarray, "num_titles dim"], titles: pd.Series, stickers: pd.DataFrame,
                     vectors: Float[np.ndarray, "num_pictures dim"], at: tuple[int, ...] = (1, 5, 10)) -> pd.DataFrame:
    """Which concept names find a picture of theirs among the best `at` of all pictures.

    queries  unit vectors of the titles                      titles    indexed by concept
    vectors  the pictures' unit vectors                      stickers  what they show: a column concept

    Returns a row for each title: concept, title, one bool column "recall@n" for each n; their means are the recall.
    """
    scores = queries @ vectors.astype(np.float32).T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :max(at)]
    hits = stickers.concept.to_numpy()[best] == titles.index.to_numpy()[:, None]
    found = {f"recall@{n}": hits[:, :n].any(1) for n in at}
    return pd.DataFrame({"concept": titles.index, "title": titles.to_numpy(), **found})


def psnr_db(copies: UInt8[np.ndarray, "num_pictures height width 3"],
            pictures: UInt8[np.ndarray, "num_pictures height width 3"]) -> Float[np.ndarray, " num_pictures"]:
    """Peak signal-to-noise ratio of each copy in dB; that of a perfect one is finite, 78.1."""
    error = ((copies.astype(np.float64) - pictures) ** 2).mean((1, 2, 3))
    return 10 * np.log10(255 ** 2 / np.maximum(error, 1e-3))
