"""Captioned sets by name, in the folders that their archives unpack to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from kdlib.data.captioned.coco import read_coco
from kdlib.data.captioned.cub import read_cub
from kdlib.data.captioned.narratives import read_narratives
from kdlib.data.captioned.shards import read_shards
from kdlib.data.captioned.table import read_table
from kdlib.data.captioned.tally import Captioned, Tally


class Published(NamedTuple):
    """How a set is found in a folder.

    holds        what the folder should hold, in words
    read         of the folder and a tally, the captions
    many         whether a picture has several captions, whose ids are PICTURE-CAPTION
    """

    holds: str
    read: Callable[[Path, Tally], Iterator[Captioned]]
    many: bool


SETS = {
    "coco": Published("annotations/captions_val2014.json and val2014/", lambda folder, tally: read_coco(
        one_of(folder, "annotations/captions_val2014.json", "captions_val2014.json"), folder / "val2014", tally), True),
    "ln-coco": Published("coco_val_captions.jsonl and val2017/", lambda folder, tally: read_narratives(
        one_of(folder, "coco_val_captions.jsonl", "coco_val_localized_narratives.jsonl"), folder / "val2017",
        tally), True),
    "cub": Published("CUB_200_2011/ and text_c10/", lambda folder, tally: read_cub(
        folder / "CUB_200_2011", folder / "text_c10", tally), True),
    "cc3m": Published("Validation_GCC-1.1.0-Validation.tsv, and 00000/, ... as img2dataset makes them",
                      lambda folder, tally: read_table(
                          one_of(folder, "Validation_GCC-1.1.0-Validation.tsv", "Train_GCC-training.tsv"), folder,
                          tally, ("caption", "url")), False),
    "cc12m": Published("cc12m.tsv, and 00000/, ... as img2dataset makes them", lambda folder, tally: read_table(
        folder / "cc12m.tsv", folder, tally, ("url", "caption")), False),
    "webdataset": Published("the shards, *.tar", lambda folder, tally: read_shards(
        sorted(folder.glob("*.tar")), tally), False)}


def read_set(name: str, folder: str | Path, tally: Tally) -> Iterator[Captioned]:
    """Each whole caption of a set in a folder, with its picture.

    Raises ValueError for a name that isn't among SETS, and what its reader raises, with what the folder should hold.
    """
    if name not in SETS:
        raise ValueError(f"there is no reader of {name!r}; choose one of {', '.join(SETS)}")
    try:
        return SETS[name].read(Path(folder), tally)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"{error}; for {name}, {folder} should hold {SETS[name].holds}") from error


def picture_of(name: str, id: str) -> str:
    """Which picture the caption of an id belongs to."""
    return id.rpartition("-")[0] if SETS[name].many else id


def one_of(folder: Path, *names: str) -> Path:
    """The first of these files that is there, or the first of all."""
    return next((folder / name for name in names if (folder / name).is_file()), folder / names[0])
