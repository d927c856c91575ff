"""The conditioned block of the discrete network as a drawing with shapes, and code beside a drawing.

Lines and letters take the page's own colour, so that both are readable on light and dark pages.
"""

from __future__ import annotations

import html

from IPython.display import HTML
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

STYLE = """
.kd-beside { display: grid; grid-template-columns: minmax(0, 1.15fr) minmax(0, 1fr); gap: 1.5em; align-items: start }
.bd-content .kd-beside > div, .kd-beside > div { margin: 0; font: 11px/1.5 monospace; white-space: pre-wrap;
  overflow-wrap: anywhere }
.kd-beside > svg { width: 100%; max-width: 400px; height: auto }
@media (max-width: 40em) { .kd-beside { grid-template-columns: minmax(0, 1fr) } }
.bd-content .cell_output .text_html:has(.kd-beside) { background: none !important; color: inherit !important }
""".strip()
LAYERS = ("self-attention", "cross-attention", "feed-forward")
MIDDLE, LEFT, TOP, STEP = 250, 12, 70, 180


def _text(x: int, y: int, words: str, anchor: str = "middle", size: int = 14, more: str = "") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" {more}>{html.escape(words)}</text>'


def _box(x: int, y: int, width: int, height: int, words: str, more: str = "") -> str:
    return (f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="currentColor" fill-opacity=".07" '
            f'stroke="currentColor" {more}/>' + _text(x + width // 2, y + height // 2 + 5, words))


def _line(*points: tuple[int, int], arrow: bool = True, more: str = "") -> str:
    path = " ".join(f"{x},{y}" for x, y in points)
    end = 'marker-end="url(#kd-arrow)"' if arrow else ""
    return f'<polyline points="{path}" fill="none" stroke="currentColor" {end} {more}/>'


def _layer(number: int, name: str, positions: int, width: int, hidden: int, tokens: int, context_dim: int) -> str:
    """Normalise, shift and scale; the layer; its gate; added to what came in."""
    y = TOP + STEP * number
    inner = {"self-attention": f"{positions} x {positions} weights",
             "cross-attention": f"{positions} x {tokens} weights",
             "feed-forward": f"{width} → {hidden} → {width}"}[name]
    parts = [
        _line((MIDDLE, y - 22), (MIDDLE, y + 6)), _box(MIDDLE - 95, y + 8, 190, 26, "norm · (1+scale) + shift"),
        _line((MIDDLE, y + 34), (MIDDLE, y + 52)),
        _box(MIDDLE - 95, y + 54, 190, 42, "", 'stroke-width="2"'),
        _text(MIDDLE, y + 72, name, more='font-weight="bold"'), _text(MIDDLE, y + 89, inner, size=12),
        _line((MIDDLE, y + 96), (MIDDLE, y + 110)), _box(MIDDLE - 35, y + 112, 70, 24, "· gate"),
        _line((MIDDLE, y + 136), (MIDDLE, y + 143)),
        f'<circle cx="{MIDDLE}" cy="{y + 151}" r="8" fill="none" stroke="currentColor"/>', _text(MIDDLE, y + 156, "+"),
        _line((MIDDLE, y - 12), (MIDDLE + 130, y - 12), (MIDDLE + 130, y + 151), (MIDDLE + 10, y + 151)),
        _line((LEFT + 66, y + 21), (MIDDLE - 97, y + 21), more='stroke-dasharray="4 3"'),
        _line((LEFT + 66, y + 124), (MIDDLE - 37, y + 124), more='stroke-dasharray="4 3"')]
    if name == "cross-attention":
        parts += [_box(LEFT - 8, y + 52, 112, 46, ""), _text(LEFT + 48, y + 71, "condition y", size=13),
                  _text(LEFT + 48, y + 88, f"(b, {tokens}, {context_dim})", size=12),
                  _line((LEFT + 104, y + 75), (MIDDLE - 97, y + 75), more='stroke-width="2"')]
    return "".join(parts)


def block_diagram(positions: int, width: int, hidden: int, tokens: int, context_dim: int) -> str:
    """The block of `kdlib.models.discrete.transformer` as SVG, with the shapes of a model.

    hidden       width within the feed-forward layer
    tokens       of the condition: the query and k neighbours
    context_dim  their width
    """
    height = TOP + STEP * len(LAYERS) + 30
    told = (f"x of shape (b, {positions}, {width}) passes self-attention, cross-attention to the condition of shape "
            f"(b, {tokens}, {context_dim}) and a feed-forward layer. Each is normalised, scaled and shifted before, "
            "multiplied by a gate after, and added to what came in; the timestep gives shift, scale and gate.")
    trunk = _line((LEFT + 40, 46), (LEFT + 40, TOP + STEP - 24 + 70), arrow=False, more='stroke-dasharray="4 3"')
    below = _line((LEFT + 40, TOP + STEP + 100), (LEFT + 40, TOP + 2 * STEP + 124), arrow=False,
                  more='stroke-dasharray="4 3"')
    joins = "".join(_line((LEFT + 40, TOP + STEP * n + y), (LEFT + 66, TOP + STEP * n + y), arrow=False,
                          more='stroke-dasharray="4 3"') for n in range(len(LAYERS)) for y in (21, 124))
    layers = "".join(_layer(n, name, positions, width, hidden, tokens, context_dim) for n, name in enumerate(LAYERS))
    return (f'<svg role="img" aria-label="{html.escape(told)}" viewBox="0 0 400 {height}" width="400" '
            f'height="{height}" font-family="sans-serif" fill="currentColor"><defs><marker id="kd-arrow" '
            'viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0,0 L8,4 L0,8 z"/></marker></defs>'
            + _box(LEFT - 8, 4, 150, 42, "") + _text(LEFT + 67, 22, "time: adaln + offset", size=13)
            + _text(LEFT + 67, 38, f"9 times (b, 1, {width})", size=12)
            + _text(MIDDLE, 30, f"x  (b, {positions}, {width})") + _line((MIDDLE, 36), (MIDDLE, TOP - 20), arrow=False)
            + trunk + below + joins + layers + _line((MIDDLE, height - 51), (MIDDLE, height - 24))
            + _text(MIDDLE, height - 8, f"x  (b, {positions}, {width})") + "</svg>")


def beside(source: str, drawing: str) -> HTML:
    """Python code and an SVG next to each other, or one under the other where there is no room."""
    lines = highlight(source.rstrip(), PythonLexer(), HtmlFormatter(nowrap=True))
    return HTML(f'<div class="kd-beside"><style>{STYLE}</style><div class="highlight"><div>{lines}</div></div>'
                f"{drawing}</div>")
