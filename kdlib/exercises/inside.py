"""Exercises on what goes on inside the network: attention, entropy, the way from one prompt to another."""

from __future__ import annotations

import math

import numpy as np

from kdlib.exercises import Exercise


def attention(q: np.ndarray, k: np.ndarray) -> np.ndarray:
    """softmax(q k' / sqrt(width)), entry by entry."""
    rows = []
    for query in q.tolist():
        weights = [math.exp(math.fsum(a * b for a, b in zip(query, key, strict=True)) / math.sqrt(len(query)))
                   for key in k.tolist()]
        rows.append([weight / math.fsum(weights) for weight in weights])
    return np.array(rows)


def entropy(p: np.ndarray) -> np.ndarray:
    """Of each row, in nats; a code of probability 0 adds nothing."""
    return np.array([math.fsum(-value * math.log(value) for value in row if value > 0) for row in p.tolist()])


def slerp(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """From one unit vector to another on the great circle: a turned by its share of the angle towards b."""
    straight = float(a @ b)
    aside = b - straight * a
    aside = aside / math.sqrt(float(aside @ aside))
    turn = share * math.acos(straight)
    return math.cos(turn) * a + math.sin(turn) * aside


_RANDOM = np.random.default_rng(0)
_draw = lambda *shape: _RANDOM.normal(size=shape)
_unit = lambda width: (lambda vector: vector / np.linalg.norm(vector))(_draw(width))

EXERCISES = {
    "attention": Exercise("f(q, k) -> (positions, tokens), the rows of which sum to 1; q (positions, width), "
                          "k (tokens, width)", [(_draw(5, 4), _draw(3, 4)), (_draw(2, 9), np.zeros((4, 9))),
                                                (3 * _draw(4, 2), _draw(7, 2))], attention),
    "entropy": Exercise("f(p) -> entropy of each row in nats, (positions,)",
                        [(_RANDOM.dirichlet(np.ones(5), 4),), (np.array([[1.0, 0, 0], [0.5, 0, 0.5]]),),
                         (np.full((2, 8), 1 / 8),)], entropy),
    "slerp": Exercise("f(a, b, share) -> the unit vector at that share of the way from a to b, (dim,)",
                      [(_unit(5), _unit(5), share) for share in (0.0, 0.25, 0.5, 1.0)], slerp)}
