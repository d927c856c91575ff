"""What the page shows, as HTML that holds its pictures: nothing is fetched, every picture has a text in its place."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

from PIL import Image

from kdlib.data.folder import Skipped
from kdlib.demo.watch import Look
from kdlib.types import Neighbour

PICTURE_PX, THUMBNAIL_PX = 320, 64
STRIP = 8          # looks that stand below the picture
MAX_SKIPPED = 100  # skipped files that are listed
NEIGHBOURS_HEAD = "<h2>Made from these {count} pictures</h2>"


def image_tag(picture: Image.Image, alt: str, side_px: int) -> str:
    """A picture as <img>, its bytes (PNG) within."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "PNG")
    return f'<img src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}" ' \
           f'alt="{html.escape(alt)}" width="{side_px}" height="{side_px}">'


def drawing_card(prompt: str, looks: Sequence[Look]) -> str:
    """The last look at a drawing, large; once it is done, with those before it in a row below."""
    t, picture = looks[-1]
    done = t == 0
    alt = f"drawn for “{prompt}”" if done else f"what is drawn for “{prompt}”, at t = {t}"
    said = "done" if done else f"t = {t} of {looks[0].t}: pale is what the network only guesses"
    strip = f'<ol class="kd-strip">{"".join(map(small_look, spread(looks)))}</ol>' if done else ""
    return f'<figure class="kd-drawing" data-t="{t}">{image_tag(picture, alt, PICTURE_PX)}' \
           f'<figcaption>{html.escape(prompt)}: {said}</figcaption></figure>{strip}'


def spread(looks: Sequence[Look]) -> list[Look]:
    """At most STRIP looks, the first and the last among them, evenly spread."""
    num = min(STRIP, len(looks))
    return [looks[round(i * (len(looks) - 1) / max(num - 1, 1))] for i in range(num)]


def small_look(look: Look) -> str:
    """An item of the row of looks."""
    return f'<li>{image_tag(look.picture, f"the picture at t = {look.t}", THUMBNAIL_PX)}<span>t = {look.t}</span></li>'


def neighbour_cards(neighbours: Sequence[Neighbour]) -> str:
    """The pictures that a drawing was made from, nearest first, each with whose it is."""
    return f'{NEIGHBOURS_HEAD.format(count=len(neighbours))}' \
           f'<ol class="kd-near">{"".join(map(neighbour_card, neighbours))}</ol>'


def neighbour_card(one: Neighbour) -> str:
    """One neighbour: its picture, title, style, author, licence and cosine."""
    lines = [f"<strong>{html.escape(one.title)}</strong>", html.escape(one.style), f"by {html.escape(one.author)}",
             html.escape(one.licence), f"cosine {one.score:.2f}"]
    told = "".join(f"<span>{line}</span>" for line in lines if line)
    return f"<li>{image_tag(one.image, one.title, THUMBNAIL_PX)}<div>{told}</div></li>"


def database_card(folder: str, num_pictures: int, skipped: Sequence[Skipped]) -> str:
    """What was made of a folder: how many pictures, and which files were left out, and why."""
    rows = "".join(f"<li><code>{html.escape(path)}</code>: {html.escape(reason)}</li>"
                   for path, reason in skipped[:MAX_SKIPPED])
    more = f"<li>and {len(skipped) - MAX_SKIPPED} more</li>" if len(skipped) > MAX_SKIPPED else ""
    listed = f'<details open class="kd-skipped"><summary>{len(skipped)} files skipped</summary><ul>{rows}{more}</ul>' \
             "</details>" if skipped else ""
    return f'<p class="kd-database">Drawing from {num_pictures} pictures of {html.escape(folder)}.</p>{listed}'
