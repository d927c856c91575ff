"""CUB-200-2011 (Wah et al., 2011), with the ten captions a picture of Reed et al. (2016)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kdlib.data.captioned.tally import Captioned, Tally, check_files, inside

NUM_CAPTIONS = 10


def read_cub(folder: str | Path, captions: str | Path, tally: Tally) -> Iterator[Captioned]:
    """Each caption of each picture, in the order of images.txt.

    folder    CUB_200_2011: images.txt ("1 001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg") and images/
    captions  text_c10: a file for each picture, of its name with .txt, a caption a line

    An id is "CLASS/PICTURE-LINE", so that a split by classes is one by ids. The licence is "unknown", as for each
    picture's owner. A picture with another number of captions than ten is listed, and those that are there are given.
    Raises FileNotFoundError for what isn't there.
    """
    folder, captions = Path(folder), Path(captions)
    check_files(folder / "images.txt", folder / "images", captions)
    return of_pictures(folder, captions, tally)


def of_pictures(folder: Path, captions: Path, tally: Tally) -> Iterator[Captioned]:
    """`read_cub` of files that are there."""
    with open(folder / "images.txt", encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            _, _, name = line.strip().partition(" ")
            path = inside(folder / "images", name)
            if path is None or path.suffix != ".jpg":
                tally.skip(f"line {number}", "the line of images.txt names no picture")
                continue
            yield from of_picture(name.removesuffix(".jpg"), path, captions, tally)


def of_picture(name: str, path: Path, captions: Path, tally: Tally) -> Iterator[Captioned]:
    """All captions of one picture."""
    try:
        lines = (captions / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        tally.skip(name, "the file of captions can't be read", str(error))
        return
    while lines and not lines[-1].strip():
        lines.pop()
    if len(lines) != NUM_CAPTIONS:
        tally.skip(name, "there are not ten captions", str(len(lines)))
    for number, caption in enumerate(lines):
        yield from tally.give(f"{name}-{number}", path, caption)
