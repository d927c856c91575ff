"""What a stage's training has left in reports/, for notebooks that look at it instead of training again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from kdlib.files import read_json
from kdlib.params import stage_folder


def published_history(preset: str, stage: str, root: str | Path | None = None) -> pd.DataFrame:
    """The history that a stage's training returned: `step`, and a column for each of its curves.

    attrs["precision"] is what its metrics say was trained in. Raises FileNotFoundError where nothing was published.
    """
    folder = stage_folder(preset, stage, root)
    files = sorted((folder / "curves" / "plots" / "metrics").glob("*.tsv"))
    if not files:
        raise FileNotFoundError(f"{folder} has no curves; fetch published results with `make reproduce "
                                f"PRESET={preset}`, or train with train = True")
    curves = [pd.read_csv(path, sep="\t", index_col="step") for path in files]
    history = pd.concat(curves, axis=1).reset_index()
    history.attrs["precision"] = read_json(folder / "metrics.json")["precision"]
    return history
