"""Exercises on points and their neighbours (sections 3 and 6.3, Fig. 11)."""

from __future__ import annotations

import math

import numpy as np

from kdlib.exercises import Exercise


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The cosine of the angle between two vectors of any length."""
    dot = lambda left, right: math.fsum(x * y for x, y in zip(left.tolist(), right.tolist(), strict=True))
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def nearest(query: np.ndarray, database: np.ndarray, k: int) -> np.ndarray:
    """Rows of the k largest cosines, the largest first."""
    return np.array(sorted(range(len(database)), key=lambda row: -cosine(query, database[row]))[:k])


def without_itself(row: int, database: np.ndarray, k: int) -> np.ndarray:
    """The k nearest other rows of a row of the database."""
    return np.array([found for found in nearest(database[row], database, len(database)) if found != row][:k])


def nearest_allowed(query: np.ndarray, database: np.ndarray, allowed: np.ndarray, k: int) -> np.ndarray:
    """The k nearest of the rows where `allowed` is True, by their numbers in the whole database."""
    return np.array([row for row in nearest(query, database, len(database)) if allowed[row]][:k])


def ridge(x: np.ndarray, y: np.ndarray, strength: float) -> np.ndarray:
    """Weights of least squares, with rows added to the data that pull each weight to 0."""
    pull = math.sqrt(strength) * np.eye(x.shape[1])
    return np.linalg.lstsq(np.vstack([x, pull]), np.concatenate([y, np.zeros(x.shape[1])]), rcond=None)[0]


def angle(a: np.ndarray, b: np.ndarray) -> float:
    """In degrees."""
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine(a, b)))))


def cone_holds(picture: np.ndarray, text: np.ndarray, neighbours: np.ndarray) -> float:
    """1 if the text lies nearer to the picture than the farthest of the picture's neighbours, else 0."""
    return float(angle(picture, text) < max(angle(picture, neighbour) for neighbour in neighbours))


def modality_gap(pictures: np.ndarray, texts: np.ndarray) -> float:
    """The length of the difference of the two clouds' means."""
    columns = range(pictures.shape[1])
    return math.hypot(*(math.fsum(pictures[:, c]) / len(pictures) - math.fsum(texts[:, c]) / len(texts)
                        for c in columns))


_RANDOM = np.random.default_rng(0)
_draw = lambda *shape: _RANDOM.normal(size=shape)
_TWINS = _draw(12, 4) * _RANDOM.uniform(0.2, 3, (12, 1))
_TWINS[2] = _TWINS[7]  # one picture that lies there twice
_NEAR = _draw(6, 5) + 2

EXERCISES = {
    "nearest": Exercise("f(query, database, k) -> rows of the k largest cosines, largest first, (k,)",
                        [(_draw(4), _draw(9, 4) * _RANDOM.uniform(0.2, 3, (9, 1)), k) for k in (1, 3, 9)], nearest),
    "without_itself": Exercise("f(row, database, k) -> the k nearest other rows, nearest first, (k,)",
                               [(row, _TWINS, k) for row, k in ((0, 3), (2, 1), (7, 1), (11, 5))], without_itself),
    "nearest_allowed": Exercise(
        "f(query, database, allowed, k) -> rows, numbered in the whole database, nearest first, (k,)",
        [(_draw(4), _draw(9, 4) * _RANDOM.uniform(0.2, 3, (9, 1)), np.arange(9) % every != 1, k)
         for every, k in ((2, 3), (3, 1), (4, 6))], nearest_allowed),
    "ridge": Exercise("f(x, y, strength) -> weights w that make |x w - y|^2 + strength |w|^2 least, (columns,)",
                      [(_draw(8, 3), _draw(8), strength) for strength in (0.1, 1.0, 10.0)]
                      + [(_draw(2, 4), _draw(2), 0.5)], ridge),
    "angle": Exercise("f(a, b) -> the angle between two vectors of any length, in degrees",
                      [(_draw(5), 3 * _draw(5)), (np.array([1.0, 0]), np.array([0, 2.0])),
                       (np.array([0.3, 0.1, 0.7]),) * 2, (np.array([1.0, 0]), np.array([-3.0, 0.1]))], angle, 1e-4),
    "cone_holds": Exercise("f(picture, text, neighbours) -> 1 if the cone of the neighbours holds the text, else 0",
                           [(_NEAR[0], text, _NEAR[1:]) for text in (
                               _NEAR[0] + 0.1, -_NEAR[0], _NEAR[0] * np.array([3, 1, 1, 1, 0.1]), 4 * _NEAR[0],
                               0.01 * _NEAR[2], _draw(5))], cone_holds),
    "modality_gap": Exercise("f(pictures, texts) -> length of the difference of their means, a number",
                             [(_draw(6, 3), _draw(6, 3) + 1), (_draw(4, 2), _draw(7, 2)), (np.ones((3, 2)),) * 2],
                             modality_gap)}
