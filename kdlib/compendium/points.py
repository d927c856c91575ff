"""Figures of points in the plane."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from IPython.display import Image as Picture
from jaxtyping import Float
from matplotlib.figure import Figure

from kdlib.compendium.figures import COLOURS, _rendered


def point_panels(panels: Mapping[str, Float[np.ndarray, "points 2"]], alt: str, limit: float,
                 marks: Float[np.ndarray, "marks 2"] | None = None) -> Picture:
    """A square panel from -limit to limit for each cloud of points, five in a row; `marks` as crosses in all."""
    columns = min(5, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(1.9 * columns, 2.1 * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (name, points) in zip(places, panels.items(), strict=False):
        axes.scatter(*points.T, s=2, color=COLOURS[0], alpha=0.4, linewidths=0)
        if marks is not None:
            axes.plot(*marks.T, "+", color=COLOURS[1])
        axes.set(title=name, xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])
    for axes in list(places)[len(panels):]:
        axes.set_visible(False)
    return _rendered(figure, alt)
