"""Data sets by name: pictures, and what is known of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, UInt8

from kdlib.files import read_json
from kdlib.params import stage_folder


@dataclass(frozen=True)
class DataSet:
    """Pictures in a fixed order, and a table with a row for each.

    table     indexed from 0 as the pictures are; columns id, title, concept, style, split, author, licence, ...
    pictures  (num_pictures, height, width, 3), often memory-mapped
    """

    table: pd.DataFrame
    pictures: UInt8[np.ndarray, "num_pictures height width 3"]

    @property
    def ids(self) -> np.ndarray:
        """(num_pictures,) str: a picture is known by its id, never by its row."""
        return self.table.id.to_numpy(str)

    def rows(self, ids: Sequence | np.ndarray) -> Int[np.ndarray, "*shape"]:
        """Where the pictures of some ids are, in the shape of `ids`. Raises ValueError for an id that is not here."""
        ids = np.asarray(ids, dtype=str)
        rows = pd.Index(self.ids).get_indexer(ids.ravel())
        if (rows < 0).any():
            raise ValueError(f"the data set has no picture {str(ids.ravel()[rows < 0][0])!r}")
        return rows.reshape(ids.shape)

    def look_up(self, column: str, ids: Sequence | np.ndarray) -> np.ndarray:
        """A column of the table for some ids, in the shape of `ids`; raises as `rows`."""
        return self.table[column].to_numpy()[self.rows(ids)]

    def pictures_of(self, ids: Sequence | np.ndarray) -> UInt8[np.ndarray, "*shape height width 3"]:
        """The pictures of some ids, in memory; raises as `rows`."""
        return np.asarray(self.pictures[self.rows(ids)])

    def where(self, mask: Bool[np.ndarray, " num_pictures"]) -> DataSet:
        """Those of a mask, in memory, numbered anew."""
        return DataSet(self.table[mask].reset_index(drop=True), np.asarray(self.pictures[mask]))

    def __len__(self) -> int:
        return len(self.table)


def load(name: str, preset: str, root: str | Path | None = None) -> DataSet:
    """The pictures of a preset's stage `images`, memory-mapped, with what the data set of that name knows of them.

    "stickers" is the only name as yet: the columns are those of `kdlib.data.stickers.load_stickers`. Raises ValueError
    for another name, FileNotFoundError where the stage or the data are missing.
    """
    from kdlib.data.stickers import load_stickers

    if name != "stickers":
        raise ValueError(f"there is no data set {name!r}; choose stickers")
    images = stage_folder(preset, "images", root)
    table = load_stickers(root).set_index("id").loc[read_json(images / "ids.json")].reset_index()
    return DataSet(table, np.load(images / "pictures.npy", mmap_mode="r"))
