"""params.yaml, the one source of truth for every number: where it is, what a preset says; where files are."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

import yaml

STAGE_RUN = "KDLIB_STAGE_RUN"  # the environment variable by which kdlib.compendium.notebook says that it runs a stage
OURS = re.compile(rb"^compendium: kdlib\b", re.MULTILINE)


def find_root(start: str | Path | None = None) -> Path:
    """The compendium's root: the nearest folder at or above `start` (default: here) whose params.yaml says that it is.

    Falls back to the folder of an editable install; raises FileNotFoundError when neither has one.
    """
    here = Path(start or ".").resolve()
    for folder in [here, *here.parents, Path(__file__).resolve().parents[1]]:
        path = folder / "params.yaml"
        if path.is_file() and OURS.search(path.read_bytes()):
            return folder
    raise FileNotFoundError(f"no params.yaml with `compendium: kdlib` at or above {here}; run this inside a "
                            "clone of the compendium")


def load_params(root: str | Path | None = None) -> dict:
    """The whole of params.yaml; raises ValueError naming the file when it is damaged."""
    path = Path(root or find_root()) / "params.yaml"
    try:
        params = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid YAML ({error}); restore it, for example with `git checkout`") from error
    if not isinstance(params, dict):
        raise ValueError(f"{path} is empty or no table of parameters; restore it, for example with `git checkout`")
    return params


def preset_names(params: dict) -> list[str]:
    """The presets that params.yaml defines: all its groups but the ablations, which hold for every preset."""
    return [name for name, value in params.items() if isinstance(value, dict) and name != "ablations"]


def load_preset(preset: str, root: str | Path | None = None) -> dict:
    """One preset of params.yaml; raises ValueError naming the presets that exist."""
    params = load_params(root)
    if preset not in preset_names(params):
        raise ValueError(f"there is no preset {preset!r}; choose one of {', '.join(preset_names(params))}")
    return params[preset]


def data_file(name: str, root: str | Path | None = None) -> Path:
    """A file of data/; raises FileNotFoundError when it has not been pulled."""
    path = Path(root or find_root()) / "data" / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; fetch it with `dvc pull data.dvc`")
    return path


def stage_folder(preset: str, stage: str, root: str | Path | None = None) -> Path:
    """reports/<preset>/<stage>, where a stage keeps everything that it makes."""
    return Path(root or find_root()) / "reports" / preset / stage


def output_folder(preset: str, stage: str, root: str | Path | None = None) -> Path:
    """Where a notebook writes: `stage_folder` if it is run as a stage, scratch/<preset>/<stage> if it is run by hand.

    So playing in Jupyter overwrites nothing that was published. The first call of a process by hand prints where it is.
    """
    root = Path(root or find_root())
    if STAGE_RUN in os.environ:
        return stage_folder(preset, stage, root)
    _say_scratch(preset)
    return root / "scratch" / preset / stage


@cache
def _say_scratch(preset: str) -> None:
    print(f"run by hand: this notebook writes to scratch/{preset}; reports/{preset} stays as it is")
