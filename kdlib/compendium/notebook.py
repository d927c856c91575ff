"""Runs one notebook of the compendium as a stage: parameters from params.yaml in, an executed notebook out.

    python -m kdlib.compendium.notebook notebooks/02_encoder.ipynb cpu
    python -m kdlib.compendium.notebook notebooks/10_variant.ipynb cpu conditioning=concat   an item of its matrix

What is written has no times, random ids, progress bars or addresses in it, so that two runs hash equal.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import io
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nbformat
from PIL import Image

from kdlib.compendium.declared import declared_parameters, read_notebook, read_stage
from kdlib.compendium.kernel import own_kernel, quiet_interrupt
from kdlib.files import atomic_file
from kdlib.params import find_root, load_preset

METADATA = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python", "pygments_lexer": "ipython3"}}
FOLDED = "hide-input"  # the report folds the code of a cell with this tag; so does JupyterLab, told as `normalise` does
WIDGET = "application/vnd.jupyter.widget-view+json"
ADDRESS = re.compile(r"\b0x[0-9a-f]{8,16}\b")
ITEM_TYPES = {"int": int, "float": float, "str": str}


def parse_item(texts: Sequence[str], declared: dict[str, tuple[str, object]]) -> dict[str, int | float | str]:
    """An item of a stage's matrix, from texts "name=value", each value of the type that the notebook declares.

    Raises ValueError for a text without "=", a name that is not declared or given twice, a type other than int, float
    and str, or a value that is not of its type or not fit for a file's name.
    """
    item = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in declared.keys() - {"preset"} - item.keys():
            raise ValueError(f"{text!r} is no item: write name=value, once, with a name that the notebook's parameters "
                             f"cell declares: {', '.join(declared)}")
        kind = declared[name][0]
        if kind not in ITEM_TYPES or not re.fullmatch(r"[\w.+-]+", value):
            raise ValueError(f"{text!r} can't be an item: {name} is declared {kind}; it takes int, float or str, and a "
                             "value of letters, digits and _ . + -")
        try:
            item[name] = ITEM_TYPES[kind](value)
        except ValueError:
            raise ValueError(f"{text!r}: {name} is declared {kind}, and {value!r} is none") from None
    return item


def stage_parameters(preset: str, values: dict, stage: str, declared: set[str], item: dict | None = None) -> dict:
    """What a notebook receives: `preset`, the preset's shared scalars that it declares, its stage's group, an item.

    A notebook that declares `train` is told to train: by hand such a notebook looks at what was published.

    values    the preset's part of params.yaml
    declared  names in the notebook's parameters cell
    item      values of this run of the stage (see `parse_item`); they take the place of the group's
    Raises ValueError when params.yaml has no such stage, or the two sets of names differ.
    """
    if not isinstance(values.get(stage), dict):
        raise ValueError(f"params.yaml has no group {stage!r} in preset {preset!r}; add one (`{stage}: {{}}` will do)")
    shared = {name: value for name, value in values.items() if not isinstance(value, dict) and name in declared}
    trains = {"train": True} if "train" in declared else {}
    given = {"preset": preset, **trains, **shared, **values[stage], **(item or {})}
    if unknown := sorted(set(given) - declared):
        raise ValueError(f"the notebook's parameters cell does not declare {', '.join(unknown)} of {preset}.{stage}")
    if missing := sorted(declared - set(given)):
        raise ValueError(f"params.yaml has no {', '.join(missing)} in {preset}.{stage}, which the notebook declares")
    return given


def _small_png(encoded: str) -> str:
    """An opaque PNG in base64 with a palette of 256 colours, a third of the size; one that has a palette as it is."""
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    if picture.mode == "P":
        return encoded
    buffer = io.BytesIO()
    picture.convert("RGB").quantize(256).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _clean_output(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """One output without addresses and transient parts, its PNG small; None for progress (stderr, widgets)."""
    if output.get("name") == "stderr" or WIDGET in output.get("data", {}):
        return None
    output.pop("transient", None)
    if "text" in output:
        output["text"] = ADDRESS.sub("0x…", output["text"])
    for mime, value in output.get("data", {}).items():
        if mime.startswith("text/") and isinstance(value, str):
            output["data"][mime] = ADDRESS.sub("0x…", value)
        elif mime == "image/png":
            output["data"][mime] = _small_png(value)
    return output


def _merge_streams(outputs: list) -> list:
    """Neighbouring pieces of stdout as one output: where the stream was cut depends on timing."""
    merged = []
    for output in outputs:
        if output.output_type == "stream" and merged and merged[-1].output_type == "stream":
            merged[-1]["text"] += output["text"]
        else:
            merged.append(output)
    return merged


def normalise(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """An executed notebook without what differs from run to run; changes and returns `notebook`."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if FOLDED in tags and cell.cell_type == "code":
            cell.metadata["jupyter"] = {"source_hidden": True}
        if "injected-parameters" in tags:
            cell["id"] = "injected-parameters"
        if cell.cell_type == "code":
            cell.outputs = _merge_streams([kept for output in cell.outputs if (kept := _clean_output(output))])
    return notebook


def write_notebook(notebook: nbformat.NotebookNode, path: str | Path) -> None:
    """Writes a valid notebook atomically, as JupyterLab does."""
    nbformat.validate(notebook)
    with atomic_file(path) as temporary:
        nbformat.write(notebook, temporary)


def clean_notebook(path: str | Path) -> None:
    """Makes a notebook fit for git: no outputs, no counts, no metadata but tags."""
    notebook = normalise(read_notebook(path))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    write_notebook(notebook, path)


@contextmanager
def only_run(target: Path) -> Iterator[None]:
    """Holds a stage until the block or the process ends, however it ends.

    DVC's own locks end with DVC, but a stage outlives a `dvc repro` that alone was killed. Raises ValueError then.
    """
    with open(target.with_name(f".{target.stem}.lock"), "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ValueError(f"process {file.read()} is still at it; wait for its end, or end it") from None
        file.truncate(0)
        print(os.getpid(), end="", file=file, flush=True)
        yield


def executed_path(notebook: str | Path, preset: str, root: Path, item: Sequence[str] = ()) -> Path:
    """Where a stage leaves its executed notebook; an item's values are added to the name: 10_variant-ours.ipynb."""
    name = "-".join([Path(notebook).stem, *(text.partition("=")[2] for text in item)])
    return root / "reports" / preset / "notebooks" / f"{name}.ipynb"


def run_notebook(notebook: str | Path, preset: str, root: str | Path | None = None, item: Sequence[str] = ()) -> Path:
    """Executes a notebook for a preset, and an item of its stage's matrix; returns where the normalised result lies.

    Where a cell raises, the file holds the notebook up to the error and papermill's
    PapermillExecutionError goes to the caller. Raises ValueError for wrong parameters, or where another process runs
    the same.
    """
    import papermill  # takes a second
    from traitlets.config import Config

    root = Path(root or find_root()).resolve()
    source = Path(notebook).resolve()
    declared = declared_parameters(read_notebook(source))
    parameters = stage_parameters(preset, load_preset(preset, root), read_stage(source).stage, set(declared),
                                  parse_item(item, declared))
    target = executed_path(source, preset, root, item)
    target.parent.mkdir(parents=True, exist_ok=True)
    with only_run(target), own_kernel() as sockets:
        papermill.execute_notebook(source, target, parameters, cwd=root, kernel_name="python3", language="python",
                                   log_output=True, progress_bar=False, start_timeout=300,
                                   config=Config(KernelManager={"transport": "ipc", "ip": str(sockets / "kernel")}))
        executed = normalise(read_notebook(target))
        executed.cells = [cell for cell in executed.cells if cell.cell_type != "raw"]  # what a stage is, is no result
        write_notebook(executed, target)
    return target


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m kdlib.compendium.notebook", description="Runs one notebook.")
    parser.add_argument("notebook", help="for example notebooks/02_encoder.ipynb")
    parser.add_argument("preset", nargs="?", help="a group of params.yaml, for example quick")
    parser.add_argument("item", nargs="*", help="name=value: an item of the stage's matrix")
    parser.add_argument("--clean", action="store_true", help="run nothing: make the notebook fit for git")
    arguments = parser.parse_args()
    if arguments.clean == bool(arguments.preset):
        parser.error("give a preset to run the notebook for, or --clean")
    if arguments.clean:
        clean_notebook(arguments.notebook)
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return run_stage(arguments.notebook, arguments.preset, arguments.item)


def run_stage(notebook: str, preset: str, item: Sequence[str]) -> int:
    """`run_notebook` for the command line: 0, or 1 with the reason on stderr; 130 where Ctrl-C ended it."""
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    start = time.monotonic()
    try:
        with quiet_interrupt():
            print(f"{run_notebook(notebook, preset, item=item)} ({time.monotonic() - start:.0f} s)")
    except PapermillExecutionError as error:
        target = executed_path(notebook, preset, find_root(), item)
        print(f"{error}\n{notebook} failed; open the notebook with the error: {target}", file=sys.stderr)
        return 1
    except DeadKernelError:
        print(f"{notebook}: its kernel was killed, most likely since memory ran out; end other programs, or give it a "
              "machine with more", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{notebook}: interrupted; run it again, and a training goes on from its checkpoint", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"{notebook}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
