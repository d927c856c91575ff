"""What the experiments share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from kdlib.data import stickers as data
from kdlib.evaluation.judge import Judge
from kdlib.files import read_json
from kdlib.params import stage_folder


def reference_features(judge: Judge, preset: str, root: Path) -> Float[np.ndarray, "num_pictures width"]:
    """The judge's features of the real pictures to measure against, from the stage `images` of a preset.

    They are those of held-out concepts in the generator's styles, in one skin tone, as in the evaluation.
    """
    return judge.features(reference_pictures(preset, root)[1])


def reference_pictures(preset: str, root: Path
                       ) -> tuple[pd.DataFrame, UInt8[np.ndarray, "num_pictures height width 3"]]:
    """The pictures of `reference_features`, and their rows of `load_stickers`, indexed by id."""
    images = stage_folder(preset, "images", root)
    stickers = data.load_stickers(root).set_index("id").loc[read_json(images / "ids.json")]
    rows = data.held_out_rows(stickers)
    return stickers[rows], np.load(images / "pictures.npy", mmap_mode="r")[rows]
