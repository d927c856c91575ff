"""The kernel that a stage runs in: this interpreter, free of the user's settings, ended by Ctrl-C without a word."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from kdlib.params import STAGE_RUN

SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
MAX_FOLDER_BYTES = 60  # leaves room for the sockets of processes that a kernel starts
LEAKS = ("PYTHONOPTIMIZE", "MPLBACKEND")  # settings of the user that change or fail what a stage makes


def short_folder() -> str:
    """The system's folder for temporary files, or another where its name leaves no room for that of a socket.

    A socket's path has at most 107 bytes. Raises ValueError where no such folder can be written to.
    """
    for folder in (tempfile.gettempdir(), *SHORT_FOLDERS):
        if len(os.fsencode(folder)) <= MAX_FOLDER_BYTES and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise ValueError(f"{tempfile.gettempdir()} is too long for a socket's path (at most {MAX_FOLDER_BYTES} bytes), and "
                     f"none of {', '.join(SHORT_FOLDERS)} can be written to; set TMPDIR to a short folder")


@contextmanager
def own_kernel() -> Iterator[Path]:
    """Makes `python3` mean this interpreter, whatever kernels are installed, with no settings of the user.

    Yields a folder that only this user can read, for the kernel's sockets: a TCP port that was free when it was chosen
    may be another kernel's when it is opened.
    """
    short = short_folder()
    with tempfile.TemporaryDirectory(dir=short) as folder:
        spec = Path(folder, "kernels", "python3")
        spec.mkdir(parents=True)
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        description = json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"})
        (spec / "kernel.json").write_text(description, encoding="utf-8")
        before = dict(os.environ)
        os.environ.update(JUPYTER_PATH=folder, IPYTHONDIR=str(Path(folder, "ipython")), PYTHONHASHSEED="0",
                          PYTHONUTF8="1", TMPDIR=short, **{STAGE_RUN: "1"})
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that wait leave the cores to others
        for name in LEAKS:
            os.environ.pop(name, None)
        try:
            yield Path(folder)
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextmanager
def quiet_interrupt() -> Iterator[None]:
    """Ctrl-C kills the kernel first: asked to end in the midst of a cell, it prints tracebacks of its own."""
    def end(*_) -> None:
        for child in psutil.Process().children(recursive=True):
            child.kill()
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # a job in the background may ignore it
        signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
