"""Figures to move through: a slider over pictures, as HTML with everything in it.

It needs no server, network or kernel, and works by keyboard in Jupyter and in the report. Where a page's scripts are
forbidden (a notebook that Jupyter does not trust) the last picture stands there.
"""

from __future__ import annotations

import html
import io
from base64 import b64encode
from collections.abc import Sequence

from IPython.display import HTML
from PIL import Image

STYLE = """
.kd-slider { max-width: 100%; padding: .5em 0 }
.kd-slider label { display: flex; flex-wrap: wrap; gap: .3em .8em; align-items: center }
.kd-slider input { flex: 1 1 12em; max-width: 24em; accent-color: #0072B2; cursor: pointer }
.kd-slider input:focus-visible { outline: 3px solid #0072B2; outline-offset: 3px }
.kd-slider output { display: block; margin: .3em 0 .5em; font-variant-numeric: tabular-nums }
.kd-slider figure { margin: 0 }
.kd-slider figure[hidden] { display: none }
.kd-slider img { max-width: 100%; height: auto; background: white }
.bd-content .cell_output .text_html:has(.kd-slider) { background: none !important; color: inherit !important }
""".strip()
MOVE = ("const all=this.closest('.kd-slider');"
        "all.querySelectorAll('figure').forEach((one,n)=>{one.hidden=n!=this.value});"
        "const said=all.querySelector('figure:not([hidden])').dataset.caption;"
        "all.querySelector('output').textContent=said;this.setAttribute('aria-valuetext',said)")


def data_address(image: Image.Image, num_colours: int = 128) -> str:
    """A picture as the address of itself: a PNG with a palette."""
    buffer = io.BytesIO()
    image.convert("RGB").quantize(num_colours).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"


def slider(images: Sequence[Image.Image], captions: Sequence[str], label: str) -> HTML:
    """Pictures, one shown at a time, with a slider that moves through them; the last one is shown first.

    captions  what stands beside each picture and, to those who can't see it, in its place
    label     what the slider moves through, for example "step"

    Raises ValueError for no pictures, or another number of captions.
    """
    if not images or len(images) != len(captions):
        raise ValueError(f"there are {len(images)} pictures and {len(captions)} captions; give one for each, and some")
    last = len(images) - 1
    figures = [f'<figure data-caption="{html.escape(caption)}"{"" if number == last else " hidden"}>'
               f'<img alt="{html.escape(caption)}" width="{image.width}" height="{image.height}" '
               f'src="{data_address(image)}"></figure>'
               for number, (image, caption) in enumerate(zip(images, captions, strict=True))]
    control = (f'<input type="range" min="0" max="{last}" value="{last}" step="1" '
               f'aria-valuetext="{html.escape(captions[-1])}" oninput="{html.escape(MOVE)}">')
    return HTML(f'<div class="kd-slider"><style>{STYLE}</style><label><span>{html.escape(label)}</span>{control}'
                f"</label><output>{html.escape(captions[-1])}</output>{''.join(figures)}</div>")
