"""A folder of one's own pictures as a data set: every readable picture once, in a fixed order, on white."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
MAX_PIXELS = 50_000_000  # beyond it a picture counts as gigantic: 150 MB once decoded


class Picture(NamedTuple):
    """One picture of a data set, as every reader of kdlib.data yields it."""

    id: str
    image: Image.Image
    caption: str | None
    licence: str


class Skipped(NamedTuple):
    """A file that was left out, and why."""

    path: str
    reason: str


def read_folder(folder: str | Path, skipped: list[Skipped] | None = None) -> Iterator[Picture]:
    """Yields every picture below `folder`, sorted by path: png, jpeg, webp and the first frame of gif.

    The id is the path inside the folder with forward slashes ("cats/tom.png"); the image is RGB, upright by its EXIF
    tag, transparency laid on white; the caption is None and the licence "unknown". Hidden files and folders and
    symbolic links to folders are passed by. A file that cannot be read is appended to `skipped` and never fatal.

    Raises NotADirectoryError when `folder` is no folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder of pictures")
    for path in list_pictures(folder):
        name = path.relative_to(folder).as_posix()
        try:
            name.encode()
            yield Picture(name, read_picture(path), None, "unknown")
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            if skipped is not None:
                readable = name.encode(errors="replace").decode()
                skipped.append(Skipped(readable, str(error) or type(error).__name__))


def list_pictures(folder: str | Path) -> list[Path]:
    """The files below `folder` with a picture's suffix, hidden ones left out, sorted by path."""
    paths = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(parent, name) for name in names
                  if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    return sorted(paths)


def read_picture(path: str | Path) -> Image.Image:
    """The picture in a file as RGB on white, its first frame if it has several.

    Raises ValueError for a gigantic picture (more than MAX_PIXELS), Pillow's errors (OSError, ...) for a broken one.
    """
    with Image.open(path, formats=("PNG", "JPEG", "WEBP", "GIF")) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"gigantic: {image.width} x {image.height} pixels, the limit is {MAX_PIXELS:,}")
        image.load()
        return on_white(ImageOps.exif_transpose(image))


def on_white(image: Image.Image) -> Image.Image:
    """Any picture as RGB: 16-bit greys scaled to 8 bits, transparency laid on white."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).clip(0, 255).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
