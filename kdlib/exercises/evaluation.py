"""Exercises on measures: distances of sets, intervals, copies."""

from __future__ import annotations

import math

import numpy as np

from kdlib.exercises import Exercise


def frechet(mean_1: np.ndarray, cov_1: np.ndarray, mean_2: np.ndarray, cov_2: np.ndarray) -> float:
    """The trace of (S1 S2)^(1/2) is the sum of the roots of the eigenvalues of S1 S2, which are real and at least 0."""
    roots = np.sqrt(np.clip(np.linalg.eigvals(cov_1 @ cov_2).real, 0, None)).sum()
    return math.fsum((mean_1 - mean_2) ** 2) + float(np.trace(cov_1) + np.trace(cov_2) - 2 * roots)


def share_interval(hits: int, trials: int) -> np.ndarray:
    """Clopper and Pearson: the shares at which so many hits, or so few, are just 2.5% likely; by bisection."""
    at_least = lambda share, least: math.fsum(math.comb(trials, n) * share ** n * (1 - share) ** (trials - n)
                                              for n in range(least, trials + 1))

    def where(rises: float, least: int) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if at_least(middle, least) > rises else (middle, high)
        return low

    return np.array([where(0.025, hits) if hits else 0.0, where(0.975, hits + 1) if hits < trials else 1.0])


def precision(real: np.ndarray, drawn: np.ndarray, k: int) -> float:
    """The share of drawn points that lie within a real point's distance to its k-th nearest other real point."""
    inside = 0
    for point in drawn:
        for row, centre in enumerate(real):
            radius = sorted(math.dist(centre, other) for n, other in enumerate(real) if n != row)[k - 1]
            if math.dist(point, centre) <= radius:
                inside += 1
                break
    return inside / len(drawn)


def colour_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Root mean square difference of two uint8 pictures, 1 being black against white."""
    squares = [((int(x) - int(y)) / 255) ** 2 for x, y in zip(a.ravel(), b.ravel(), strict=True)]
    return math.sqrt(math.fsum(squares) / len(squares))


def share_of_copies(nearest: np.ndarray, of_copies: np.ndarray) -> float:
    """The share that lies within the distance that holds 95% of all known copies from their originals.

    That distance is the quantile as np.quantile has it: between two of them, on a line.
    """
    ordered, place = sorted(of_copies.tolist()), 0.95 * (len(of_copies) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    limit = ordered[below] + (place - below) * (ordered[above] - ordered[below])
    return sum(distance <= limit for distance in nearest.tolist()) / len(nearest)


def paired_gain(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Mean difference of pairs, and the standard error of it."""
    apart = [a - b for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)]
    mean = math.fsum(apart) / len(apart)
    variance = math.fsum((one - mean) ** 2 for one in apart) / (len(apart) - 1)
    return np.array([mean, math.sqrt(variance / len(apart))])


_RANDOM = np.random.default_rng(0)
_draw = lambda *shape: _RANDOM.normal(size=shape)
_cov = lambda width: (lambda root: root @ root.T / width)(_draw(width, 2 * width))
_picture = lambda: _RANDOM.integers(0, 256, (4, 5, 3)).astype(np.uint8)
_BLACK = np.zeros((2, 2, 3), np.uint8)
_pair = lambda: (lambda shared: (shared + 0.1 * _draw(9), shared + 0.1 * _draw(9)))(3 * _draw(9))

EXERCISES = {
    "frechet": Exercise("f(mean_1, cov_1, mean_2, cov_2) -> the Frechet distance of two Gaussians, a number",
                        [(_draw(3), _cov(3), _draw(3), _cov(3)), (np.zeros(2), np.eye(2), np.ones(2), 4 * np.eye(2)),
                         (np.ones(2), np.diag([1.0, 9]), np.ones(2), np.diag([1.0, 9]))], frechet, 1e-5),
    "share_interval": Exercise("f(hits, trials) -> low and high of the exact 95% interval, (2,)",
                               [(0, 10), (3, 10), (10, 10), (29, 100)], share_interval, 1e-5),
    "precision": Exercise("f(real, drawn, k) -> share of drawn points within a real one's k-th neighbour, a number",
                          [(_draw(9, 2), _draw(7, 2) * spread, k) for spread, k in ((1, 1), (1, 3), (3, 2), (2, 1))],
                          precision),
    "colour_distance": Exercise("f(a, b) -> root mean square difference of uint8 pictures, 1 is black on white",
                                [(_picture(), _picture()), (_BLACK, 255 - _BLACK), (_BLACK, _BLACK)], colour_distance),
    "share_of_copies": Exercise("f(nearest, of_copies) -> share of `nearest` within 95% of `of_copies`, a number",
                                [(_RANDOM.gamma(2, 1, 40), _RANDOM.gamma(2, scale, 30)) for scale in (0.3, 0.7, 1.5)],
                                share_of_copies),
    "paired_gain": Exercise("f(ours, theirs) -> mean difference of pairs and its standard error, (2,)",
                            [_pair() for _ in range(3)], paired_gain)}
