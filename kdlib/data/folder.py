"""A folder of one's own pictures: which files count, and how each is read on white without trusting it.

Files may be broken or hostile, so `read_pictures` does it in another process, with limits on time and memory. This file
is also the program that that process runs: it imports little, and nothing of kdlib.
"""

from __future__ import annotations

import io
import os
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import resvg_py
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg")
FORMATS = "png, jpeg, webp, gif or svg"
MAX_PIXELS = 50_000_000     # beyond it a picture counts as gigantic: 150 MB once decoded
MAX_SVG_BYTES = 10_000_000
MAX_SIDE_PX = 512           # larger pictures are reduced to it: more than any encoder looks at
SVG_SIDE_PX = 256
MAX_SECONDS = 20            # of computing, for one file
MAX_MEMORY_BYTES = 4 << 30  # of a process that reads


class Skipped(NamedTuple):
    """A file that was left out, and why."""

    path: str
    reason: str


def list_pictures(folder: str | Path) -> list[Path]:
    """The files below `folder` with a picture's suffix, sorted by path.

    Hidden files and folders, and symbolic links to folders, are passed by.
    Raises NotADirectoryError when `folder` is no folder.
    """
    if not Path(folder).is_dir():
        raise NotADirectoryError(f"{folder} is no folder of pictures")
    paths = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(parent, name) for name in names
                  if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    return sorted(paths)


def read_picture(path: str | Path) -> Image.Image:
    """The picture in a file as RGB on white, upright by its EXIF tag, at most MAX_SIDE_PX high and wide.

    Of several frames the first. An SVG is drawn SVG_SIDE_PX high or wide, without lettering (fonts are files) and
    without pictures from other files. Pictures that are not for certain harmless belong into `read_pictures`.

    Raises ValueError for what is no picture or a gigantic one (MAX_PIXELS, MAX_SVG_BYTES), Pillow's errors
    (OSError, SyntaxError, ...) for a broken one.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError("no regular file")  # a pipe would never end
    if path.suffix.lower() == ".svg":
        return draw_svg(path)
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP", "GIF")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"gigantic: {image.width} x {image.height} pixels, the limit is {MAX_PIXELS:,}")
            image.draft(None, (2 * MAX_SIDE_PX, 2 * MAX_SIDE_PX))  # a JPEG is decoded no larger than needed
            picture = on_white(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise ValueError("cannot identify the picture: no png, jpeg, webp or gif inside") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"gigantic: {error}") from None
    picture.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.LANCZOS)
    return picture


def draw_svg(path: Path) -> Image.Image:
    """The drawing in an SVG file as RGB on white; this process can open no other file meanwhile."""
    if path.stat().st_size > MAX_SVG_BYTES:
        raise ValueError(f"gigantic: {path.stat().st_size:,} bytes, the limit for an SVG is {MAX_SVG_BYTES:,}")
    text = path.read_bytes().decode("utf-8-sig")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        png = resvg_py.svg_to_bytes(svg_string=text, width=SVG_SIDE_PX, height=SVG_SIDE_PX, skip_system_fonts=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return on_white(Image.open(io.BytesIO(png), formats=("PNG",)))


def on_white(image: Image.Image) -> Image.Image:
    """Any picture as RGB: 16-bit greys scaled to 8 bits, transparency laid on white."""
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda grey: grey * (1 / 257)).convert("L")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def read_pictures(paths: Sequence[Path]) -> list[Image.Image | str]:
    """`read_picture` of each path in another process: the picture, or the reason why there is none.

    A file that takes more than MAX_SECONDS, crashes the process or asks for more than MAX_MEMORY_BYTES costs that
    process (another one goes on with the next file) and nothing else.
    """
    results = []
    while todo := paths[len(results):]:
        command = [sys.executable, "-P", "-W", "ignore", __file__]
        done = subprocess.run(command, input=b"\0".join(map(os.fsencode, todo)), stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL)
        results += unpack(done.stdout)
        if done.returncode > 0:
            raise RuntimeError(f"the process that reads pictures fails; see what it says: {' '.join(command)}")
        if done.returncode == -signal.SIGPROF:
            results.append(f"reading it takes more than {MAX_SECONDS} seconds of computing")
        elif done.returncode:
            results.append("reading it crashes, or takes too much memory")
    return results


def main() -> None:
    """That process: paths come in; for each, width, height and RGB bytes go out, or 0, a length and a reason."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    Image.init()  # while Pillow's own files can be opened
    for path in sys.stdin.buffer.read().split(b"\0"):
        signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)  # kills; a busy machine or a slow disk doesn't count
        try:
            image = read_picture(os.fsdecode(path))
            reply = struct.pack("II", *image.size) + image.tobytes()
        except BaseException as error:  # resvg's panics are no Exception
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            text = " ".join(reason.split()).encode(errors="replace")
            reply = struct.pack("II", 0, len(text)) + text
        sys.stdout.buffer.write(reply)
        sys.stdout.buffer.flush()


def unpack(replies: bytes) -> list[Image.Image | str]:
    """What `main` wrote; a last reply that is cut short is left out."""
    results, start = [], 0
    while start + 8 <= len(replies):
        width, height = struct.unpack_from("II", replies, start)
        content = replies[start + 8:start + 8 + (3 * width or 1) * height]
        if len(content) == (3 * width or 1) * height:
            results.append(Image.frombytes("RGB", (width, height), content) if width else content.decode())
        start += 8 + (3 * width or 1) * height
    return results


if __name__ == "__main__":
    main()
