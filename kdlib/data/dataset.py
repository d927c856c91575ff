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
    """The pictures of a preset, memory-mapped, with what the data set of that name knows of them.

    "stickers"  those of the stage `images`; columns as of `kdlib.data.stickers.load_stickers`
    "world"     those of the stage `world`; columns as of `kdlib.data.world.make_world`

    Raises ValueError for another name, FileNotFoundError where the stage or the data are missing.
    """
    if name == "stickers":
        from kdlib.data.stickers import load_stickers

        folder = stage_folder(preset, "images", root)
        table = load_stickers(root).set_index("id").loc[read_json(folder / "ids.json")].reset_index()
    elif name == "world":
        folder = stage_folder(preset, "world", root)
        table = pd.read_parquet(folder / "world.parquet")
    else:
        raise ValueError(f"there is no data set {name!r}; choose stickers or world")
    return DataSet(table, np.load(folder / "pictures.npy", mmap_mode="r"))


def concatenate(*sets: DataSet) -> DataSet:
    """Data sets as one, in memory, with the columns that all of them have."""
    columns = [name for name in sets[0].table if all(name in other.table for other in sets)]
    return DataSet(pd.concat([one.table[columns] for one in sets], ignore_index=True),
                   np.concatenate([one.pictures for one in sets]))


def tokenizer_set(preset: str, root: str | Path | None = None) -> DataSet:
    """What the tokenizer trains on: training concepts, in colour and in all styles, one skin tone each; in memory."""
    stickers, world = load("stickers", preset, root), load("world", preset, root)
    table = stickers.table
    return concatenate(stickers.where(((table.split == "train") & (table.skin_tone == "")).to_numpy()),
                       world.where(coloured_lessons(world.table)))


def training_set(preset: str, root: str | Path | None = None) -> DataSet:
    """What generators train on, in memory: `training_rows` of the stickers, whose pictures the index holds, too.

    None of the world's pictures: with those that suit, drawings were worse (benchmarks/lessons.csv).
    """
    from kdlib.data.stickers import training_rows

    stickers = load("stickers", preset, root)
    return stickers.where(training_rows(stickers.table))


def coloured_lessons(world: pd.DataFrame) -> Bool[np.ndarray, " num_pictures"]:
    """Which of the world's pictures may be shown to what draws or rebuilds: those in colour, of no held-out concept."""
    return ((world.split == "train") & world.colour).to_numpy(bool)
