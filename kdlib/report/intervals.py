"""The figures of the experiments: numbers with their intervals, and maps. See `kdlib.report.figures` for the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from IPython.display import Image as Picture
from matplotlib.figure import Figure

from kdlib.report.figures import COLOURS, LINES, _rendered


def intervals(results: dict[str, dict[str, tuple[float, float, float]]], measures: Sequence[str], alt: str,
              xlabel: str = "", joined: bool = False) -> Picture:
    """Numbers with their intervals: results[label][measure] = (value, low, high).

    A panel for each measure, in it a point with a bar from low to high for each label, `joined` by a line where the
    labels are steps of one quantity.
    """
    return interval_lines({"": results}, measures, alt, xlabel, joined)


def interval_lines(series: dict[str, dict[str, dict[str, tuple[float, float, float]]]], measures: Sequence[str],
                   alt: str, xlabel: str = "", joined: bool = True) -> Picture:
    """Several results of the same labels side by side in each panel: series[name] is what `intervals` takes."""
    panel = max(2.4, 0.42 * max(map(len, series.values())))
    figure = Figure(figsize=(max(4, panel * len(measures)), 3), layout="constrained")
    for axes, measure in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True):
        for number, (name, results) in enumerate(series.items()):
            values, lows, highs = np.array([row[measure] for row in results.values()], dtype=float).T
            places = np.arange(len(values)) + 0.2 * (number - (len(series) - 1) / 2)
            axes.vlines(places, lows, highs, color=COLOURS[number], linewidth=1.5)
            style = "osD^v"[number] + (LINES[number] if joined else "")
            axes.plot(places, values, style, color=COLOURS[number], linewidth=0.8, label=name)
        labels = [str(label).replace("_", "\n") for label in results]
        axes.set_xticks(np.arange(len(labels)), labels, fontsize="small")
        axes.set(title=measure, xlabel=xlabel, xlim=(-0.5, len(labels) - 0.5))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    if len(series) > 1:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(series), frameon=False)
    return _rendered(figure, alt)


def heatmaps(tables: dict[str, pd.DataFrame], alt: str) -> Picture:
    """A panel for each table of numbers: rows and columns as they stand there, the number in each cell."""
    figure = Figure(figsize=(3.2 * len(tables), 3), layout="constrained")
    for axes, (name, table) in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables.items(), strict=True):
        values = table.to_numpy(float)
        middle = (values.min() + values.max()) / 2
        axes.imshow(values, cmap="cividis", aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            axes.text(column, row, f"{value:.3g}", color="black" if value > middle else "white", ha="center",
                      va="center", fontsize="small")
        axes.set_xticks(range(len(table.columns)), table.columns)
        axes.set_yticks(range(len(table.index)), table.index)
        axes.set(title=name, xlabel=table.columns.name, ylabel=table.index.name)
    return _rendered(figure, alt)
