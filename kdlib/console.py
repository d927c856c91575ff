"""What the commands share: errors as one line, text that does nothing to a terminal, and no other checkout's code."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

SMALL_BATCH = 8  # pictures
ARGUMENTS = ("k", "num_images", "num_candidates", "guidance_scale", "num_steps", "seed", "bytes_per_vector",
             "num_pairs", "strength", "text_scale", "picture_scale")


def choose_threads(num_pictures: int) -> None:
    """One thread for a batch so small that two don't pay; to be called before PyTorch is imported.

    On two cores one thread drew 1, 2, 4 and 8 pictures in 0.6, 0.6, 0.9 and 1.0 of the time that two took (16 in 1.2).
    The user's own OMP_NUM_THREADS stays.
    """
    if num_pictures <= SMALL_BATCH:
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@contextmanager
def clear_errors(k: str = "--k") -> Iterator[None]:
    """Turns the library's errors into one line on stderr and exit status 2; its warnings are lines there, too.

    `k` is how this command calls k.
    """
    logging.lastResort.setFormatter(OneLine())
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has seen enough
        raise
    except (ValueError, OSError) as error:
        close_broken_output()
        full = getattr(error, "errno", None) == errno.ENOSPC and error.filename is None  # kdlib.files names its own
        told = f"the output can't be written ({error})" if full else str(error)
        typer.echo(f"kd: {printable(as_typed(' '.join(told.split()), k))}", err=True)
        raise typer.Exit(2) from None
    except (MemoryError, RuntimeError) as error:
        from kdlib.files import is_out_of_memory  # not before a command has something to do

        if not is_out_of_memory(error):
            raise
        typer.echo("kd: memory has run out; ask for fewer pictures at once", err=True)
        raise typer.Exit(2) from None


def as_typed(message: str, k: str) -> str:
    """A message in which the library's argument names are the command's options."""
    options = {name: f"--{name.replace('_', '-')}" for name in ARGUMENTS} | {"k": k}
    return re.sub(rf"\b({'|'.join(options)})(?= (=|<=|is) )", lambda found: options[found[1]], message)


def close_broken_output() -> None:
    """Drops what stdout can't take, so that it isn't tried again when the interpreter ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class OneLine(logging.Formatter):
    """Warnings as `printable` lines."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(" ".join(record.getMessage().split()))


def printable(text: str) -> str:
    """Text that is one line and does nothing to a terminal, whatever a file's name, a title or an author is."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def check_own_code(script: Path) -> None:
    """Raises ValueError where another checkout's code runs: a copied environment still names the one it was made for.

    script  what was called, such as .venv/bin/kd
    """
    from kdlib.params import find_root

    environment, code = script.resolve().parent.parent, Path(__file__).resolve().parent
    if (environment / "pyvenv.cfg").is_file() and environment != Path(sys.prefix).resolve():
        root = environment.parent
    else:
        try:
            root = find_root()
        except FileNotFoundError:  # a saved pipeline needs none
            return
        if not (root / "kdlib" / "cli.py").is_file() or (root / "kdlib").resolve() == code:
            return
    raise ValueError(f"this would run the code in {code}, not that of {root}; run `make environment` in {root}, and "
                     f"call {root}/.venv/bin/kd")
