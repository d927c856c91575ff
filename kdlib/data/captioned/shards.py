"""WebDataset shards: tar files in which a picture, its caption and what else is known of it lie side by side."""

from __future__ import annotations

import json
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from kdlib.data.captioned.tally import UNKNOWN, Captioned, Tally, check_files, spdx

PICTURES = ("jpg", "jpeg", "png", "webp", "gif")
WANTED = (*PICTURES, "txt", "json")
MAX_BYTES = 50_000_000  # of one member


def read_shards(shards: Sequence[str | Path], tally: Tally) -> Iterator[Captioned]:
    """Each sample, shard by shard, as img2dataset and others write them: 000000000.jpg, 000000000.txt, 000000000.json.

    The caption is that of .txt, or "caption" in the .json; the licence "license" in it, else "unknown". An id is
    "SHARD/KEY". A shard that is cut short is given as far as it goes, and listed. Pickled members are never opened.
    Raises FileNotFoundError for a shard that isn't there, ValueError for none at all.
    """
    shards = [Path(shard) for shard in shards]
    if not shards:
        raise ValueError("there are no shards to read; name tar files")
    check_files(*shards)
    return (found for shard in shards for found in of_shard(shard, tally))


def of_shard(shard: Path, tally: Tally) -> Iterator[Captioned]:
    """All samples of a shard; only one is in memory at a time."""
    key, sample = None, {}
    try:
        with tarfile.open(shard, "r|*") as archive:
            for member in archive:
                archive.members = []  # it would keep them all
                name, _, kind = member.name.rpartition("/")[2].partition(".")
                folder = member.name.rpartition("/")[0]
                if not member.isfile() or not name:
                    continue
                if (folder, name) != key:
                    yield from of_sample(shard, key, sample, tally)
                    key, sample = (folder, name), {}
                if kind.lower() in WANTED:
                    sample[kind.lower()] = content(archive, member)
            if not archive.fileobj.read(tarfile.BLOCKSIZE):  # a whole one ends in two blocks of zeros
                raise EOFError("its end is missing")
    except (tarfile.TarError, EOFError, OSError) as error:
        tally.skip(shard.name, "the shard is cut short or damaged", str(error))
    yield from of_sample(shard, key, sample, tally)


def content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | None:
    """A member's bytes, or None for one that is too large."""
    return archive.extractfile(member).read() if member.size <= MAX_BYTES else None


def of_sample(shard: Path, key: tuple[str, str] | None, sample: dict[str, bytes | None],
              tally: Tally) -> list[Captioned]:
    """One sample, if it is whole."""
    if key is None:
        return []
    id = f"{shard.stem}/{key[1]}"
    if None in sample.values():
        tally.skip(id, "a file of the sample is too large", f"more than {MAX_BYTES:,} bytes")
        return []
    try:
        told = json.loads(sample.get("json", b"{}"))
        text = sample["txt"].decode() if "txt" in sample else None
    except (ValueError, RecursionError) as error:
        tally.skip(id, "the sample's text can't be read", str(error))
        return []
    told = told if isinstance(told, dict) else {}
    picture = next((sample[kind] for kind in PICTURES if kind in sample), None)
    if picture is None:
        tally.skip(id, "the picture is missing", str(told.get("error_message") or ""))
        return []
    with tempfile.NamedTemporaryFile() as file:
        file.write(picture)
        file.flush()
        return tally.give(id, Path(file.name), told.get("caption") if text is None else text,
                          spdx(str(told.get("license") or UNKNOWN)))
