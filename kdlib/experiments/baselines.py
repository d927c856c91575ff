"""What other methods are given, so that they lose honestly if they lose: lessons and prompts as ours has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8
from PIL import Image

from kdlib.compendium.sheets import save_sheet
from kdlib.data.dataset import training_set
from kdlib.experiments.session import Session
from kdlib.files import save_array
from kdlib.params import load_preset, stage_folder
from kdlib.retrieval import open_embeddings
from kdlib.training.views import Views, view_pictures


def save_drawn(session: Session, pictures: Sequence[Image.Image]) -> pd.DataFrame:
    """Judges a picture for each of the session's prompts; writes features.npy, verdicts.csv and a sheet; the verdicts.

    features.npy  (num_prompts, 1, width), as notebook 10 writes it for several draws
    """
    features, said = session.judged([list(pictures)])
    save_array(session.out / "features.npy", features)
    session.write_table("verdicts.csv", said)
    save_sheet(session.out, list(pictures), session.prompts)
    return said


def gan_lessons(preset: str, root: Path) -> tuple[UInt8[np.ndarray, "views pictures size size 3"],
                                                  Float[np.ndarray, "views pictures dim"]]:
    """The generator's training pictures in all views, in memory, and f_img of each: what ours learns from, too.

    Raises ValueError where the stage `views` was run on other pictures.
    """
    learned, folder = training_set(preset, root), stage_folder(preset, "views", root)
    shown, settings = open_embeddings(folder / "training_set"), load_preset(preset, root)
    if not np.array_equal(learned.ids, shown.ids):
        raise ValueError(f"{folder} has views of other pictures than the training set's; run the stage views again")
    plain, _ = np.split(Views.load(folder / "views").vectors, 2)  # the second half are lessons in style
    pictures = np.empty((len(plain), *learned.pictures.shape), np.uint8)
    for number, view in enumerate(view_pictures(learned.pictures, settings["views"]["num_changed"], settings["seed"])):
        pictures[number] = view
    return pictures, plain
