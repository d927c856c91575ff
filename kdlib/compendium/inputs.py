"""Makes what notebooks read and the bundled remote does without, since it is large and quick to make again.

    python -m kdlib.compendium.inputs cpu
    python -m kdlib.compendium.inputs cpu --training        and what only trainings read, which takes longer

Each stage whose `unpublished` results are missing is run by hand, with the preset's parameters: it writes to scratch/,
and only what is missing moves from there to reports/. What was published stays as it is, to the byte.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from kdlib.compendium.declared import Stage, declared_parameters, read_notebook, read_stages
from kdlib.compendium.notebook import stage_parameters
from kdlib.params import STAGE_RUN, find_root, load_preset, output_folder, stage_folder

FOR_TRAINING = ("world", "views")  # half an hour of one core, and npm's package


def missing_inputs(preset: str, root: Path, left_out: Collection[str] = FOR_TRAINING) -> dict[str, list[str]]:
    """Stage -> those of its unpublished results that a notebook reads and that aren't here, in the notebooks' order.

    left_out  stages whose results nobody asks for; stages with a matrix are left out as well: they train
    """
    stages = {name: stage for name, stage in read_stages(root).items() if name not in left_out}
    read = {name for stage in stages.values() for name in stage.reads}
    missing = {stage.stage: [out for out in stage.unpublished if f"{stage.stage}/{out}" in read
                             and not (stage_folder(preset, stage.stage, root) / out).exists()]
               for stage in stages.values() if not stage.matrix}
    return {stage: outs for stage, outs in missing.items() if outs}


def make_inputs(preset: str, root: str | Path | None = None,
                left_out: Collection[str] = FOR_TRAINING) -> dict[str, list[str]]:
    """Makes all `missing_inputs`; returns them. The stages show their own bars.

    Raises FileNotFoundError where what such a stage reads isn't here either, which `make reproduce` fetches.
    """
    root = Path(root or find_root())
    missing, stages = missing_inputs(preset, root, left_out), read_stages(root)
    for number, (name, outs) in enumerate(missing.items(), start=1):
        start = time.monotonic()
        print(f"{number} of {len(missing)}: {', '.join(outs)} of {name} ...", flush=True)
        check_reads(stages[name], preset, root)
        run_by_hand(stages[name], preset, root)
        for out in outs:
            target = stage_folder(preset, name, root) / out
            target.parent.mkdir(parents=True, exist_ok=True)
            with by_hand():
                if not target.exists():  # another process may have made it meanwhile
                    os.replace(output_folder(preset, name, root) / out, target)
        print(f"  {time.monotonic() - start:.0f} s", flush=True)
    return missing


def check_reads(stage: Stage, preset: str, root: Path) -> None:
    """Raises FileNotFoundError naming the first thing that a stage reads and that isn't here."""
    for name in stage.reads:
        path = root / name if name.startswith(("data/", "benchmarks/")) else stage_folder(preset, name, root)
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there, which {stage.notebook} reads; fetch published results with "
                                    f"`make reproduce PRESET={preset}`")


def run_by_hand(stage: Stage, preset: str, root: Path) -> None:
    """Runs a notebook's code in this process, with its stage's parameters, as a program that writes to scratch/."""
    notebook = read_notebook(root / "notebooks" / f"{stage.notebook}.ipynb")
    given = stage_parameters(preset, load_preset(preset, root), stage.stage, set(declared_parameters(notebook)))
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"
             and "parameters" not in cell.metadata.get("tags", [])]
    code = "\n\n".join(cell.source for cell in cells)
    with by_hand(), inside(root):
        exec(compile(code, f"{stage.notebook}.ipynb", "exec"), {"__name__": "__main__", **given})


@contextmanager
def by_hand() -> Iterator[None]:
    """No stage is run by this process, whoever called it."""
    before = os.environ.pop(STAGE_RUN, None)
    try:
        yield
    finally:
        if before is not None:
            os.environ[STAGE_RUN] = before


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """The working directory is `folder`."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m kdlib.compendium.inputs", description=__doc__.partition("\n")[0])
    parser.add_argument("preset", help="a preset of params.yaml whose results are here")
    parser.add_argument("--training", action="store_true", help="make what only trainings read, too")
    arguments = parser.parse_args()
    preset, left_out = arguments.preset, () if arguments.training else FOR_TRAINING
    try:
        load_preset(preset)
        print("" if make_inputs(preset, left_out=left_out) else f"{preset}: all that notebooks read is here")
    except (FileNotFoundError, ValueError) as error:
        print(f"inputs: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
