"""Exercises on changing a picture by a text: the mixture, two guidances, what counts as changed (section 3.1)."""

from __future__ import annotations

import math

import numpy as np

from kdlib.exercises import Exercise


def mixed(picture: np.ndarray, neighbour: np.ndarray, area: np.ndarray) -> np.ndarray:
    """I (1 - M) + nn M, pixel by pixel."""
    found = picture.copy()
    for row, column in zip(*np.nonzero(area), strict=True):
        found[row, column] = neighbour[row, column]
    return found


def guided_twice(log_none: np.ndarray, log_picture: np.ndarray, log_both: np.ndarray, picture_scale: float,
                 text_scale: float) -> np.ndarray:
    """p(0) (p(picture) / p(0))^picture_scale (p(both) / p(picture))^text_scale, its sum made 1."""
    weights = [math.exp(none) * (math.exp(picture) / math.exp(none)) ** picture_scale
               * (math.exp(both) / math.exp(picture)) ** text_scale
               for none, picture, both in zip(log_none.tolist(), log_picture.tolist(), log_both.tolist(), strict=True)]
    return np.array([math.log(weight / math.fsum(weights)) for weight in weights])


def nearer(edited: np.ndarray, source: np.ndarray, target: np.ndarray) -> float:
    """Share of edits whose squared distance to the target is below the source's."""
    square = lambda a, b: math.fsum((x - y) ** 2 for x, y in zip(a.tolist(), b.tolist(), strict=True))
    return sum(square(e, t) < square(s, t) for e, s, t in zip(edited, source, target, strict=True)) / len(edited)


def kept_db(edited: np.ndarray, source: np.ndarray, changed: np.ndarray) -> float:
    """PSNR in dB over the pixels that are not changed, of bytes."""
    errors = [(int(e) - int(s)) ** 2 for row, column in zip(*np.nonzero(~changed), strict=True)
              for e, s in zip(edited[row, column].tolist(), source[row, column].tolist(), strict=True)]
    return 10 * math.log10(255 ** 2 / (math.fsum(errors) / len(errors)))


_RANDOM = np.random.default_rng(0)
_bytes = lambda: _RANDOM.integers(0, 256, (3, 4, 3)).astype(np.uint8)
_area = lambda: _RANDOM.random((3, 4)) < 0.4
_log_p = lambda: np.log(_RANDOM.dirichlet(np.ones(5)))
_features = lambda: _RANDOM.normal(size=(9, 4))
_SAME = _features()

EXERCISES = {
    "mixed": Exercise("f(picture, neighbour, area) -> the picture with the neighbour in the area, (height, width, 3); "
                      "area (height, width) bool", [(_bytes(), _bytes(), _area()) for _ in range(2)], mixed),
    "guided_twice": Exercise("f(log_none, log_picture, log_both, picture_scale, text_scale) -> guided log p, (V,); its "
                             "exponentials sum to 1", [(_log_p(), _log_p(), _log_p(), *scales) for scales in
                                                       ((1.0, 1.0), (1.5, 3.0), (0.0, 2.0), (2.0, 0.0))], guided_twice),
    "nearer": Exercise("f(edited, source, target) -> share of edits nearer to their target than the source is; each "
                       "(edits, dim)", [(_features(), _features(), _features()), (_SAME, _SAME, _features()),
                                        (0.5 * _SAME, _SAME, np.zeros((9, 4)))], nearer),
    "kept_db": Exercise("f(edited, source, changed) -> PSNR in dB where nothing was changed, a number; pictures "
                        "(height, width, 3) uint8, changed (height, width) bool",
                        [(_bytes(), _bytes(), _area()), (_bytes(), _bytes(), _area())], kept_db, 1e-4)}
