"""What all readers give, and how they count what is whole and what is broken."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from kdlib.data.folder import WEB_FORMATS, Skipped, read_raster
from kdlib.types import is_visible

UNKNOWN = "unknown"  # a licence that the set doesn't tell
MAX_LISTED = 1000    # of what is broken: all is counted, so that a set without its pictures fills no memory


class Captioned(NamedTuple):
    """A picture with one of its captions.

    id       of the caption, in its set
    picture  RGB on white, at most 512 px a side
    licence  the picture's, as SPDX names it where it is one of Creative Commons ("CC-BY-SA-2.0"), or "unknown"
    """

    id: str
    picture: Image.Image
    caption: str
    licence: str


@dataclass
class Tally:
    """What a reader met so far.

    num_read    captions that it gave
    num_broken  of each kind of fault ("the picture is missing"), how many
    broken      the first MAX_LISTED of these: what, and why
    """

    num_read: int = 0
    num_broken: Counter[str] = field(default_factory=Counter)
    broken: list[Skipped] = field(default_factory=list)

    def skip(self, what: str, kind: str, details: str = "") -> None:
        """Counts what is left out, and lists it."""
        self.num_broken[kind] += 1
        if len(self.broken) < MAX_LISTED:
            self.broken.append(Skipped(what, f"{kind}: {details}" if details else kind))

    def give(self, id: str, path: Path, caption: object, licence: str = UNKNOWN) -> list[Captioned]:
        """A caption with the picture in a file, counted as read; nothing, and counted as broken, where one is amiss."""
        if not isinstance(caption, str) or not is_visible(caption):
            self.skip(id, "there is no caption")
            return []
        if not os.path.isfile(path):
            self.skip(id, "the picture is missing", path.name)
            return []
        try:
            picture = read_raster(path, WEB_FORMATS)
        except (ValueError, OSError, SyntaxError) as error:
            self.skip(id, "the picture can't be read", str(error))
            return []
        self.num_read += 1
        return [Captioned(id, picture, readable(caption), licence)]


def readable(caption: str) -> str:
    """A caption as one line of valid Unicode."""
    return " ".join(caption.encode(errors="replace").decode().split())


def check_files(*paths: Path) -> None:
    """Raises FileNotFoundError for a file or folder of a set that isn't there."""
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"there is no {path}; fetch the set, and unpack it")


def inside(folder: Path, name: object) -> Path | None:
    """The file of that name in a folder; None for what is no name, or would lead out of the folder."""
    parts = Path(name).parts if isinstance(name, str) else ()
    harmless = parts and ".." not in parts and "\0" not in name and not Path(name).is_absolute()
    return folder / name if harmless else None


def spdx(licence: str) -> str:
    """A licence's address as SPDX names it: ".../licenses/by-nc-sa/2.0/" -> "CC-BY-NC-SA-2.0"; else as it is."""
    found = re.search(r"creativecommons\.org/licenses/([a-z-]+)/(\d\.\d)", licence)
    return f"CC-{found[1].upper()}-{found[2]}" if found else licence or UNKNOWN
