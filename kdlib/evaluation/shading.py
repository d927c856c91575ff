"""A second score to filter a database by (the paper's Fig. 9): from flat drawing to shaded rendering.

A small classifier, learned here: logistic regression on how much the colours change between neighbouring places. It
needs no weights, no network and neither encoder nor judge, so it can't favour what a generator is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

STEPS = (0, 1, 3, 6, 12, 24, 48, 96, 256)  # edges of the bins of change, in levels of 256
SCALES = (1, 2, 4)  # sides of the squares of pixels that are averaged first: noise fades, a gradient grows
WHITE = 250  # what is lighter in all channels is background
BATCH = 256
PENALTY = 1.0  # of half the squared weights, beside the sum over all pictures


class Shading(NamedTuple):
    """The log-odds that a drawing is shaded, an affine function of its standardised `changes`."""

    mean: Float[np.ndarray, " num_features"]
    deviation: Float[np.ndarray, " num_features"]
    weight: Float[np.ndarray, " num_features"]
    bias: float

    def __call__(self, pictures: UInt8[np.ndarray, "num_pictures height width 3"]
                 ) -> Float[np.ndarray, " num_pictures"]:
        """The scores of pictures: above 0 rather shaded, below 0 rather flat."""
        return (changes(pictures) - self.mean) / self.deviation @ self.weight + self.bias


def has_gradient(svgs: Sequence[str]) -> Bool[np.ndarray, " num_drawings"]:
    """Which drawings their own vectors fill with gradients of colour: what is learned as shaded."""
    return np.array(["Gradient" in svg for svg in svgs], dtype=bool)


def fit_shading(pictures: UInt8[np.ndarray, "num_pictures height width 3"],
                shaded: Bool[np.ndarray, " num_pictures"]) -> Shading:
    """Learns the score from pictures, both kinds counting equally, however many there are of each.

    Raises ValueError where one kind is missing.
    """
    from scipy.optimize import minimize  # takes as long as all else here

    if not 0 < shaded.sum() < len(shaded):
        raise ValueError(f"{int(shaded.sum())} of {len(shaded)} pictures are shaded; give some of both kinds")
    features = changes(pictures)
    mean, deviation = features.mean(0), features.std(0) + 1e-6
    rows, sign = np.c_[(features - mean) / deviation, np.ones(len(features))], np.where(shaded, 1.0, -1.0)
    count = len(shaded) / 2 / np.where(shaded, shaded.sum(), (~shaded).sum())

    def loss(weight):
        margin = sign * (rows @ weight)
        slope = -count * sign / (1 + np.exp(np.clip(margin, -50, 50)))
        penalty = PENALTY * np.r_[weight[:-1], 0]
        return (count * np.logaddexp(0, -margin)).sum() + penalty @ weight / 2, slope @ rows + penalty

    weight = minimize(loss, np.zeros(rows.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 1000}).x
    return Shading(mean, deviation, weight[:-1], float(weight[-1]))


def changes(pictures: UInt8[np.ndarray, "num_pictures height width 3"]
            ) -> Float[np.ndarray, "num_pictures num_features"]:
    """How much colour changes from one place to the next, as shares: a histogram for each of SCALES, side by side.

    A change is the largest difference over the channels between two squares side by side or one above the other, the
    background, where both are white, left out. Flat areas change by 0, outlines by much, gradients by a little.
    """
    chunks = [np.concatenate([changes_at(pictures[start:start + BATCH], scale) for scale in SCALES], axis=1)
              for start in range(0, len(pictures), BATCH)]
    return np.concatenate(chunks) if chunks else np.empty((0, len(SCALES) * (len(STEPS) - 1)))


def changes_at(pictures: UInt8[np.ndarray, "batch height width 3"], scale: int) -> Float[np.ndarray, "batch num_bins"]:
    """The histogram of one scale; zeros for a picture that is all white."""
    count, height, width = len(pictures), pictures.shape[1] // scale, pictures.shape[2] // scale
    squares = pictures[:, :height * scale, :width * scale].reshape(count, height, scale, width, scale, 3)
    means = squares.mean((2, 4), dtype=np.float32)
    white = (means >= WHITE).all(-1)
    change, drawn = [], []
    for here, there in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[:, :, 1:], np.s_[:, :, :-1])):
        change.append(np.abs(means[here] - means[there]).max(-1).reshape(count, -1))
        drawn.append(~(white[here] & white[there]).reshape(count, -1))
    change, drawn = np.concatenate(change, axis=1), np.concatenate(drawn, axis=1)
    bins = np.digitize(change, STEPS[1:-1])
    found = np.stack([(drawn & (bins == number)).sum(1) for number in range(len(STEPS) - 1)], axis=1)
    return found / np.maximum(drawn.sum(1, keepdims=True), 1)
