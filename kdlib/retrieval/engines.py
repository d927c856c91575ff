"""Image search engines (paper section 4.2): what one finds for a text becomes the database H, for that text alone."""

from __future__ import annotations

import logging
import re
import sqlite3
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from PIL import Image

from kdlib.data.catalogue import THUMBNAIL_PX, Catalogue, thumbnail
from kdlib.data.drawings import render
from kdlib.data.stickers import load_stickers
from kdlib.encoder import Encoder
from kdlib.files import atomic_file, file_hash
from kdlib.params import find_root
from kdlib.retrieval import Index
from kdlib.types import Embeddings, is_visible

NUM_FOUND = 20  # pictures to ask an engine for
STOP_WORDS = {"a", "an", "and", "as", "at", "by", "for", "from", "in", "into", "is", "it", "its", "of", "on", "or",
              "that", "the", "this", "to", "with"}
INDEXED = ("title", "name", "keywords")
SHOWN = ("id", "title", "author", "licence", "style", "svg")

log = logging.getLogger(__name__)


class FoundPicture(NamedTuple):
    """A picture, and what a reader must be told about it; the source is the name of a set or the address of a page."""

    id: str
    image: Image.Image
    title: str
    author: str
    licence: str
    source: str


@runtime_checkable
class ImageSearchEngine(Protocol):
    """Whatever finds pictures for a text."""

    def search_images(self, text: str, n: int) -> list[FoundPicture]:
        """At most n pictures with distinct ids, best first; an empty list where nothing fits.

        Raises ValueError for an empty text or n < 1, OSError when the engine can't be reached.
        """
        ...


def index_from_engine(text: str, engine: ImageSearchEngine, encoder: Encoder, n: int = NUM_FOUND) -> Index:
    """A throw-away index of what an engine finds: `pipe(text, index=index_from_engine(text, engine, pipe.encoder))`.

    It carries a catalogue, in which a picture's style is its source. Where the engine finds fewer than n pictures it
    holds these (the log says so); to ask it for more neighbours than it holds is an error, as with any index.

    Raises ValueError when nothing was found, and what the engine raises.
    """
    found, name = engine.search_images(text, n), type(engine).__name__
    if not found:
        raise ValueError(f"{name} found no picture for {text!r}; say it in other words, or use an index")
    if len(found) < n:
        log.warning("%s found %d pictures for %r, of %d asked for", name, len(found), text, n)
    rows = [(p.id, p.title, p.source, p.author, p.licence, thumbnail(p.image)) for p in found]
    vectors = encoder.encode_images([p.image for p in found])
    return Index(Embeddings(vectors, np.array([p.id for p in found]), encoder.identity),
                 Catalogue.from_rows(rows))


def check_query(text: str, n: int) -> None:
    """Raises ValueError unless there is something to search for, and at least one picture to find."""
    if not is_visible(text):
        raise ValueError(f"the text to search for is {text!r}; say in words what to find, for example 'a red apple'")
    if n < 1:
        raise ValueError(f"n = {n} pictures can't be searched for; n must be at least 1")


# --- stickers ------------------------------------------------------------------------------------------------------

class StickerEngine:
    """Full-text search over the names of the bundled stickers; it looks at no picture and no embedding.

    root    the compendium's root; found from the working directory if not given
    cache   folder of the database, which is made at first use; reports/cache if not given
    styles, splits  only stickers of these; all if not given

    Raises FileNotFoundError when the stickers have not been fetched, ValueError for a style or split that isn't there.
    """

    def __init__(self, root: str | Path | None = None, cache: str | Path | None = None,
                 styles: Sequence[str] | None = None, splits: Sequence[str] | None = None):
        root = Path(root or find_root())
        self.database = sticker_database(root, Path(cache or root / "reports" / "cache"))
        self.filters = {name: values for name, values in [("style", styles), ("split", splits)] if values is not None}
        for name, values in self.filters.items():
            known = {value for value, in self._rows(f"SELECT DISTINCT {name} FROM stickers")}
            if unknown := sorted(set(values) - known):
                raise ValueError(f"the stickers have no {name} {unknown[0]!r}; choose from {', '.join(sorted(known))}")

    def search_images(self, text: str, n: int) -> list[FoundPicture]:
        """The n stickers that fit best by BM25, equal ones in the order of their ids; a drawing in one skin tone only.

        Stickers with all words of the text by their stems, or if there are none, those with any; stop words count only
        where there are no others. Raises ValueError for a text without a word, or n < 1.
        """
        check_query(text, n)
        words = [f'"{word}"' for word in query_words(text)]
        rows = self._match(" AND ".join(words), n) or self._match(" OR ".join(words), n)
        return [FoundPicture(id, render(svg, THUMBNAIL_PX), title, author, licence, style)
                for id, title, author, licence, style, svg in rows]

    def _match(self, query: str, n: int) -> list[tuple]:
        where = "".join(f" AND {name} IN ({', '.join('?' * len(these))})" for name, these in self.filters.items())
        return self._rows(f"SELECT {', '.join(SHOWN)} FROM stickers WHERE stickers MATCH ?{where} "
                          "ORDER BY bm25(stickers), id LIMIT ?",
                          query, *(value for values in self.filters.values() for value in values), n)

    def _rows(self, statement: str, *values) -> list[tuple]:
        try:
            return read_rows(self.database, statement, *values)
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self.database} can't be read ({error}); delete it, and it will be made anew") from error


def query_words(text: str) -> list[str]:
    """The distinct words of a text, stop words only where there are no others; ValueError where there is no word.

    They hold letters and digits alone, so that nothing in a text can be taken for the syntax of a query.
    """
    plain = re.sub(r"['’]s\b", "", unicodedata.normalize("NFKC", text).lower())
    words = list(dict.fromkeys(re.findall(r"[^\W_]+", plain)))
    if not words:
        raise ValueError(f"{text!r} has no word to search for; stickers are found by letters and digits")
    return [word for word in words if word not in STOP_WORDS] or words


def sticker_database(root: Path, folder: Path) -> Path:
    """The stickers' database in `folder`, written anew where it is missing, damaged or of another stickers.parquet."""
    source, path = root / "data" / "stickers.parquet", folder / "stickers.sqlite"
    wanted = file_hash(source) if source.is_file() else None
    try:
        found = read_rows(path, "SELECT sha256 FROM source")
    except sqlite3.DatabaseError:
        found = []
    if found != [(wanted,)]:
        write_database(path, load_stickers(root), wanted)
    return path


def read_rows(path: Path, statement: str, *values) -> list[tuple]:
    """What a statement selects from a database that it can't change."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(statement, values).fetchall()


def write_database(path: Path, stickers: pd.DataFrame, sha256: str) -> None:
    """Writes stickers for full-text search (SQLite's FTS5), atomically; of a drawing in several skin tones, one."""
    plain = stickers.skin_tone == ""
    alone = ~plain.groupby([stickers["style"], stickers.concept]).transform("any")
    kept = plain | (alone & ~stickers.duplicated(["style", "concept"]))
    columns = [*INDEXED, *(name for name in (*SHOWN, "split") if name not in INDEXED)]
    declared = ", ".join(name if name in INDEXED else f"{name} UNINDEXED" for name in columns)
    with atomic_file(path) as temporary, writing(temporary) as connection:
        connection.execute(f"CREATE VIRTUAL TABLE stickers USING fts5({declared}, tokenize = 'porter unicode61')")
        connection.executemany(f"INSERT INTO stickers VALUES ({', '.join('?' * len(columns))})",
                               stickers.loc[kept, columns].itertuples(index=False, name=None))
        connection.execute("CREATE TABLE source AS SELECT ? AS sha256", [sha256])


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a new database whose changes are kept when the block ends; OSError where the disk fails it."""
    try:
        with closing(sqlite3.connect(path)) as connection, connection:
            yield connection
    except sqlite3.OperationalError as error:
        raise OSError(str(error)) from error
