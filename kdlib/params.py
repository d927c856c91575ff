"""params.yaml, the one source of truth for every number: where it is, what a preset says."""

from __future__ import annotations

from pathlib import Path

import yaml


def find_root(start: str | Path | None = None) -> Path:
    """The compendium's root: the nearest folder at or above `start` (default: here) that holds params.yaml.

    Falls back to the folder of an editable install; raises FileNotFoundError when neither has one.
    """
    here = Path(start or ".").resolve()
    for folder in [here, *here.parents, Path(__file__).resolve().parents[1]]:
        if (folder / "params.yaml").is_file() and (folder / "dvc.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no params.yaml at or above {here}; run this inside a clone of the compendium")


def load_params(root: str | Path | None = None) -> dict:
    """The whole of params.yaml."""
    return yaml.safe_load((Path(root or find_root()) / "params.yaml").read_text())


def preset_names(params: dict) -> list[str]:
    """The presets that params.yaml defines: all its groups but the ablations, which hold for every preset."""
    return [name for name, value in params.items() if isinstance(value, dict) and name != "ablations"]


def load_preset(preset: str, root: str | Path | None = None) -> dict:
    """One preset of params.yaml; raises ValueError naming the presets that exist."""
    params = load_params(root)
    if preset not in preset_names(params):
        raise ValueError(f"there is no preset {preset!r}; choose one of {', '.join(preset_names(params))}")
    return params[preset]


def stage_folder(preset: str, stage: str, root: str | Path | None = None) -> Path:
    """reports/<preset>/<stage>, where a stage keeps everything that it makes."""
    return Path(root or find_root()) / "reports" / preset / stage
