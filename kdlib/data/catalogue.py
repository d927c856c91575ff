"""Whose pictures are they: title, style, author, licence and a look of every picture that an index can return.

Catalogues are Arrow tables, not pandas': to import pandas takes longer than to find and name ten pictures.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from PIL import Image, ImageOps
from pyarrow import parquet

from kdlib.files import atomic_file
from kdlib.params import data_file

THUMBNAIL_PX = 128


class Description(NamedTuple):
    """What a reader must be told about a picture."""

    title: str
    style: str
    author: str
    licence: str


SCHEMA = pa.schema([*((name, pa.large_string()) for name in ("id", *Description._fields)),
                    ("picture", pa.large_binary())])


class Catalogue:
    """A table of pictures by id, small enough to travel with an index, so that a result can name its sources.

    table   Arrow table; columns id, title, style, author, licence (text) and picture (bytes: an SVG text or an encoded
            JPEG). One class serves stickers, folders and whatever comes back from a search engine.
    """

    def __init__(self, table: pa.Table):
        if missing := [name for name in SCHEMA.names if name not in table.column_names]:
            raise ValueError(f"a catalogue needs the columns {', '.join(SCHEMA.names)}; {', '.join(missing)} missing")
        self.table = table.select(SCHEMA.names).cast(SCHEMA)
        self._row_of = {}
        for row, id in enumerate(self.table["id"].to_pylist()):
            if self._row_of.setdefault(id, row) != row:
                raise ValueError(f"a catalogue has one row an id; {id!r} comes twice")

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, id: str) -> bool:
        return id in self._row_of

    def describe(self, id: str) -> Description:
        """Title, style, author and licence; an id that the catalogue lacks is its own title and all else "unknown"."""
        if id not in self:
            return Description(str(id), "unknown", "unknown", "unknown")
        return Description(*(self._cell(id, name) for name in Description._fields))

    def picture(self, id: str, size_px: int = THUMBNAIL_PX) -> Image.Image:
        """The picture, (size_px, size_px) RGB on white, never distorted; a grey square where there is none."""
        data = self._cell(id, "picture") if id in self else b""
        if not data:
            return Image.new("RGB", (size_px, size_px), "lightgrey")
        if data.lstrip().startswith(b"<"):
            from kdlib.data.drawings import render

            return render(data.decode(), size_px)
        return ImageOps.pad(Image.open(io.BytesIO(data)).convert("RGB"), (size_px, size_px), color="white")

    def column(self, name: str) -> dict[str, str]:
        """The cells of a column of texts, by id."""
        return dict(zip(self._row_of, self.table[name].to_pylist(), strict=True))

    def subset(self, ids: Iterable[str]) -> Catalogue:
        """The rows of those ids that are here, in their order."""
        return Catalogue(self.table.take(pa.array([self._row_of[id] for id in ids if id in self], pa.int64())))

    def save(self, path: str | Path) -> None:
        """Writes one parquet file, atomically."""
        with atomic_file(path) as temporary:
            parquet.write_table(self.table, temporary, compression="zstd")

    @classmethod
    def empty(cls) -> Catalogue:
        """A catalogue that knows no picture."""
        return cls(SCHEMA.empty_table())

    @classmethod
    def from_rows(cls, rows: Iterable[tuple]) -> Catalogue:
        """The catalogue of some (id, title, style, author, licence, picture)."""
        return cls(pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA))

    @classmethod
    def load(cls, path: str | Path) -> Catalogue:
        """Reads what `save` wrote; raises ValueError naming the file when it is damaged."""
        try:
            return cls(read_table(path))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise ValueError(f"{path} is no whole catalogue ({error}); build the index again") from error

    def _cell(self, id: str, column: str) -> str | bytes:
        return self.table[column][self._row_of[id]].as_py()


def read_table(path: str | Path, columns: list[str] | None = None) -> pa.Table:
    """A parquet file's columns, or all; pyarrow's own `read_table` would import pandas."""
    return parquet.ParquetFile(path).read(columns)


def sticker_catalogue(root: str | Path | None = None) -> Catalogue:
    """The catalogue of all bundled stickers, drawn from data/stickers.parquet; raises as `load_stickers`."""
    stickers = read_table(data_file("stickers.parquet", root), ["id", *Description._fields, "svg"])
    return Catalogue(stickers.rename_columns({"svg": "picture"}))


def sticker_credits(root: str | Path | None = None) -> Catalogue:
    """The same without a look of any: for who only names them, in a fifth of the time."""
    stickers = read_table(data_file("stickers.parquet", root), ["id", *Description._fields])
    return Catalogue(stickers.append_column("picture", pa.nulls(len(stickers), pa.large_binary())))


def folder_catalogue(entries: Iterable[tuple[str, bytes]], credits: dict[str, dict] | None = None) -> Catalogue:
    """The catalogue of one's own pictures from (id, thumbnail).

    Title, author and licence come from `credits`, as `kdlib.data.credits.read_credits` gives them; what it lacks is the
    file's stem for the title, "unknown" for the rest.
    """
    rows = []
    for id, picture in entries:
        credit = (credits or {}).get(id, {})
        rows.append((id, credit.get("title") or Path(id).stem, "unknown", credit.get("author") or "unknown",
                     credit.get("licence") or "unknown", picture))
    return Catalogue.from_rows(rows)


def thumbnail(image: Image.Image, size_px: int = THUMBNAIL_PX) -> bytes:
    """An RGB picture as a JPEG whose longer side is at most `size_px`."""
    small = image.copy()
    small.thumbnail((size_px, size_px))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
