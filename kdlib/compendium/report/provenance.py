"""Where a figure comes from: a badge for its preset, and a footer with stage, parameters, seed, inputs and tables."""

from __future__ import annotations

import ast
import hashlib
import html
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import nbformat
import yaml
from nbformat.v4 import new_code_cell, new_output

CODE = (".py", ".ipynb")
HASH_LENGTH = 10


class Record(NamedTuple):
    """What dvc.lock says about the run that made a notebook.

    stage   its name there, for example "variant@cpu-ours"
    inputs  the start of a hash over all data and results that it read
    tables  the CSVs that it wrote, paths under the root
    """

    stage: str
    inputs: str
    tables: list[str]


def badge(preset: str) -> str:
    """The preset's name as a mark that goes with every number."""
    return f'<span class="kd-badge">preset {html.escape(preset)}</span>'


def locked_runs(preset: str, root: Path) -> dict[str, Record]:
    """The stages' runs in dvc.lock, by the name of the executed notebook.

    A notebook that is not the one recorded (it was run without DVC, say) is left out.
    """
    path = root / "dvc.lock"
    stages = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"] if path.is_file() else {}
    records = {}
    for stage, entry in stages.items():
        outs = {out["path"]: out["md5"] for out in entry.get("outs", [])}
        for out in outs:
            executed = PurePosixPath(out).match(f"reports/{preset}/notebooks/*.ipynb") and root / out
            if executed and executed.is_file() and hashlib.md5(executed.read_bytes()).hexdigest() == outs[out]:
                tables = sorted(name for name in outs if name.endswith(".csv"))
                records[executed.stem] = Record(stage, inputs_hash(entry.get("deps", [])), tables)
    return records


def inputs_hash(deps: list[dict]) -> str:
    """A short hash over the deps of dvc.lock that are data, in hexadecimal digits.

    Code is left out: an edit that changes no result would make the report say something else, and not run it again.
    """
    lines = sorted(f"{dep['path']} {dep['md5']}" for dep in deps if not dep["path"].endswith(CODE))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:HASH_LENGTH]


def used_parameters(notebook: nbformat.NotebookNode) -> dict:
    """The values in the cell tagged `injected-parameters`; empty where there is none."""
    cells = [cell for cell in notebook.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    return {ast.unparse(line.targets[0]): ast.literal_eval(line.value)
            for cell in cells for line in ast.parse(cell.source).body}


def table_links(tables: list[str], preset: str) -> str:
    """Links to the copies of a stage's CSVs in the site."""
    names = [html.escape(name.removeprefix(f"reports/{preset}/")) for name in tables]
    return " ".join(f'<a href="_static/tables/{name}" download>{name.rpartition("/")[2]}</a>' for name in names)


def footer(preset: str, parameters: dict, record: Record | None) -> str:
    """What stands under a figure, as HTML in one line."""
    seed = f"<span>seed {parameters['seed']}</span>" if "seed" in parameters else ""
    values = "&#10;".join(html.escape(f"{name} = {value!r}") for name, value in parameters.items())
    shown = f"<details><summary>parameters</summary><pre>{values}</pre></details>" if parameters else ""
    origin = "<span>not run by DVC: stage and inputs are unknown</span>"
    if record:
        origin = f"<span>stage {html.escape(record.stage)}</span> <span>inputs {record.inputs}</span> " \
                 f"{table_links(record.tables, preset)}"
    return f'<div class="kd-footer">{badge(preset)} {origin} {seed} {shown}</div>'


def with_footers(cell: nbformat.NotebookNode, text: str) -> list[nbformat.NotebookNode]:
    """A code cell as cells that end with a figure (a picture or a table) and the footer `text`, or with the rest.

    One figure a cell, since MyST-NB takes alternative texts by cell. Only the first shows its code; none may be empty.
    """
    cells, waiting = [cell], cell.pop("outputs")
    cell.outputs = []
    for number, output in enumerate(waiting):
        cells[-1].outputs.append(output)
        data, metadata = output.get("data", {}), output.get("metadata", {})
        if image := metadata.get("image/png"):
            image = {key: f"{value}px" if key == "width" else value for key, value in image.items()}
            cells[-1].metadata["mystnb"] = {"image": image}
        if data.keys() & {"image/png", "text/html"}:
            cells[-1].outputs.append(new_output("display_data", data={"text/html": text}))
            if waiting[number + 1:]:
                cells.append(new_code_cell("...", metadata={"tags": ["remove-input"]}, id=f"{cell.id[:58]}-{number}"))
    return cells
