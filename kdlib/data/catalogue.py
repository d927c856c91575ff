"""Whose pictures are they: title, style, author, licence and a look of every picture that an index can return."""

from __future__ import annotations

import codecs
import io
import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from PIL import Image, ImageOps

from kdlib.files import atomic_file

COLUMNS = ("title", "style", "author", "licence", "picture")
THUMBNAIL_PX = 128
CREDITS = "credits.csv"  # in a folder of pictures, says whose they are


class Description(NamedTuple):
    """What a reader must be told about a picture."""

    title: str
    style: str
    author: str
    licence: str


class Catalogue:
    """A table of pictures by id, small enough to travel with an index, so that a result can name its sources.

    table   DataFrame indexed by id (str); columns title, style, author, licence (str) and picture (bytes: an SVG text
            or an encoded JPEG). One class serves stickers, folders and whatever comes back from a search engine.
    """

    def __init__(self, table: pd.DataFrame):
        if missing := [name for name in COLUMNS if name not in table.columns]:
            raise ValueError(f"a catalogue needs the columns {', '.join(COLUMNS)}; {', '.join(missing)} missing")
        if table.index.has_duplicates:
            raise ValueError(f"a catalogue has one row an id; {table.index[table.index.duplicated()][0]!r} comes twice")
        self.table = table[list(COLUMNS)]

    def __len__(self) -> int:
        return len(self.table)

    def __contains__(self, id: str) -> bool:
        return id in self.table.index

    def describe(self, id: str) -> Description:
        """Title, style, author and licence; an id that the catalogue lacks is its own title and all else "unknown"."""
        if id not in self:
            return Description(str(id), "unknown", "unknown", "unknown")
        return Description(*(str(self.table.at[id, name]) for name in Description._fields))

    def picture(self, id: str, size_px: int = THUMBNAIL_PX) -> Image.Image:
        """The picture, (size_px, size_px) RGB on white, never distorted; a grey square where there is none."""
        data = self.table.at[id, "picture"] if id in self else b""
        if not data:
            return Image.new("RGB", (size_px, size_px), "lightgrey")
        if data.lstrip().startswith(b"<"):
            from kdlib.data.stickers import render

            return render(data.decode(), size_px)
        return ImageOps.pad(Image.open(io.BytesIO(data)).convert("RGB"), (size_px, size_px), color="white")

    def subset(self, ids: Iterable[str]) -> Catalogue:
        """The rows of those ids that are here, in their order."""
        return Catalogue(self.table.loc[[id for id in ids if id in self]])

    def save(self, path: str | Path) -> None:
        """Writes one parquet file, atomically."""
        with atomic_file(path) as temporary:
            self.table.rename_axis("id").to_parquet(temporary, compression="zstd")

    @classmethod
    def empty(cls) -> Catalogue:
        """A catalogue that knows no picture."""
        return cls(pd.DataFrame(columns=list(COLUMNS), index=pd.Index([], dtype=str)))

    @classmethod
    def load(cls, path: str | Path) -> Catalogue:
        """Reads what `save` wrote; raises ValueError naming the file when it is damaged."""
        try:
            return cls(pd.read_parquet(path))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} is no whole catalogue ({error}); build the index again") from error


def sticker_catalogue(root: str | Path | None = None) -> Catalogue:
    """The catalogue of all bundled stickers, drawn from data/stickers.parquet."""
    from kdlib.data.stickers import load_stickers

    stickers = load_stickers(root).set_index("id")
    return Catalogue(stickers.assign(picture=stickers["svg"].str.encode("utf-8")))


def sticker_credits(root: str | Path | None = None) -> Catalogue:
    """The same without a look of any: for who only names them, in a fifth of the time."""
    from kdlib.data.stickers import load_stickers

    stickers = load_stickers(root, ["id", *Description._fields]).set_index("id")
    return Catalogue(stickers.assign(picture=b""))


def folder_catalogue(entries: Iterable[tuple[str, bytes]], credits: dict[str, dict] | None = None) -> Catalogue:
    """The catalogue of one's own pictures from (id, thumbnail).

    Title, author and licence come from `credits`, as `read_credits` gives them; what it lacks is the file's stem for
    the title, "unknown" for the rest.
    """
    rows = []
    for id, picture in entries:
        credit = (credits or {}).get(id, {})
        rows.append((id, credit.get("title") or Path(id).stem, "unknown", credit.get("author") or "unknown",
                     credit.get("licence") or "unknown", picture))
    return Catalogue(pd.DataFrame(rows, columns=["id", *COLUMNS]).set_index("id"))


def read_credits(folder: str | Path) -> dict[str, dict]:
    """Whose a folder's pictures are, by id, from its file credits.csv; empty when it has none.

    The columns are path (or id: the path inside the folder, "cats/tom.png"), title, author, licence (or license), in
    any order; all but the first may be missing, cells may be empty. They are parted by commas, semicolons or tabs; the
    text is UTF-8, or what a byte order mark says. Paths may have backslashes, or begin with "./". Raises ValueError
    naming the file when it is not like that.
    """
    path = Path(folder) / CREDITS
    if not path.is_file():
        return {}
    try:
        text = decode_table(path.read_bytes())
        separator = max(",;\t", key=text.partition("\n")[0].count)
        table = pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, skipinitialspace=True)
        table = check_credits(table)
        table["path"] = [plain_path(name, path.parent) for name in table.path]
        if twice := sorted(table.path[table.path.duplicated()]):
            raise ValueError(f"it names {twice[0]} twice")
        return table.set_index("path").to_dict("index")
    except ValueError as error:
        raise ValueError(f"{path} is no table of credits: {error}") from error


def decode_table(data: bytes) -> str:
    """A table's text: UTF-8 or, with its byte order mark, UTF-16; ValueError for anything else."""
    try:
        return data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{error}; save it as UTF-8 (Excel: \"CSV UTF-8\")") from None


def check_credits(table: pd.DataFrame) -> pd.DataFrame:
    """The table with columns path, title, author, licence, without those and rows that are empty; or ValueError."""
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError("it has more cells than columns; put quotes around text with commas")
    other_words = {"id": "path", "license": "licence"}
    table.columns = [other_words.get(name, name) for name in (str(name).strip().lower() for name in table.columns)]
    filled = table != ""
    table = table.loc[filled.any(axis=1), [not name.startswith("unnamed: ") or some
                                           for name, some in zip(table.columns, filled.any(), strict=True)]]
    if strange := set(table.columns) - {"path", "title", "author", "licence"}:
        raise ValueError(f"its column {min(strange)!r} is none of path (or id), title, author, licence (or license)")
    if list(table.columns).count("path") != 1:
        raise ValueError("it needs one column path (or id)")
    if table.columns.has_duplicates:
        raise ValueError(f"it has two columns {table.columns[table.columns.duplicated()][0]}")
    return table.copy()


def plain_path(name: str, folder: Path) -> str:
    """The id that "./cats/tom.png" or, unless a file is called so, "cats\\tom.png" stands for: "cats/tom.png"."""
    name = name.strip()
    if "\\" in name and not (folder / name).exists():
        name = name.replace("\\", "/")
    return posixpath.normpath(name)


def thumbnail(image: Image.Image, size_px: int = THUMBNAIL_PX) -> bytes:
    """An RGB picture as a JPEG whose longer side is at most `size_px`."""
    small = image.copy()
    small.thumbnail((size_px, size_px))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
