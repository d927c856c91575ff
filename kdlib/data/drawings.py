"""Drawings, that is SVG texts, as pictures of any size."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import resvg_py
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm


def render(svg: str, size_px: int) -> Image.Image:
    """One sticker as an RGB picture of size_px x size_px on white (resvg; the same bytes at every run)."""
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size_px, height=size_px)
    picture = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    canvas = Image.new("RGBA", (size_px, size_px), "white")
    canvas.alpha_composite(picture, ((size_px - picture.width) // 2, (size_px - picture.height) // 2))
    return canvas.convert("RGB")


def rasterise(svgs: list[str], size_px: int) -> UInt8[np.ndarray, "num_pictures {size_px} {size_px} 3"]:
    """Stickers on white, in the order of their texts; all cores, with a progress bar."""
    pictures = np.empty((len(svgs), size_px, size_px, 3), np.uint8)

    def draw(row: int) -> None:
        pictures[row] = np.asarray(render(svgs[row], size_px))

    with ThreadPoolExecutor() as pool:
        for _ in tqdm(pool.map(draw, range(len(svgs))), total=len(svgs), desc="rasterise", unit=" pictures"):
            pass
    return pictures
