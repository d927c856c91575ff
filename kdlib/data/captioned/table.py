"""Tables of addresses and captions (Conceptual Captions, CC12M, WIT), with the pictures that img2dataset fetched."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from kdlib.data.captioned.tally import Captioned, Tally, check_files

SHARD = 10_000  # rows in a folder of img2dataset's, by default
MAX_FIELD = 2 ** 24
DAMAGES = (EOFError, OSError, zlib.error, csv.Error)  # what a damaged table may raise


def read_table(table: str | Path, pictures: str | Path, tally: Tally, columns: Sequence[str] | None = None,
               caption: str = "caption") -> Iterator[Captioned]:
    """Each row's caption, in the table's order, with its picture.

    table     tab-separated, plain or .gz: Train_GCC-training.tsv, cc12m.tsv, wit_v1.train.all-00000-of-00010.tsv.gz
    pictures  what img2dataset made of it with --output_format files: 00000/000000000.jpg is of the first row, and
              00001/000010000.jpg of the 10,001st
    columns   the columns' names, for a table whose first line has none: ("caption", "url") for Conceptual Captions,
              ("url", "caption") for CC12M
    caption   the column to take: "caption_reference_description" of WIT

    An id is a row's number, from 0. The licence is "unknown": no table tells it. Raises FileNotFoundError for what
    isn't there, ValueError for a table without that column.
    """
    table, pictures = Path(table), Path(pictures)
    check_files(table, pictures)
    names = list(columns) if columns else first_line(table)
    if caption not in names:
        raise ValueError(f"{table} has no column {caption!r}, but {', '.join(names[:8]) or 'none at all'}; name "
                         "another, or say what the columns are")
    return of_rows(table, pictures, tally, names, names.index(caption), skip=0 if columns else 1)


def first_line(table: Path) -> list[str]:
    """The columns' names."""
    try:
        with open_table(table) as file:
            return next(rows_of(file), [])
    except DAMAGES as error:
        raise ValueError(f"{table} can't be read ({error}); fetch it again") from error


def of_rows(table: Path, pictures: Path, tally: Tally, names: list[str], place: int, skip: int) -> Iterator[Captioned]:
    """`read_table` of files that are there; the first `skip` lines are no rows, `place` is the caption's."""
    row = -1
    with open_table(table) as file:
        try:
            for row, cells in enumerate(islice(rows_of(file), skip, None)):
                if len(cells) != len(names):
                    tally.skip(str(row), "the row has another number of columns", f"{len(cells)}, not {len(names)}")
                    continue
                yield from tally.give(str(row), pictures / f"{row // SHARD:05}" / f"{row:09}.jpg", cells[place])
        except DAMAGES as error:
            tally.skip(f"after row {row}", "the table is cut short or damaged", str(error))


def open_table(path: Path):
    """A text file, plain or compressed; bytes that are no UTF-8 become question marks."""
    opened = gzip.open if path.suffix == ".gz" else open
    return opened(path, "rt", encoding="utf-8", errors="replace", newline="")


def rows_of(file) -> Iterator[list[str]]:
    """The cells of each line; quotation marks are letters like others."""
    csv.field_size_limit(MAX_FIELD)
    return csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
