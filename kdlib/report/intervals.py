"""The figure of the experiments: numbers with their intervals. See `kdlib.report.figures` for the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from IPython.display import Image as Picture
from matplotlib.figure import Figure

from kdlib.report.figures import COLOURS, _rendered


def intervals(results: dict[str, dict[str, tuple[float, float, float]]], measures: Sequence[str], alt: str,
              xlabel: str = "", joined: bool = False) -> Picture:
    """Numbers with their intervals: results[label][measure] = (value, low, high).

    A panel for each measure, in it a point with a bar from low to high for each label, `joined` by a line where the
    labels are steps of one quantity.
    """
    figure = Figure(figsize=(max(4, 2.4 * len(measures)), 3), layout="constrained")
    for axes, measure in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True):
        values, lows, highs = np.array([row[measure] for row in results.values()], dtype=float).T
        places = np.arange(len(values))
        axes.vlines(places, lows, highs, color=COLOURS[0], linewidth=1.5)
        axes.plot(places, values, "o-" if joined else "o", color=COLOURS[0], linewidth=0.8)
        axes.set_xticks(places, [str(label).replace("_", "\n") for label in results], fontsize="small")
        axes.set(title=measure, xlabel=xlabel, xlim=(-0.5, len(values) - 0.5))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    return _rendered(figure, alt)
