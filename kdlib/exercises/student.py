"""The notebooks as students get them, written from those that hold the solutions.

A notebook has exercises in cells with tags: `exercise` marks the questions (text) and the checks (code), `solution` the
answers, as text or as functions. A student's copy has no answers; of each function the head and its docstring stay.
"""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import nbformat

from kdlib.compendium.declared import read_notebook
from kdlib.compendium.notebook import write_notebook

EMPTY = "# Your answer goes here."
SAID_OF_SOLUTIONS = "\n\nSolutions are folded. `make exercises` writes this notebook without them."
LINK = re.compile(r"\]\((\w+\.ipynb)\)")


def has_tag(cell: nbformat.NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def stub(solution: str) -> str:
    """The heads of a solution's functions, each with its docstring and `...` as its body; EMPTY where it has none."""
    functions = [node for node in ast.parse(solution).body if isinstance(node, ast.FunctionDef)]
    for function in functions:
        told = function.body[:1] if ast.get_docstring(function) else []
        function.body = [*told, ast.Expr(ast.Constant(...))]
    return "\n\n\n".join(ast.unparse(function) for function in functions) or EMPTY


def student_version(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A notebook without its solutions and without the cell that makes it a stage; changes and returns it."""
    kept = [cell for cell in notebook.cells if cell.cell_type != "raw"
            and not (cell.cell_type == "markdown" and has_tag(cell, "solution"))]
    for cell in kept:
        cell.source = cell.source.replace(SAID_OF_SOLUTIONS, "")
        if has_tag(cell, "solution"):
            cell.source = stub(cell.source)
            cell.metadata = nbformat.from_dict({"tags": ["exercise"]})
    notebook.cells = kept
    return notebook


def relink(notebook: nbformat.NotebookNode, copied: set[str], folder: str) -> nbformat.NotebookNode:
    """A copy's links: those to notebooks that are not `copied` beside it lead to `folder`; changes and returns it."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = LINK.sub(lambda found: found[0] if found[1] in copied else f"]({folder}/{found[1]})",
                                   cell.source)
    return notebook


def write_student_versions(notebooks: str | Path, folder: str | Path) -> list[Path]:
    """Writes the student's copy of every notebook with exercises into a folder, which is made; returns their paths.

    Raises FileExistsError, before anything is written, where one is there already: it may hold somebody's answers.
    """
    sources = [path for path in sorted(Path(notebooks).glob("*.ipynb"))
               if any(has_tag(cell, "solution") for cell in read_notebook(path).cells)]
    targets = [Path(folder) / path.name for path in sources]
    if there := [str(target) for target in targets if target.exists()]:
        raise FileExistsError(f"{there[0]} is there already and may hold answers; name another folder, or remove it")
    Path(folder).mkdir(parents=True, exist_ok=True)
    back, copied = Path(os.path.relpath(notebooks, folder)).as_posix(), {source.name for source in sources}
    for source, target in zip(sources, targets, strict=True):
        write_notebook(relink(student_version(read_notebook(source)), copied, back), target)
    return targets
