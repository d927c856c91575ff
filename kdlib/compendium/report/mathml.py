"""A Sphinx extension: formulas become MathML when the site is built, so that no script from a network draws them."""

from __future__ import annotations

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

log = logging.getLogger(__name__)


def to_mathml(latex: str, display: str, location: nodes.Node | None = None) -> str:
    """A formula as MathML, `display` being "inline" or "block"; warns where a command or an & was not understood."""
    mathml = convert(latex, display=display)
    if "\\" in mathml or "<mi>&</mi>" in mathml:
        log.warning("latex2mathml can't read this formula: %s", latex, location=location)
    return mathml


def _visit_inline(writer, node: nodes.math) -> None:
    writer.body.append(to_mathml(node.astext(), "inline", node))
    raise nodes.SkipNode


def _visit_block(writer, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{to_mathml(node.astext(), "block", node)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict:
    """Registers the renderer `mathml`; choose it with html_math_renderer."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    return {"parallel_read_safe": True}
