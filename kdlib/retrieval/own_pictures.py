"""From a folder of one's own pictures to embeddings and a catalogue, batch by batch, so that a killed run goes on."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from kdlib.data.catalogue import Catalogue, folder_catalogue, thumbnail
from kdlib.data.credits import CREDITS, read_credits
from kdlib.data.folder import TOLD_FORMATS, Skipped, id_of, list_files, read_pictures
from kdlib.files import PARTIAL, atomic_file, check_file, check_place, foreign_entry, locked
from kdlib.types import Embeddings

COLUMNS = ["id", "reason", "digest", "thumbnail", "vector"]  # of a shard; a file with a reason to skip it has no more
SHARD = re.compile(r"[0-9a-f]{64}\.parquet")
LOCK = "lock"  # in a workspace
REPORT_HEAD = (",".join(Skipped._fields) + "\n").encode()
log = logging.getLogger(__name__)


def embed_folder(folder: str | Path, encoder, batch_size: int = 64, skipped: list[Skipped] | None = None,
                 workspace: str | Path | None = None) -> tuple[Embeddings, Catalogue]:
    """Embeddings (float32) and catalogue of the pictures below a folder; ids are paths inside it ("cats/tom.png").

    folder      files as `kdlib.data.folder.list_files` finds and `read_picture` reads them
    encoder     a kdlib Encoder
    batch_size  files embedded at once
    skipped     if given, receives (path, reason) for every file that was left out: no picture, unreadable, gigantic, or
                the same picture (equal RGB pixels as read, in whatever format) as one that comes before it; and
                for every folder that can't be looked into
    workspace   if given, a folder that keeps finished batches: a run that was killed goes on from there, to the same
                bytes. A batch whose files changed in name, size or time is embedded anew. Yours to remove

    Titles are the files' stems, author and licence "unknown", unless a file credits.csv in the folder says otherwise
    (`kdlib.data.credits.read_credits`). Progress goes to stderr.

    Raises NotADirectoryError for no folder, ValueError when it has no readable picture or a faulty credits.csv.
    """
    if workspace is None:
        with tempfile.TemporaryDirectory() as temporary:
            return embed_folder(folder, encoder, batch_size, skipped, temporary)
    if batch_size < 1:
        raise ValueError(f"batch_size = {batch_size} must be at least 1")
    folder, credits = Path(folder), read_credits(folder)
    paths, closed = list_files(folder)
    paths = [path for path in paths if path != folder / CREDITS]
    batches = [paths[start:start + batch_size] for start in range(0, len(paths), batch_size)]
    table = mark_duplicates(embed_batches(batches, folder, encoder, Path(workspace)))
    kept, left_out = table[table.reason == ""], table[table.reason != ""]
    left_out = sorted([*closed, *map(Skipped, left_out.id, left_out.reason)])
    if skipped is not None:
        skipped += left_out
    if kept.empty:
        first = "".join(f"; the first: {path} ({reason})" for path, reason in left_out[:1])
        raise ValueError(f"{folder} holds no readable picture ({TOLD_FORMATS}); {len(left_out)} files skipped{first}")
    if absent := sorted(credits.keys() - set(kept.id)):
        log.warning("credits.csv names %d pictures that the index lacks; the first: %s", len(absent), absent[0])
    if skipped is None and left_out:
        log.warning("%d files skipped; the first: %s (%s)", len(left_out), *left_out[0])
    vectors = np.stack([np.frombuffer(vector, np.float32) for vector in kept.vector])
    return (Embeddings(vectors, kept.id.to_numpy(str), encoder.identity),
            folder_catalogue(zip(kept.id, kept.thumbnail, strict=True), credits))


def embed_batches(batches: Sequence[Sequence[Path]], folder: Path, encoder, workspace: Path) -> pd.DataFrame:
    """A row of COLUMNS for each file, in order; a batch whose shard lies in `workspace` is not embedded again."""
    shards = [workspace / shard_name(batch, folder, encoder.identity) for batch in batches]
    tables = [load_shard(shard) for shard in shards]
    missing = [n for n, table in enumerate(tables) if table is None]
    finished = sum(len(table) for table in tables if table is not None)
    reading = look_ahead(lambda n: read_batch(batches[n], folder), missing, len(os.sched_getaffinity(0)))
    with tqdm(total=sum(map(len, batches)), initial=finished, desc="index", unit="picture") as progress:
        for n, (rows, pictures) in zip(missing, reading, strict=True):
            vectors = iter(encoder.encode_images(pictures) if pictures else ())
            tables[n] = pd.DataFrame([(*row, b"" if row[1] else np.float32(next(vectors)).tobytes()) for row in rows],
                                     columns=COLUMNS)
            with atomic_file(shards[n]) as temporary:
                tables[n].to_parquet(temporary)
            progress.update(len(rows))
    return pd.concat(tables) if tables else pd.DataFrame(columns=COLUMNS)


def read_batch(paths: Sequence[Path], folder: Path) -> tuple[list[tuple], list[Image.Image]]:
    """(a row of COLUMNS but the vector for each file, the pictures of those that could be read)."""
    rows, pictures = [], []
    for path, picture in zip(paths, read_pictures(paths), strict=True):
        id = id_of(path, folder)
        if id != path.relative_to(folder).as_posix():
            rows.append((id, "its name is not UTF-8; rename it", "", b""))
        elif isinstance(picture, str):
            rows.append((id, picture, "", b""))
        else:
            digest = hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()
            rows.append((id, "", digest, thumbnail(picture)))
            pictures.append(picture)
    return rows, pictures


def mark_duplicates(table: pd.DataFrame) -> pd.DataFrame:
    """Gives a reason to every readable picture that equals one before it."""
    first = {}
    reasons = [reason or ("" if first.setdefault(digest, id) == id else f"the same picture as {first[digest]}")
               for id, reason, digest in zip(table.id, table.reason, table.digest, strict=True)]
    return table.assign(reason=reasons)


def look_ahead(function: Callable, items: Iterable, num_threads: int) -> Iterator:
    """map(function, items) in threads, that many items ahead of the caller."""
    with ThreadPoolExecutor(num_threads) as pool:
        ahead = deque()
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) > num_threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def shard_name(paths: Sequence[Path], folder: Path, encoder_id: str) -> str:
    """A batch's file name, from all that its shard depends on: the encoder, and each file's name, size and time."""
    stats = [path.stat() if os.path.exists(path) else None for path in paths]
    files = [(str(path.relative_to(folder)), stat and (stat.st_size, stat.st_mtime_ns))
             for path, stat in zip(paths, stats, strict=True)]
    return hashlib.sha256(json.dumps([encoder_id, files]).encode()).hexdigest() + ".parquet"


def load_shard(path: Path) -> pd.DataFrame | None:
    """A finished batch, or None when it is not there or damaged."""
    try:
        return pd.read_parquet(path) if path.is_file() else None
    except (OSError, ValueError):
        return None


@contextmanager
def own_workspace(folder: str | Path) -> Iterator[Path]:
    """A folder for `embed_folder` that this process holds; what was kept in it is removed if the block ends well.

    Raises ValueError where another process holds it, or something else has its name.
    """
    folder = Path(folder)
    check_workspace(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOCK).touch()
    try:
        with locked(folder / LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB):
            try:
                yield folder
                for path in folder.iterdir():
                    if SHARD.fullmatch(path.name):
                        path.unlink()
                    elif is_left_over(path):
                        shutil.rmtree(path, ignore_errors=True)
            finally:
                (folder / LOCK).unlink(missing_ok=True)
                with suppress(OSError):  # it isn't empty: there is work to go on with, or something came into it
                    folder.rmdir()
    except BlockingIOError:
        raise ValueError(f"another process works in {folder}; wait for its end") from None


def is_left_over(path: Path) -> bool:
    """Whether this is what a process that was killed wrote a batch in, and holds nothing else."""
    batch = path.name.removeprefix(".").rsplit(".", 2)[0]
    return bool(PARTIAL.fullmatch(path.name) and SHARD.fullmatch(batch)) and path.is_dir() and not path.is_symlink() \
        and foreign_entry(path, {batch}) is None


def check_workspace(folder: Path) -> None:
    """Raises ValueError or OSError for a workspace that can't be had, or holds what `embed_folder` doesn't write."""
    check_place(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is no folder, and work is to be kept in one of this name; move it away")
    strange = [path.name for path in folder.glob("*") if not (
        (SHARD.fullmatch(path.name) or path.name == LOCK) and path.is_file()
        or is_left_over(path))]
    if strange:
        raise ValueError(f"{folder} holds {min(strange)}, and work is to be kept in it; move that away")


def check_report(path: Path) -> None:
    """Raises ValueError or OSError where a report can't be written, or a file of its name is none."""
    check_file(path)
    if path.exists() and path.read_bytes()[:len(REPORT_HEAD)] != REPORT_HEAD:
        raise ValueError(f"{path} is no list of skipped files, and would be replaced by one; move it away")


def save_report(path: str | Path, skipped: Iterable[Skipped]) -> None:
    """Writes the files that were left out as CSV: path, reason; raises as `check_report` does."""
    check_report(Path(path))
    with atomic_file(path) as temporary:
        pd.DataFrame(skipped, columns=list(Skipped._fields)).to_csv(temporary, index=False, lineterminator="\n")
