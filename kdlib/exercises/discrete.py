"""Exercises on the discrete process (section 3), for a vocabulary so small that everything can be enumerated.

Matrices are (V+1, V+1), a row for each state that is reached, a column for each that is left; [MASK] is the last. So
the paper's v(x_n)' Q_n v(x_(n-1)) is Q[x_n, x_(n-1)].
"""

from __future__ import annotations

import math

import numpy as np

from kdlib.exercises import Exercise


def transition_matrix(keep: float, uniform: float, num_codes: int) -> np.ndarray:
    """Q of one step, entry by entry; what is neither kept nor replaced is masked."""
    matrix = np.zeros((num_codes + 1, num_codes + 1))
    for left in range(num_codes):
        for reached in range(num_codes):
            matrix[reached, left] = uniform / num_codes + (keep if reached == left else 0)
        matrix[num_codes, left] = 1 - keep - uniform
    matrix[num_codes, num_codes] = 1
    return matrix


def posterior(x_n: int, x_0: int, step: np.ndarray, before: np.ndarray) -> np.ndarray:
    """q(x_(n-1) | x_n, x_0): of all pairs (x_(n-1), x_n) that x_0 may lead to, the share of each with this x_n."""
    states = range(len(step))
    joint = {(middle, last): before[middle, x_0] * step[last, middle] for middle in states for last in states}
    seen = math.fsum(chance for (_, last), chance in joint.items() if last == x_n)
    return np.array([joint[middle, x_n] / seen for middle in states])


def bound_term(q: np.ndarray, p: np.ndarray) -> float:
    """D_KL(q || p) in nats, term by term; a term of q = 0 is 0."""
    return math.fsum(a * math.log(a / b) for a, b in zip(q.tolist(), p.tolist(), strict=True) if a > 0)


_STEP, _BEFORE = transition_matrix(0.7, 0.1, 3), transition_matrix(0.5, 0.2, 3)
_RANDOM = np.random.default_rng(0)

EXERCISES = {
    "transition_matrix": Exercise(
        "f(keep, uniform, num_codes) -> Q of one step, (V+1, V+1): rows reached, columns left, [MASK] last",
        [(0.7, 0.1, 3), (0.9, 0.0, 2), (0.2, 0.5, 4), (1.0, 0.0, 3)], transition_matrix),
    "posterior": Exercise(
        "f(x_n, x_0, step, before) -> q(x_(n-1) | x_n, x_0), (V+1,); step is Q_n, before Q_(n-1) .. Q_1",
        [(x_n, x_0, _STEP, _BEFORE) for x_n in range(4) for x_0 in range(3)], posterior),
    "bound_term": Exercise(
        "f(q, p) -> D_KL(q || p) in nats, a number",
        [*((_RANDOM.dirichlet(np.ones(5)), _RANDOM.dirichlet(np.ones(5))) for _ in range(3)),
         (np.array([0.25, 0.0, 0.75]), np.array([0.5, 0.25, 0.25])), (np.ones(1), np.ones(1))], bound_term)}
