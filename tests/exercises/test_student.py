"""The exercises in the notebooks: solutions pass their checks, and students' copies hold none of them."""

import ast
import re
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell

from kdlib.compendium.declared import read_notebook
from kdlib.exercises import __main__ as command
from kdlib.exercises import check
from kdlib.exercises.student import EMPTY, has_tag, stub, student_version, write_student_versions

ROOT = Path(__file__).resolve().parents[2]
WITH_EXERCISES = [path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
                  if any(has_tag(cell, "solution") for cell in read_notebook(path).cells)]
each_notebook = pytest.mark.parametrize("path", WITH_EXERCISES, ids=lambda path: path.stem)


def tagged(notebook, tag, kind):
    return [cell for cell in notebook.cells if cell.cell_type == kind and has_tag(cell, tag)]


def test_ten_notebooks_have_exercises():
    assert len(WITH_EXERCISES) >= 10


@each_notebook
def test_three_to_five_exercises_each_with_its_solution_right_after_it(path):
    notebook = read_notebook(path)
    questions = tagged(notebook, "exercise", "markdown")
    assert 3 <= len(questions) <= 5
    assert [int(number) for cell in questions for number in re.findall(r"^### (\d)\. ", cell.source, re.M)] == list(
        range(1, len(questions) + 1))
    for place, cell in enumerate(notebook.cells):
        if cell in questions:
            answer = notebook.cells[place + 1]
            assert has_tag(answer, "solution"), f"{path.stem}: {cell.source[:60]}"
            folded = answer.cell_type == "code" and answer.metadata.get("jupyter") == {"source_hidden": True}
            assert folded or answer.source.startswith("<details>\n<summary>Answer</summary>\n\n"), "fold the solution"
    assert len(tagged(notebook, "solution", "code")) == len(tagged(notebook, "exercise", "code")) >= 2


@each_notebook
def test_the_solutions_pass_their_checks(path, capsys):
    names = {"np": np, "check": check}
    for cell in read_notebook(path).cells:
        if cell.cell_type == "code" and (has_tag(cell, "solution") or has_tag(cell, "exercise")):
            exec(compile(cell.source, path.stem, "exec"), names)
    said = capsys.readouterr().out.splitlines()
    assert len(said) >= 2 and all(": right, in all " in line for line in said)


@each_notebook
def test_a_students_copy_asks_the_same_and_tells_nothing(path):
    full, copy = read_notebook(path), student_version(read_notebook(path))
    nbformat.validate(copy)
    asked = lambda of: [cell.source.rpartition("### ")[2] for cell in tagged(of, "exercise", "markdown")]
    assert asked(copy) == asked(full)
    assert "Solutions are folded" in str(full) and "Solutions are folded" not in str(copy)
    assert not [cell for cell in copy.cells if has_tag(cell, "solution") or cell.cell_type == "raw"]
    for cell in tagged(full, "solution", "code"):
        for function in ast.parse(cell.source).body:
            body = [ast.unparse(line) for line in function.body[1:]]
            assert body and not any(line in other.source for line in body for other in copy.cells
                                    if has_tag(other, "exercise")), f"{path.stem}: {function.name} is told"


@each_notebook
def test_in_a_students_copy_every_check_says_that_nothing_is_there_yet(path):
    names = {"np": np, "check": check}
    for cell in student_version(read_notebook(path)).cells:
        if cell.cell_type == "code" and has_tag(cell, "exercise"):
            if cell.source.startswith("check("):
                with pytest.raises(AssertionError, match="not yet. .* yours returns nothing"):
                    exec(cell.source, names)
            else:
                exec(cell.source, names)


def test_a_stub_is_the_head_and_its_docstring():
    solution = 'from math import e\n\n\ndef f(x, y=2):\n    """What."""\n    z = e * x\n    return z'
    assert stub(solution) == 'def f(x, y=2):\n    """What."""\n    ...'
    assert stub("def f(x):\n    return x") == "def f(x):\n    ..."
    assert stub("x = 3") == EMPTY


@pytest.fixture
def folder(tmp_path):
    tags = lambda *names: {"tags": [*names]}
    cells = [new_markdown_cell("# 1. Toys\n[a](02_none.ipynb) [b](01_toys.ipynb)"),
             new_markdown_cell("### 1. Why?", metadata=tags("exercise")),
             new_markdown_cell("because", metadata=tags("solution")),
             new_code_cell("def f():\n    return 42", metadata=tags("solution", "hide-input")),
             new_code_cell("check('f', f)", metadata=tags("exercise")),
             new_raw_cell("stage: x", metadata=tags("stage"))]
    (tmp_path / "notebooks").mkdir()
    nbformat.write(new_notebook(cells=cells), tmp_path / "notebooks" / "01_toys.ipynb")
    nbformat.write(new_notebook(cells=cells[:1]), tmp_path / "notebooks" / "02_none.ipynb")
    return tmp_path


def test_copies_are_written_of_those_with_exercises_and_never_over_answers(folder):
    written = write_student_versions(folder / "notebooks", folder / "mine")
    assert [path.name for path in written] == ["01_toys.ipynb"]
    assert [cell.source for cell in read_notebook(written[0]).cells] == [
        "# 1. Toys\n[a](../notebooks/02_none.ipynb) [b](01_toys.ipynb)",
        "### 1. Why?", "def f():\n    ...", "check('f', f)"]
    written[0].write_text("my answers")
    with pytest.raises(FileExistsError, match="01_toys.ipynb is there already and may hold answers"):
        write_student_versions(folder / "notebooks", folder / "mine")
    assert written[0].read_text() == "my answers"


def test_the_command_says_what_it_wrote_or_why_not(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["exercises", str(folder / "notebooks"), "-o", str(folder / "out")])
    assert command.main() == 0
    assert capsys.readouterr().out == f"1 notebooks with exercises in {folder / 'out'}\n"
    assert command.main() == 1
    assert "may hold answers" in capsys.readouterr().err
