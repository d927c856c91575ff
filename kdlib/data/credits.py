"""Whose a folder's pictures are, as its file credits.csv says."""

from __future__ import annotations

import codecs
import io
import posixpath
from pathlib import Path

import pandas as pd

CREDITS = "credits.csv"


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
