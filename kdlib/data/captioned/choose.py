"""A fair choice of a set's captions, in little memory: first all are listed, then only the chosen ones are opened."""

from __future__ import annotations

import hashlib
import heapq
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from PIL import Image

from kdlib.data.captioned.tally import UNKNOWN, Captioned, Tally, readable
from kdlib.types import is_visible

NO_PICTURE = Image.new("RGB", (1, 1))


class Listing(Tally):
    """Lists the captions whose files are there, and opens none."""

    def give(self, id: str, path: Path, caption: object, licence: str = UNKNOWN) -> list[Captioned]:
        """As `Tally.give`, with an empty picture, and whether it can be read isn't asked."""
        if not isinstance(caption, str) or not is_visible(caption):
            self.skip(id, "there is no caption")
            return []
        if not os.path.isfile(path):
            self.skip(id, "the picture is missing", path.name)
            return []
        self.num_read += 1
        return [Captioned(id, NO_PICTURE, readable(caption), licence)]


class Chosen(Tally):
    """Opens only the captions of some ids, and of these not the first `num_passed`, which an earlier run has done.

    ids     the chosen ones
    num_met how many of these came by
    passed  those that were passed by
    """

    def __init__(self, ids: Collection[str], num_passed: int = 0):
        super().__init__()
        self.ids, self.num_passed, self.num_met, self.passed = ids, num_passed, 0, []

    def give(self, id: str, path: Path, caption: object, licence: str = UNKNOWN) -> list[Captioned]:
        """As `Tally.give`, of a chosen caption; nothing of others."""
        if id not in self.ids:
            return []
        self.num_met += 1
        if self.num_met > self.num_passed:
            return super().give(id, path, caption, licence)
        self.passed.append(id)
        return []


def choose(captions: Iterator[Captioned], num: int, seed: int) -> set[str]:
    """The ids of at most `num` captions: those with the smallest hash of seed and id, whatever their order.

    Holds `num` ids. Raises ValueError for a number below 1.
    """
    if num < 1:
        raise ValueError(f"num = {num} captions can't be chosen; give at least 1")
    best: list[tuple[int, str]] = []
    for one in captions:
        entry = (-int.from_bytes(hashlib.sha256(f"{seed} {one.id}".encode()).digest()[:8]), one.id)
        if len(best) < num:
            heapq.heappush(best, entry)
        else:
            heapq.heappushpop(best, entry)
    return {id for _, id in best}
