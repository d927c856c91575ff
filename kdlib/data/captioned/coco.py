"""MS-COCO's captions (Lin et al., 2014): captions_val2014.json and its like, with a folder of pictures."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import ijson

from kdlib.data.captioned.tally import Captioned, Tally, check_files, inside, spdx

MAX_ID = 2 ** 63 - 1


def read_coco(captions: str | Path, pictures: str | Path, tally: Tally) -> Iterator[Captioned]:
    """Each caption, in the file's order, with its picture; five or so have the same one.

    captions  JSON with the lists images (id, file_name, license), licenses (id, url, name) and annotations (id,
              image_id, caption), in any order: it is read piece by piece, and the images' list waits on the disk
    pictures  the folder of their files (val2014)

    An id is "IMAGE_ID-CAPTION_ID". Raises FileNotFoundError for what isn't there, ValueError for a file that is no JSON
    or has none of these lists.
    """
    captions, pictures = Path(captions), Path(pictures)
    check_files(captions, pictures)
    return with_pictures(captions, pictures, tally)


def with_pictures(captions: Path, pictures: Path, tally: Tally) -> Iterator[Captioned]:
    """`read_coco` of files that are there."""
    with tempfile.NamedTemporaryFile(suffix=".sqlite") as file, closing(sqlite3.connect(file.name)) as table:
        table.execute("CREATE TABLE images (id INTEGER PRIMARY KEY, name TEXT, licence TEXT)")
        licences = {entry["id"]: entry.get("url") or entry.get("name") or "" for entry in entries(captions, "licenses")
                    if is_id(entry.get("id"))}
        table.executemany("INSERT OR IGNORE INTO images VALUES (?, ?, ?)", (
            (entry["id"], entry["file_name"], spdx(str(licences.get(as_id(entry.get("license")), ""))))
            for entry in entries(captions, "images") if is_id(entry.get("id")) and is_text(entry.get("file_name"))))
        if not table.execute("SELECT 1 FROM images").fetchone():
            raise ValueError(f"{captions} lists no images, so it holds no captions of COCO; name "
                             "captions_val2014.json, or one like it")
        for entry in entries(captions, "annotations"):
            yield from of_annotation(entry, table, pictures, tally)


def of_annotation(entry: dict, table: sqlite3.Connection, pictures: Path, tally: Tally) -> list[Captioned]:
    """The caption of one entry, if it is whole."""
    id = f"{entry.get('image_id')}-{entry.get('id')}"
    found = None
    if is_id(entry.get("image_id")):
        found = table.execute("SELECT name, licence FROM images WHERE id = ?", (entry["image_id"],)).fetchone()
    path = inside(pictures, found[0]) if found else None
    if path is None:
        tally.skip(id, "its image has no name in the file")
        return []
    return tally.give(id, path, entry.get("caption"), found[1])


def entries(path: Path, name: str) -> Iterator[dict]:
    """The objects of one list of the file, piece by piece."""
    try:
        with open(path, "rb") as file:
            yield from (entry for entry in ijson.items(file, f"{name}.item") if isinstance(entry, dict))
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON ({' '.join(str(error).split())}); fetch it again") from error


def is_id(value: object) -> bool:
    """Whether a value can be the id of an image."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_ID


def as_id(value: object) -> int | None:
    """The value, if it can be an id."""
    return value if is_id(value) else None


def is_text(value: object) -> bool:
    """Whether a value is a text that can be written."""
    return isinstance(value, str) and not any(0xD800 <= ord(letter) <= 0xDFFF for letter in value)
