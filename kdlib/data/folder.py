"""A folder of one's own pictures: which files count, and how each is read on white without trusting it.

Files may be broken or hostile, so `read_pictures` does it in another process, with limits on time and memory. This file
is also the program that that process runs: it imports little, and nothing of kdlib.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import resvg_py
from PIL import Image, ImageOps, UnidentifiedImageError

with suppress(ImportError):
    import pillow_heif

    pillow_heif.register_heif_opener()

WEB_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
FORMATS = (*WEB_FORMATS, "BMP", "TIFF", "AVIF", "HEIF")  # of Pillow's; the others are seldom met, or interpreters
TOLD_FORMATS = "png, jpeg, webp, gif, bmp, tiff, avif, svg, and heic with the package pillow-heif"
MAX_PIXELS = 50_000_000     # beyond it a picture counts as gigantic: 150 MB once decoded
MAX_SVG_BYTES = 10_000_000
PHOTOMETRIC, IN_YCBCR = 262, 6  # TIFF's tag of what pixels are, and its value for YCbCr
MAX_SIDE_PX = 512           # larger pictures are reduced to it: more than any encoder looks at
SVG_SIDE_PX = 256
MAX_SECONDS = 20            # of computing, for one file
MAX_MEMORY_BYTES = 4 << 30  # of a process that reads
XML_ENCODINGS = re.compile(r"utf-?8|(us-)?ascii|latin-?1|iso-8859-\d{1,2}|windows-125\d|koi8-[ru]|macintosh|shift_jis|"
                           r"euc-(jp|kr)|gb(k|2312|18030)|big5")


class Skipped(NamedTuple):
    """A file that was left out, and why."""

    path: str
    reason: str


def list_files(folder: str | Path) -> tuple[list[Path], list[Skipped]]:
    """(all files below `folder`, whatever they are; folders in it that can't be looked into), both sorted by path.

    Hidden files and folders are passed by. Raises NotADirectoryError when `folder` is no folder, another OSError when
    it can't be entered.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder of pictures")
    paths, closed = [], []
    for parent, folders, names in os.walk(folder, onerror=closed.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        closed += [OSError(0, "a link to a folder; it is not followed", Path(parent, name))
                   for name in folders if os.path.islink(Path(parent, name))]
        paths += [Path(parent, name) for name in names if not name.startswith(".")]
    if closed and Path(closed[0].filename) == folder:
        raise closed[0]
    skipped = [Skipped(id_of(Path(error.filename), folder), f"a folder that is not read: {error.strerror}")
               for error in closed]
    return sorted(paths), sorted(skipped)


def id_of(path: Path, folder: Path) -> str:
    """A file's path inside the folder ("cats/tom.png"), with a question mark for each byte that is not UTF-8."""
    return path.relative_to(folder).as_posix().encode(errors="replace").decode()


def read_picture(path: str | Path) -> Image.Image:
    """The picture in a file as RGB on white, upright by its EXIF tag, at most MAX_SIDE_PX high and wide.

    What it is, its content tells, not its name. Of several frames the first. An SVG is drawn SVG_SIDE_PX high or wide,
    without lettering (fonts are files) and without pictures from other files. Pictures that are not for certain
    harmless belong into `read_pictures`.

    Raises ValueError for what is no picture of FORMATS or a gigantic one (MAX_PIXELS, MAX_SVG_BYTES), Pillow's errors
    (OSError, SyntaxError, ...) for a broken one.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError("no regular file")  # a pipe would never end
    with open(path, "rb") as file:
        start = file.read(4096)
    if not start:
        raise ValueError("no picture: the file is empty")
    if looks_like_svg(start):
        return draw_svg(path)
    try:
        return read_raster(path)
    except UnidentifiedImageError:
        if path.suffix.lower() == ".svg":
            return draw_svg(path)  # and hear what is wrong with it
        if re.match(rb"....ftyp(hei|hev|mif1|msf1)", start, re.DOTALL):
            raise ValueError("heic, which is read only where the package pillow-heif is installed") from None
        raise ValueError(f"no picture of a kind that is read: {TOLD_FORMATS}") from None


def looks_like_svg(start: bytes) -> bool:
    """Whether a file that starts so is XML, in whatever encoding, with an element svg, and no web page around it."""
    start = start.replace(b"\0", b"").lower()
    return bool(re.match(rb"[^<\w]*<(?!html|!doctype html)", start) and re.search(rb"<(\w+:)?svg\b", start))


def read_raster(path: str | Path, formats: Sequence[str] = FORMATS) -> Image.Image:
    """`read_picture` of pixels in some of Pillow's formats; UnidentifiedImageError for any other content."""
    Image.init()
    try:
        with Image.open(path, formats=[name for name in formats if name in Image.OPEN]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"gigantic: {image.width} x {image.height} pixels, the limit is {MAX_PIXELS:,}")
            image.draft(None, (2 * MAX_SIDE_PX, 2 * MAX_SIDE_PX))  # a JPEG is decoded no larger than needed
            take_for_ycbcr(image)
            picture = on_white(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise UnidentifiedImageError(f"no picture: it is none of {', '.join(formats).lower()}") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"gigantic: {error}") from None
    picture.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.LANCZOS)
    return picture


def take_for_ycbcr(image: Image.Image) -> None:
    """Opens an uncompressed TIFF in YCbCr as that; Pillow before 13 takes it for RGBX, and finds a byte too few."""
    stored = getattr(image, "tag_v2", {}).get(PHOTOMETRIC)
    if stored == IN_YCBCR and image.tile and image.tile[0].codec_name == "raw":
        image._mode = "YCbCr"
        image.tile = [tile._replace(args=("YCbCr", *tile.args[1:])) for tile in image.tile]


def draw_svg(path: Path) -> Image.Image:
    """The drawing in an SVG file as RGB on white; this process can open no other file meanwhile."""
    if path.stat().st_size > MAX_SVG_BYTES:
        raise ValueError(f"gigantic: {path.stat().st_size:,} bytes, the limit for an SVG is {MAX_SVG_BYTES:,}")
    text = decode_xml(path.read_bytes())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        png = resvg_py.svg_to_bytes(svg_string=text, width=SVG_SIDE_PX, height=SVG_SIDE_PX, skip_system_fonts=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return on_white(Image.open(io.BytesIO(png), formats=("PNG",)))


def decode_xml(data: bytes) -> str:
    """XML as text, by its byte order mark, the encoding that it declares, or else as UTF-8 (XML 1.0, appendix F).

    Raises ValueError for an encoding that is none of XML_ENCODINGS, or not what the bytes are.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    for start, encoding in ((b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"), (codecs.BOM_UTF8, "utf-8-sig")):
        if data.startswith(start):
            return data.decode(encoding)
    declared = re.match(rb"""<\?xml\s[^>]{0,200}?encoding\s*=\s*["']([^"'>]{1,40})["']""", data)
    encoding = declared[1].decode("latin-1").lower() if declared else "utf-8"
    if not XML_ENCODINGS.fullmatch(encoding):
        raise ValueError(f"it declares the encoding {encoding}, which is not known here; save it as UTF-8")
    return data.decode(encoding)


def on_white(image: Image.Image) -> Image.Image:
    """Any picture as RGB: 16-bit greys scaled to 8 bits, transparency laid on white.

    Raises ValueError for 32-bit greys, which don't say what white is.
    """
    if image.mode in ("I", "F"):
        raise ValueError("its greys are 32-bit numbers, which don't say what white is; save it with 8 or 16 bits")
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
