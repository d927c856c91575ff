"""What a notebook declares of its stage: a cell of parameters, and at its end a cell of what it reads and writes.

The latter is a raw cell tagged `stage` that holds a few lines of YAML, the fields of `Stage` but the notebook:

    stage: index
    part: The road
    reads: [data/stickers.parquet, images/pictures.npy, encoder/model]
    writes: [training, metrics.json]
    unpublished: [embeddings]
"""

from __future__ import annotations

import ast
import itertools
from pathlib import Path
from typing import NamedTuple

import nbformat
import yaml


class Stage(NamedTuple):
    """A notebook, and what DVC has to know about it.

    notebook     its name, without a suffix
    stage        the stage's name, that of its group in params.yaml and of its folder under reports/<preset>
    part         the heading under which the site's sidebar lists it
    reads        paths under reports/<preset>, or under the root if they begin with data/ or benchmarks/; a folder *
                 stands for all items of that stage's matrix
    writes       paths under its folder, or under the item's folder there
    unpublished  the same for what is large and quick to make again, so that the bundled remote does without
    params       groups and scalars that it takes besides its own group and the scalars in the parameters cell
    matrix       a parameter -> its values, or the name of a mapping in params.yaml that has them as keys
    """

    notebook: str
    stage: str
    part: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    unpublished: tuple[str, ...] = ()
    params: tuple[str, ...] = ()
    matrix: dict[str, list | str] = {}

    def items(self, params: dict) -> list[dict]:
        """The items of the matrix, each as parameter -> value; one without parameters where there is no matrix."""
        values = [list(params[values]) if isinstance(values, str) else values for values in self.matrix.values()]
        return [dict(zip(self.matrix, item, strict=True)) for item in itertools.product(*values)]

    def presets(self, params: dict) -> list[str]:
        """Those of params.yaml's `presets` that have a group for the stage: it is run for no others."""
        return [preset for preset in params["presets"] if self.stage in params[preset]]

    def folder(self, item: dict) -> str:
        """Where an item's results lie under reports/<preset>."""
        return "/".join([self.stage, *map(str, item.values())])

    def executed(self, item: dict) -> str:
        """The name, without a suffix, of the notebook that was executed for an item: 10_variant-ours."""
        return "-".join([self.notebook, *map(str, item.values())])


def read_notebook(path: str | Path) -> nbformat.NotebookNode:
    """Reads a notebook (format 4)."""
    return nbformat.read(path, as_version=4)


def tagged_cell(notebook: nbformat.NotebookNode, tag: str) -> nbformat.NotebookNode:
    """The cell with a tag; raises ValueError when there is not exactly one."""
    cells = [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"a notebook needs one cell tagged `{tag}`, this one has {len(cells)}")
    return cells[0]


def declared_parameters(notebook: nbformat.NotebookNode) -> dict[str, tuple[str, object]]:
    """The names of the cell tagged `parameters`, each with (annotation, default).

    Raises ValueError when there is not exactly one such cell, or a line of it is not `name: type = value`.
    """
    declared = {}
    for line in ast.parse(tagged_cell(notebook, "parameters").source).body:
        if not isinstance(line, ast.AnnAssign) or line.value is None:
            raise ValueError(f"write parameters as `name: type = value`, not as `{ast.unparse(line)}`")
        declared[ast.unparse(line.target)] = (ast.unparse(line.annotation), ast.literal_eval(line.value))
    return declared


def read_stage(path: str | Path) -> Stage:
    """The stage that a notebook declares; raises ValueError naming the notebook and what is wrong with its cell."""
    try:
        declared = yaml.safe_load(tagged_cell(read_notebook(path), "stage").source)
        return Stage(Path(path).stem, **{name: tuple(value) if isinstance(value, list) else value
                                         for name, value in declared.items()})
    except (ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: the cell tagged `stage` should be YAML with {', '.join(Stage._fields[1:])}: {error}"
                         ) from None


def read_stages(root: Path) -> dict[str, Stage]:
    """All stages that notebooks declare, by name, in the order of the notebooks' names; two of one name raise."""
    stages = {}
    for path in sorted((root / "notebooks").glob("*.ipynb"), key=lambda path: path.stem.partition("_")):
        stage = read_stage(path)
        if stage.stage in stages:
            raise ValueError(f"{path} and {stages[stage.stage].notebook} both declare the stage {stage.stage!r}")
        stages[stage.stage] = stage
    return stages
