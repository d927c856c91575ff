"""Figures of the notebooks: drawn the same at every run, readable without colour vision, each with a text in its place.

Every function returns an IPython Image (PNG) whose alternative text says what is to be seen.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from IPython.display import Image as Picture
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

matplotlib.rcdefaults()  # a matplotlibrc of the user's would change every figure

# Okabe and Ito's colours, told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":") * 2
DPI = 144
GAP_PX = 4


def as_picture(image: Image.Image, alt: str) -> Picture:
    """A PIL picture as a notebook's output, with its alternative text."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return Picture(buffer.getvalue(), format="png", alt=alt)


def _rendered(figure: Figure, alt: str) -> Picture:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": None})
    return Picture(buffer.getvalue(), format="png", width=int(figure.get_figwidth() * DPI / 2), alt=alt)


def _axes(width: float = 7, height: float = 3.2):
    figure = Figure(figsize=(width, height))
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    return figure, axes


def curves(table: pd.DataFrame, x: str, ys: Sequence[str], alt: str, ylabel: str = "", log: bool = False) -> Picture:
    """Columns `ys` of a table as lines over column `x`; rows where a column is empty are left out of its line."""
    figure, axes = _axes()
    for colour, style, name in zip(COLOURS, LINES, ys, strict=False):
        rows = table[[x, name]].dropna()
        axes.plot(rows[x], rows[name], style, color=colour, label=name, linewidth=1.5)
    axes.set(xlabel=x, ylabel=ylabel or (ys[0] if len(ys) == 1 else ""), yscale="log" if log else "linear")
    if len(ys) > 1:
        axes.legend(frameon=False)
    return _rendered(figure, alt)


def bars(counts: pd.Series, alt: str, xlabel: str = "") -> Picture:
    """Numbers of at least 0 as horizontal bars with the series' index as labels, from top to bottom."""
    figure, axes = _axes(height=0.6 + 0.28 * len(counts))
    drawn = axes.barh([str(label) for label in counts.index], counts.to_numpy(), color=COLOURS[0])
    axes.bar_label(drawn, [f"{value:,.3g}" if isinstance(value, float) else f"{value:,}" for value in counts.tolist()],
                   padding=3)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set(xlabel=xlabel, xlim=(0, 1.1 * counts.max() or 1))
    return _rendered(figure, alt)


def histograms(samples: dict[str, np.ndarray], alt: str, xlabel: str, num_bins: int = 60) -> Picture:
    """Distributions of several samples over the same bins, each of area 1, as outlines."""
    figure, axes = _axes()
    edges = np.histogram_bin_edges(np.concatenate([np.ravel(values) for values in samples.values()]), num_bins)
    for colour, style, (name, values) in zip(COLOURS, LINES, samples.items(), strict=False):
        heights = np.histogram(values, edges, density=True)[0]
        axes.stairs(heights, edges, color=colour, linestyle=style, label=name, linewidth=1.5)
    axes.set(xlabel=xlabel, ylabel="density")
    axes.legend(frameon=False)
    return _rendered(figure, alt)


def _font(size_px: int) -> ImageFont.FreeTypeFont:
    from matplotlib import font_manager

    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size_px)


def _fitting(text: str, font: ImageFont.FreeTypeFont, width_px: int) -> str:
    """The text on one line, or its beginning and an ellipsis where it is too wide."""
    text = " ".join(text.split())
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + "…") > width_px:
        text = text[:-1]
    return text + "…"


def sheet(rows: Sequence[Sequence[Image.Image]], row_titles: Sequence[str] = (), column_titles: Sequence[str] = (),
          size_px: int = 64, title_px: int = 200) -> Image.Image:
    """Rows of pictures as one picture: titles of rows to the left, of columns above; pictures scaled to size_px."""
    left = title_px if row_titles else 0
    top = 20 if column_titles else 0
    step = size_px + GAP_PX
    page = Image.new("RGB", (left + step * max(map(len, rows)), top + step * len(rows)), "white")
    draw, font = ImageDraw.Draw(page), _font(13)
    for column, title in enumerate(column_titles):
        draw.text((left + column * step, 2), _fitting(title, _font(10), size_px), "black", _font(10))
    for number, row in enumerate(rows):
        if row_titles:
            middle = top + number * step + size_px // 2
            draw.text((2, middle), _fitting(row_titles[number], font, title_px - 8), "black", font, anchor="lm")
        for column, image in enumerate(row):
            scaled = image.convert("RGB").resize((size_px, size_px), Image.Resampling.LANCZOS)
            page.paste(scaled, (left + column * step, top + number * step))
    return page


def grid(images: Sequence[Image.Image], alt: str, columns: int = 12, size_px: int = 64) -> Picture:
    """Pictures one after another in rows of `columns`."""
    rows = [images[start:start + columns] for start in range(0, len(images), columns)]
    return as_picture(sheet(rows, size_px=size_px), alt)


def from_array(pictures: np.ndarray) -> list[Image.Image]:
    """uint8 (n, height, width, 3) as PIL pictures."""
    return [Image.fromarray(picture) for picture in pictures]


def code_maps(codes: np.ndarray, num_codes: int) -> list[Image.Image]:
    """Codes (n, positions), positions a square, as small pictures: a colour for each code, white for [MASK]."""
    import matplotlib

    codes = np.asarray(codes)
    side = int(round(codes.shape[1] ** 0.5))
    scattered = (codes * 0.618034) % 1  # neighbouring codes get unlike colours
    colours = (matplotlib.colormaps["turbo"](scattered)[..., :3] * 255).astype(np.uint8)
    colours[codes == num_codes] = 255
    return [Image.fromarray(row.reshape(side, side, 3)).resize((64, 64), Image.Resampling.NEAREST) for row in colours]


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
