"""Exercises on the continuous process: x_t = alpha_t x_0 + sigma_t epsilon."""

from __future__ import annotations

import math

import numpy as np

from kdlib.exercises import Exercise


def noised(x_0: np.ndarray, epsilon: np.ndarray, alpha: float) -> np.ndarray:
    """x_t of a process that keeps the variance, number by number."""
    pairs = zip(x_0.ravel().tolist(), epsilon.ravel().tolist(), strict=True)
    return np.array([alpha * a + math.sqrt(1 - alpha * alpha) * b for a, b in pairs]).reshape(x_0.shape)


def gaussian_denoiser(x_t: float, alpha: float, sigma: float, mean: float, deviation: float) -> float:
    """E[x_0 | x_t] for x_0 of a normal distribution, by integrating over a fine grid of x_0."""
    grid = np.linspace(mean - 12 * deviation, mean + 12 * deviation, 200_001)
    log_weight = -((grid - mean) / deviation) ** 2 / 2 - ((x_t - alpha * grid) / sigma) ** 2 / 2
    weight = np.exp(log_weight - log_weight.max())
    return float((grid * weight).sum() / weight.sum())


def ddim_step(x_t: np.ndarray, x_0: np.ndarray, alpha_t: float, alpha_s: float) -> np.ndarray:
    """The noise that leads from x_0 to x_t at t, and the point to which it leads at s."""
    epsilon = [(b - alpha_t * a) / math.sqrt(1 - alpha_t ** 2) for a, b in zip(x_0, x_t, strict=True)]
    return np.array([alpha_s * a + math.sqrt(1 - alpha_s ** 2) * e for a, e in zip(x_0, epsilon, strict=True)])


_RANDOM = np.random.default_rng(0)
_draw = lambda *shape: _RANDOM.normal(size=shape)

EXERCISES = {
    "noised": Exercise("f(x_0, epsilon, alpha) -> x_t, with alpha^2 + sigma^2 = 1, an array like x_0",
                       [(_draw(5, 2), _draw(5, 2), alpha) for alpha in (1.0, 0.8, 0.3, 0.0)], noised),
    "gaussian_denoiser": Exercise(
        "f(x_t, alpha, sigma, mean, deviation) -> E[x_0 | x_t] for x_0 ~ Normal(mean, deviation^2), a number",
        [(0.7, 0.9, 0.5, 0.0, 1.0), (-1.5, 0.4, 0.9, 2.0, 0.5), (3.0, 0.99, 0.1, 1.0, 2.0),
         (0.2, 0.05, 1.0, -1.0, 0.3)],
        gaussian_denoiser, 1e-4),
    "ddim_step": Exercise("f(x_t, x_0, alpha_t, alpha_s) -> x_s with the same noise, (n,)",
                          [(_draw(4), _draw(4), t, s) for t, s in ((0.3, 0.6), (0.0, 0.5), (0.9, 1.0), (0.5, 0.5))],
                          ddim_step)}
