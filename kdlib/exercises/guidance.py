"""Exercises on what is done with a prediction: guidance and truncation (section 6.5)."""

from __future__ import annotations

import math

import numpy as np

from kdlib.exercises import Exercise


def guided(log_given: np.ndarray, log_null: np.ndarray, scale: float) -> np.ndarray:
    """log p null^(1 - scale) given^scale, its sum made 1: the same as the extrapolation of logarithms."""
    weights = [math.exp(null) ** (1 - scale) * math.exp(given) ** scale
               for given, null in zip(log_given.tolist(), log_null.tolist(), strict=True)]
    return np.array([math.log(weight / math.fsum(weights)) for weight in weights])


def truncated(p: np.ndarray, rate: float) -> np.ndarray:
    """Codes are taken in the order of their probability until they hold at least `rate`."""
    kept, mass = [], 0.0
    for code in sorted(range(len(p)), key=lambda code: -p[code]):
        if mass >= rate:
            break
        kept.append(code)
        mass += float(p[code])
    return np.array([p[code] / mass if code in kept else 0.0 for code in range(len(p))])


def two_codes(given: float, null: float, scale: float) -> float:
    """What guidance makes of the first of two codes: odds, each raised to its power and multiplied."""
    odds = (null / (1 - null)) ** (1 - scale) * (given / (1 - given)) ** scale
    return odds / (1 + odds)


_RANDOM = np.random.default_rng(0)
_draw = lambda codes: _RANDOM.dirichlet(np.ones(codes))

EXERCISES = {
    "guided": Exercise("f(log_given, log_null, scale) -> guided log p, (V,); its exponentials sum to 1",
                       [(np.log(_draw(6)), np.log(_draw(6)), scale) for scale in (1.0, 0.0, 2.0, 8.0)], guided),
    "truncated": Exercise("f(p, rate) -> p of the most probable codes that hold at least rate, the rest 0, (V,)",
                          [(np.array([0.125, 0.5, 0.25, 0.125]), rate) for rate in (0.3, 0.5, 0.6, 0.75, 1.0)]
                          + [(_draw(7), 0.86), (_draw(7), 0.01)], truncated),
    "two_codes": Exercise("f(given, null, scale) -> probability of the first of two codes after guidance, a number",
                          [(0.6, 0.5, 1.0), (0.6, 0.5, 8.0), (0.9, 0.95, 3.0), (0.2, 0.4, 0.0), (0.3, 0.1, -1.0)],
                          two_codes)}
