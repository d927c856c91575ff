"""How good an edit is, where the artist's own answer is known (see `kdlib.data.edits`).

A source is edited by an instruction; the target is what the same artist drew for it. An edit should be near the target,
and where the artist changed nothing, nothing should change.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, UInt8

from kdlib.evaluation.judge import Judge, verdicts
from kdlib.evaluation.metrics import Interval, bootstrap, share_interval

Pictures = UInt8[np.ndarray, "num_edits height width 3"]
Numbers = Float[np.ndarray, " num_edits"]

CHANGED = 24          # grey levels, in any channel, from which on the artist counts as having changed a pixel
SSIM_PX, SSIM_SIGMA = 11, 1.5  # the window of Wang et al. (2004)
SHARES = ("nearer", "top5")
LOWER_IS_BETTER = ("distance",)


def changed_area(sources: Pictures, targets: Pictures) -> Bool[np.ndarray, "num_edits height width"]:
    """Where the artist changed something, and one pixel around it, as edges are soft."""
    apart = np.abs(sources.astype(int) - targets).max(-1) >= CHANGED
    cross = np.ones((3, 3), np.uint8)
    return np.stack([cv2.dilate(area.astype(np.uint8), cross) for area in apart]).astype(bool)


def psnr_where(pictures: Pictures, others: Pictures, where: Bool[np.ndarray, "num_edits height width"]) -> Numbers:
    """Peak signal-to-noise ratio in dB over the pixels told, at most 78.1; not a number where none is told.

    PIE-Bench's runs over pictures that are zeroed elsewhere, so it gets better the less is looked at; this one doesn't.
    """
    error = ((pictures.astype(np.float64) - others) ** 2).mean(-1)
    return 10 * np.log10(255 ** 2 / np.maximum(mean_where(error, where), 1e-3))


def ssim_where(pictures: Pictures, others: Pictures, where: Bool[np.ndarray, "num_edits height width"]) -> Numbers:
    """Structural similarity (Wang et al., 2004) of the greys, averaged over the pixels told; or not a number.

    Windows reach beyond these: there, both are taken to be the second picture.
    """
    pictures = np.where(where[..., None], pictures, others)
    return mean_where(np.stack([ssim_map(*pair) for pair in zip(pictures, others, strict=True)]), where)


def ssim_map(picture: UInt8[np.ndarray, "height width 3"],
             other: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width"]:
    """SSIM around each pixel: a Gaussian window, K1 = 0.01, K2 = 0.03; pictures are mirrored at their edges."""
    x, y = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64) for image in (picture, other))
    blur = lambda image: cv2.GaussianBlur(image, (SSIM_PX, SSIM_PX), SSIM_SIGMA)
    mean_x, mean_y, c1, c2 = blur(x), blur(y), (0.01 * 255) ** 2, (0.03 * 255) ** 2
    var_x, var_y, both = blur(x * x) - mean_x ** 2, blur(y * y) - mean_y ** 2, blur(x * y) - mean_x * mean_y
    return ((2 * mean_x * mean_y + c1) * (2 * both + c2)
            / ((mean_x ** 2 + mean_y ** 2 + c1) * (var_x + var_y + c2)))


def mean_where(values: Float[np.ndarray, "num_edits height width"],
               where: Bool[np.ndarray, "num_edits height width"]) -> Numbers:
    """Each row's mean over the places told; not a number where there is none."""
    count = where.sum((1, 2))
    return np.where(count > 0, (values * where).sum((1, 2)) / np.maximum(count, 1), np.nan)


def directions(edited: Float[np.ndarray, "num_edits width"], sources: Float[np.ndarray, "num_edits width"],
               targets: Float[np.ndarray, "num_edits width"]) -> Numbers:
    """Cosine of what a method changed and what the artist changed, in features; 0 where one changed nothing."""
    ours, true = (features.astype(np.float64) - sources for features in (edited, targets))
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(true, axis=1)
    return np.where(lengths > 0, (ours * true).sum(1) / np.maximum(lengths, 1e-12), 0.0)


def measure_edits(judge: Judge, edited: Pictures, sources: Pictures, targets: Pictures, concepts: Sequence[str],
                  instructions: Sequence[str]) -> pd.DataFrame:
    """What is measured of each edit, a row each.

    distance   of edit and target in the judge's features    psnr_target  of edit and target, dB
    nearer     is that less than source and target's?        psnr_kept, ssim_kept  of edit and source, where the artist
    top5       is the target's concept among the judge's                           changed nothing
               five?                                         direction    `directions`
    alignment  the judge's cosine of edit and instruction
    """
    found, before, wanted = (judge.features(pictures) for pictures in (edited, sources, targets))
    distance, gap = (np.linalg.norm(features.astype(np.float64) - wanted, axis=1) for features in (found, before))
    said, kept = verdicts(judge, found, concepts, instructions), ~changed_area(sources, targets)
    everywhere = np.ones_like(kept)
    return pd.DataFrame({"distance": distance, "nearer": distance < gap, "top5": said.top5.to_numpy(),
                         "psnr_target": psnr_where(edited, targets, everywhere),
                         "psnr_kept": psnr_where(edited, sources, kept),
                         "ssim_kept": ssim_where(edited, sources, kept),
                         "direction": directions(found, before, wanted), "alignment": said.alignment.to_numpy()})


def summarise(measured: pd.DataFrame, num_draws: int, seed: int) -> dict[str, Interval]:
    """The mean of each column with its 95% interval over edits: exact for shares, bootstrapped for the others.

    Edits of which a measure says nothing are left out of it; a measure that says nothing of any is left out.
    """
    found = {}
    for name in measured:
        values = measured[name].dropna().to_numpy()
        if len(values):
            found[name] = share_interval(values.astype(bool)) if name in SHARES else bootstrap(
                lambda rows, values=values: float(values[rows].mean()), len(values), num_draws, seed)
    return found
