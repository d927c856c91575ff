"""Files and folders that are whole or not there at all, and never in the place of something that isn't ours."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

BESIDE = re.compile(r"\.tmp\w{6}|.+-journal")  # files that safetensors and SQLite write beside their own
PARTIAL = re.compile(r"\..*\.[a-z0-9_]{8}\.partial")  # a folder in which something is being written
MAX_NAME_BYTES, MAX_PATH_BYTES = 230, 3500  # Linux's are 255 and 4096; what is written beside it has longer names


class Kind(NamedTuple):
    """A kind of folder that we write, and what tells that an existing one is wholly ours.

    title   what messages call it: "index"
    marker  the JSON file in it that says its kind; "" where there is none
    label   what the marker says under "kind"
    files   the paths of all files that it may hold: "config.json", "index/ids.json"
    """

    title: str
    marker: str
    label: str
    files: frozenset[str]


# --- what may be replaced ------------------------------------------------------------------------------------------

def check_file(path: str | Path) -> None:
    """Raises ValueError or OSError, naming the fix, where `atomic_file` would: ask before the work is done."""
    path = Path(path)
    check_place(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is a folder or a device, where a file is to be written; choose another name")


def check_folder(path: str | Path, kind: Kind) -> None:
    """The same for `atomic_folder`: a folder that exists must be empty, or of this kind and hold nothing else."""
    path = Path(path)
    check_place(path)
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ValueError(f"{str(path)!r} is no name for a folder of ours: it is not UTF-8") from None
    check_replaced(path, kind)
    if not path.exists() or path.is_dir() and not any(path.iterdir()):
        return
    if not path.is_dir() or not is_marked(path, kind):
        raise ValueError(f"{path} exists and is no {kind.title}; choose another name")
    if foreign := foreign_entry(path, kind.files):
        raise ValueError(f"{path} holds {foreign}, which is no part of its {kind.title}; move it away, or choose "
                         "another name")


def check_place(path: Path) -> None:
    """Raises ValueError or OSError for a name that can't be written, a symbolic link, or a parent that forbids it."""
    if path.name in ("", "..") or "\0" in str(path):
        raise ValueError(f"{str(path)!r} is no name to write to; add the name of a file or folder")
    try:
        sizes = [len(os.fsencode(part)) for part in path.absolute().parts]
    except UnicodeEncodeError:
        raise ValueError(f"{str(path)!r} is no name to write to: it is not valid Unicode") from None
    if sizes[-1] > MAX_NAME_BYTES or max(sizes) > 255 or sum(sizes) + len(sizes) > MAX_PATH_BYTES:
        raise ValueError(f"{str(path)[:60]}... is too long; choose a name of at most {MAX_NAME_BYTES} bytes")
    if path.is_symlink():
        raise ValueError(f"{path} is a symbolic link, and would be replaced; name what it leads to, or something else")
    parent = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not parent.is_dir():
        raise NotADirectoryError(f"{path} can't be written: {parent} is no folder; choose another place")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} can't be written: you may not change {parent}; choose another place")


def is_marked(folder: Path, kind: Kind) -> bool:
    """Whether the folder's marker says that it is of this kind."""
    if not kind.marker:
        return True
    marker = folder / kind.marker
    with suppress(ValueError, OSError):
        content = read_json(marker) if marker.is_file() else None
        return isinstance(content, dict) and content.get("kind") == kind.label
    return False


def foreign_entry(folder: Path, files: Collection[str]) -> str | None:
    """The first thing in a folder that is neither one of these files nor a folder of theirs; links never are."""
    folders = {parent.as_posix() for file in files for parent in PurePosixPath(file).parents}
    for path in sorted(folder.rglob("*")):
        if PARTIAL.fullmatch(path.parent.name) and BESIDE.fullmatch(path.name) and path.is_file():
            continue
        inside = path.relative_to(folder)
        known = PurePosixPath(*[part for part in inside.parts if not PARTIAL.fullmatch(part)]).as_posix()
        allowed = folders if path.is_dir() else files if path.is_file() else ()
        if path.is_symlink() or known not in allowed:
            return inside.as_posix()
    return None


# --- writing -------------------------------------------------------------------------------------------------------

@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block ends without an error.

    An existing regular file is replaced, nothing else is: raises as `check_file` does, before the block. OSErrors of
    the block that name no file name this one.
    """
    path = Path(path)
    check_file(path)
    with partial(path, {path.name}) as temporary:
        try:
            yield temporary
        except OSError as error:
            if error.filename is not None:
                raise
            named = Path(*(part for part in path.parts if not PARTIAL.fullmatch(part)))
            raise OSError(f"{named} can't be written ({error}); is the disk full?") from error
        check_file(path)
        os.replace(temporary, path)


@contextmanager
def atomic_folder(path: str | Path, kind: Kind | None = None) -> Iterator[Path]:
    """Yields a new folder beside `path`; renames it to `path` when the block ends without an error.

    An existing folder is replaced only if it is empty or wholly of the same kind: raises as `check_folder` does, before
    the block. Without a kind it is, if the new one has a file of each name that it holds.

    There is a moment between two renames in which `path` isn't there. Who is killed in it leaves the old folder under
    the name .NAME.replaced, and the next call puts it back.
    """
    path = Path(path)
    if kind:
        with locked(path.parent) if path.parent.is_dir() else nullcontext():  # another process may be replacing it
            restore(path, kind)
            check_folder(path, kind)
    with partial(path, kind.files if kind else ()) as temporary:
        temporary.mkdir()
        yield temporary
        written = [file.relative_to(temporary).as_posix() for file in temporary.rglob("*") if file.is_file()]
        replace_folder(temporary, path, kind or Kind("result", "", "", frozenset(written)))


@contextmanager
def partial(path: Path, files: Collection[str]) -> Iterator[Path]:
    """A place in which to write `path`: in a hidden folder beside it, which this process holds, gone at the end.

    What processes that were killed left there is removed, where it holds nothing but `files`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    ours = {path.name, *(f"{name}/{file}" for name in (path.name, "replaced") for file in files)}
    with ExitStack() as held:
        with locked(path.parent):
            for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
                with suppress(OSError), locked(left, fcntl.LOCK_EX | fcntl.LOCK_NB) as dead:
                    if dead and PARTIAL.fullmatch(left.name) and not (left.is_symlink() or foreign_entry(left, ours)):
                        shutil.rmtree(left, ignore_errors=True)
            holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
            held.enter_context(locked(holder))
        try:
            yield holder / path.name
        finally:
            shutil.rmtree(holder, ignore_errors=True)


def replace_folder(new: Path, path: Path, kind: Kind) -> None:
    """Renames `new`, in its holder, to `path`, and what was there into the holder."""
    with locked(path.parent):
        restore(path, kind)
        check_folder(path, kind)
        old = replaced(path)
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            restore(path, kind)
            raise
        if old.exists():
            old.rename(new.with_name("replaced"))


def restore(path: Path, kind: Kind) -> None:
    """Puts back what was to be replaced by a process that was killed between its renames."""
    check_place(path)
    check_replaced(path, kind)
    old = replaced(path)
    if not os.path.lexists(old):
        return
    if os.path.lexists(path):
        shutil.rmtree(old)
    else:
        old.rename(path)


def check_replaced(path: Path, kind: Kind) -> None:
    """Raises ValueError where something else has the name of what is being replaced."""
    old = replaced(path)
    if os.path.lexists(old) and (old.is_symlink() or not old.is_dir() or not is_marked(old, kind)
                                 or foreign_entry(old, kind.files)):
        raise ValueError(f"{old} is in the way, and is no {kind.title} that was being replaced; move it away")


def replaced(path: Path) -> Path:
    """What a folder is called in the moment in which it is replaced."""
    return path.with_name(f".{path.name}.replaced")


@contextmanager
def locked(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[bool]:
    """Holds a file or folder until the block or the process ends; others wait, or with LOCK_NB get a BlockingIOError.

    Yields whether it is held: not on a file system that can't lock. To write atomically into a folder takes this lock
    on it for a moment: who holds one must not.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, how)
            held = True
        except BlockingIOError:
            raise
        except OSError:
            held = False
        yield held
    finally:
        os.close(handle)


# --- contents ------------------------------------------------------------------------------------------------------

def write_json(path: str | Path, value) -> None:
    """Writes `value` as readable JSON, atomically, ending in a newline."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path):
    """Reads a JSON file; raises ValueError naming the file when it is damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); restore it, for example with `dvc pull`") from error


def save_array(path: str | Path, array: np.ndarray) -> None:
    """Writes a .npy file atomically."""
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array, allow_pickle=False)


def array_hash(*arrays: np.ndarray) -> str:
    """16 hex digits of the SHA-256 over dtypes, shapes and contents of arrays (of numbers or of text)."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python, or PyTorch by a RuntimeError of its own, could not get memory."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and bool(re.search("allocate memory|out of memory", str(error))))
