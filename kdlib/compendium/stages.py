"""Writes what follows from the notebooks: dvc.yaml, README's list of them, and their links to the next one.

    python -m kdlib.compendium.stages

A stage's command, executed notebook and own parameters follow from its notebook (see `declared`), the modules that it
depends on from what the notebook imports, directly or not.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import yaml

from kdlib.compendium.contents import notebook_order, with_list, with_next
from kdlib.compendium.declared import Stage, declared_parameters, read_notebook, read_stages
from kdlib.compendium.notebook import write_notebook
from kdlib.files import atomic_file
from kdlib.params import find_root, load_params

HEAD = """\
# Written by `python -m kdlib.compendium.stages` (or `make stages`) from the last cell of each notebook: edit that.
#
# The road: each stage executes one notebook for each preset in params.yaml's `presets` that has a group for it.
#
#   dvc repro report@quick      one preset, to its report
#   dvc repro training@cpu      one preset, up to a stage
#
# `push: false` marks what is large and quick to make again; it is not in the bundled remote. Checkpoints of the
# trained stages lie beside the outs (reports/<preset>/<stage>/checkpoint): DVC deletes outs before a stage and would
# train again where an unpublished one is missing.
#
# The report depends on the folder of executed notebooks, and on the folders of stages whose items params.yaml names.
# They count with all that lies in them: when an item is taken out, remove what it left there. A stage that not all
# presets have counts by its executed notebook alone, which shows what it found.

stages:
"""
RESULTS = "reports/${item.preset}"
AT_ROOT = ("data/", "benchmarks/")
CURVES = "curves/plots/metrics"
SHOWN = ("metrics.json", "pictures.png", "pictures.json", ".csv")  # what the site reads of all that stages write
OPTIONAL = {"continuous": "unet/model", "edit": "edits/model"}  # rooms that are opened only for such a model
REPORT = "kdlib.compendium.report"
REPORT_READS = ("generation/samples.json", "generation/pictures", "notebooks")


# --- modules -------------------------------------------------------------------------------------------------------

def code(path: Path) -> ast.Module:
    """A notebook's code cells, or a module, as one syntax tree."""
    if path.suffix == ".py":
        return ast.parse(path.read_text(encoding="utf-8"))
    return ast.parse("\n".join(cell.source for cell in read_notebook(path).cells if cell.cell_type == "code"))


def imported_files(tree: ast.Module, root: Path) -> set[Path]:
    """Files of kdlib that a syntax tree imports by name, with the packages they lie in.

    kdlib/__init__.py counts only where `kdlib` itself is imported, for its public names; it has nothing else. Raises
    ValueError for a relative import.
    """
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"write absolute imports, not {ast.unparse(node)}")
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    files = set()
    for parts in (name.split(".") for name in names if name.split(".")[0] == "kdlib"):
        folders = [root.joinpath(*parts[:end], "__init__.py") for end in range(min(2, len(parts)), len(parts) + 1)]
        files |= {path for path in [*folders, root.joinpath(*parts).with_suffix(".py")] if path.is_file()}
    return files


def all_imported_files(tree: ast.Module, root: Path, without: frozenset[Path] = frozenset()) -> list[str]:
    """`imported_files`, and what those import, and so on; paths under the root, sorted.

    without  files that are not followed unless the tree itself names them
    """
    found, waiting = set(), imported_files(tree, root)
    while waiting:
        path = waiting.pop()
        found.add(path)
        waiting |= imported_files(code(path), root) - found - without
    return sorted(path.relative_to(root).as_posix() for path in found)


def unopened_rooms(stage: Stage, root: Path) -> frozenset[Path]:
    """The rooms of models that a stage neither reads nor makes: what it calls could load such a one, but will not."""
    touched = {*stage.reads, *(f"{stage.stage}/{name}" for name in stage.writes)}
    unread = [room for room, model in OPTIONAL.items() if model not in touched]
    return frozenset(path for room in unread for path in root.joinpath("kdlib", "models", room).rglob("*.py"))


# --- dvc.yaml ------------------------------------------------------------------------------------------------------

def resolved(path: str, stages: dict[str, Stage]) -> list[str]:
    """A path of `reads` as dvc.yaml has it: one, or where it has a * one for each item of that stage's matrix."""
    if path.startswith(AT_ROOT):
        return [path]
    stage, star, name = path.partition("/*/")
    if not star:
        return [f"{RESULTS}/{path}"]
    return [f"{RESULTS}/{stages[stage].folder(item)}/{name}" for item in stages[stage].items({})]


def stage_presets(stage: Stage, stages: dict[str, Stage], params: dict) -> str | list[str]:
    """For which presets dvc.yaml runs a stage.

    Raises ValueError where no preset has a group for it, or one has that lacks a stage whose results it reads.
    """
    own = stage.presets(params)
    if not own:
        raise ValueError(f"no preset of params.yaml has a group {stage.stage!r}; add one (`{stage.stage}: {{}}` will "
                         "do)")
    for read in (path.partition("/")[0] for path in stage.reads if not path.startswith(AT_ROOT)):
        if lacking := [preset for preset in own if preset not in stages[read].presets(params)]:
            raise ValueError(f"{stage.stage} reads what {read} writes, for which preset {lacking[0]} has no group in "
                             "params.yaml; add it")
    return "${presets}" if own == params["presets"] else own


def stage_entry(stage: Stage, stages: dict[str, Stage], root: Path, params: dict) -> dict:
    """A stage as dvc.yaml has it."""
    path = root / "notebooks" / f"{stage.notebook}.ipynb"
    groups = [params[preset] for preset in stage.presets(params)]
    scalars = {name for group in groups for name, value in group.items() if not isinstance(value, dict)}
    own = [name for name in declared_parameters(read_notebook(path)) if name in scalars]
    named = {name: f"${{item.{name}}}" for name in stage.matrix}
    shared = [f"{key}.{named[name]}" for name, key in stage.matrix.items() if isinstance(key, str)]
    folder = f"{RESULTS}/{stage.folder(named)}"
    outs = [name for name in stage.writes if name not in ("metrics.json", CURVES)]
    entry = {
        "matrix": {"preset": stage_presets(stage, stages, params), **{
            name: f"${{{key}}}" if isinstance(key, str) else list(key) for name, key in stage.matrix.items()}},
        "cmd": " ".join(["python -m kdlib.compendium.notebook", f"notebooks/{path.name}", "${item.preset}",
                         *(f"{name}={item}" for name, item in named.items())]),
        "params": [f"${{item.preset}}.{name}" for name in dict.fromkeys([*own, *stage.params, stage.stage])] + shared,
        "deps": [f"notebooks/{path.name}", *all_imported_files(code(path), root, unopened_rooms(stage, root)),
                 *(dep for read in stage.reads for dep in resolved(read, stages))],
        "outs": [*({f"{folder}/{name}": {"push": False}} for name in stage.unpublished),
                 *(f"{folder}/{name}" for name in outs), f"{RESULTS}/notebooks/{stage.executed(named)}.ipynb"]}
    if "metrics.json" in stage.writes:
        entry["metrics"] = [f"{folder}/metrics.json"]
    if CURVES in stage.writes:
        entry["plots"] = [{f"{folder}/{CURVES}": {"x": "step"}}]
    return entry


def report_entry(stages: dict[str, Stage], root: Path, params: dict) -> dict:
    """The report's stage: it reads what the others wrote for it, and the notebooks for their order.

    Of stages that not all presets have, it can name no file; the folder of executed notebooks holds one for each.
    """
    modules = all_imported_files(ast.parse(f"import {REPORT}.__main__"), root)
    folder = root.joinpath(*REPORT.split("."), "assets")
    files = [path.relative_to(root).as_posix()
             for path in [*sorted(folder.iterdir()), *sorted((root / "docs").glob("*.md"))]]
    reads = list(REPORT_READS)
    for stage in (stage for stage in stages.values() if stage.presets(params) == params["presets"]):
        if any(isinstance(key, str) for key in stage.matrix.values()):
            reads.append(stage.stage)
        else:
            reads += [f"{stage.folder(item)}/{name}" for item in stage.items({}) for name in stage.writes
                      if name.endswith(SHOWN)]
    named = [key for stage in stages.values() for key in stage.matrix.values() if isinstance(key, str)]
    return {"matrix": {"preset": "${presets}"}, "cmd": f"python -m {REPORT} ${{item.preset}}",
            "params": ["${item.preset}", *named],
            "deps": ["notebooks", *modules, *files, "data/stickers.parquet", "data/prompts.csv",
                     "reports/claims.yaml", "reports/findings.yaml", "reports/paper.yaml",
                     *dict.fromkeys(f"{RESULTS}/{name}" for name in reads)],
            "outs": [{f"{RESULTS}/{name}": {"push": False}} for name in ("index.html", "site")]}


def in_one_line(value: object) -> str:
    """A value as YAML."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000).removesuffix("...\n").strip()


def file_text(file: str | dict) -> str:
    """A path, perhaps with what DVC is told of it, as an item of a list."""
    return file if isinstance(file, str) else ", ".join(f"{path}: {in_one_line(more)}" for path, more in file.items())


def entry_text(name: str, entry: dict) -> str:
    """A stage as text: files one a line, all else in one."""
    lines = [f"  {name}:"]
    for key, value in entry.items():
        if key in ("deps", "outs", "metrics", "plots"):
            lines += [f"    {key}:", *(f"      - {file_text(file)}" for file in value)]
        else:
            lines.append(f"    {key}: {in_one_line(value)}")
    return "\n".join(lines)


def pipeline(root: Path) -> str:
    """The text of dvc.yaml."""
    stages, params = read_stages(root), load_params(root)
    entries = {name: stage_entry(stage, stages, root, params) for name, stage in stages.items()}
    entries["report"] = report_entry(stages, root, params)
    return HEAD + "\n\n".join(entry_text(name, entry) for name, entry in entries.items()) + "\n"


def write_all(root: Path) -> None:
    """Writes what follows from the notebooks; raises ValueError for one that declares no stage, or nonsense."""
    stages, readme = read_stages(root), root / "README.md"
    text, contents = pipeline(root), with_list(readme.read_text(encoding="utf-8"), stages, root)
    for path, after in notebook_order(stages, root):
        before = read_notebook(path)
        if (linked := with_next(read_notebook(path), after)) != before:
            write_notebook(linked, path)
    for path, content in [(root / "dvc.yaml", text), (readme, contents)]:
        with atomic_file(path) as temporary:
            temporary.write_text(content, encoding="utf-8")


def main() -> int:
    root = find_root()
    try:
        write_all(root)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
