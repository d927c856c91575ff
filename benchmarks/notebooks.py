"""Every notebook as a student runs it: by hand, at its defaults, after `make reproduce` and `make inputs`.

    python -m benchmarks.notebooks [--out benchmarks/notebooks.csv]

A row a notebook: its default preset, minutes of wall and of CPU time from the first to the last cell with the start of
its kernel, words of text, lines of code and exercises. One that fails has what it says in `failed`. A table that is
there is added to.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from benchmarks.choices import add_rows_missing
from benchmarks.machine import measured_now
from kdlib.compendium.declared import declared_parameters, read_notebook, read_stages
from kdlib.params import STAGE_RUN, find_root

CHECK = re.compile(r'^check\("', re.MULTILINE)


def contents(notebook: nbformat.NotebookNode) -> dict[str, int]:
    """Words of text, lines of code that are no blank ones, and exercises, by their checks and headings."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    codes = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    asked = [cell.source for cell in notebook.cells if "exercise" in cell.metadata.get("tags", [])]
    return {"words": sum(len(text.split()) for text in texts),
            "code_lines": sum(bool(line.strip()) for code in codes for line in code.splitlines()),
            "exercises": sum(len(re.findall(r"^### \d", text, re.MULTILINE)) for text in asked),
            "checks": sum(len(CHECK.findall(code)) for code in codes)}


def cpu_seconds() -> float:
    """CPU time of all processes that this one has started and seen the end of."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(path: Path, root: Path) -> dict:
    """Executes a notebook at its defaults, by hand; a row of the table."""
    notebook = read_notebook(path)
    row = {"preset": declared_parameters(notebook)["preset"][1], **contents(notebook)}
    os.environ.pop(STAGE_RUN, None)
    start, used = time.monotonic(), cpu_seconds()
    with TemporaryDirectory() as folder:
        try:
            papermill.execute_notebook(path, Path(folder) / path.name, cwd=root, kernel_name="python3",
                                       progress_bar=False)
            failed = ""
        except PapermillExecutionError as error:
            failed = f"{error.ename}: {error.evalue}"[:200]
    return row | {"minutes": round((time.monotonic() - start) / 60, 2),
                  "cpu_minutes": round((cpu_seconds() - used) / 60, 2), "failed": failed}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/notebooks.csv"))
    arguments, root = parser.parse_args(), find_root()
    paths = {stage.notebook: root / "notebooks" / f"{stage.notebook}.ipynb" for stage in read_stages(root).values()}
    print(add_rows_missing(arguments.out, measured_now("python -m benchmarks.notebooks"), paths,
                           lambda path: run(path, root)))
