"""Variants of the generator: trained with a small budget, drawing the same prompts with the same seeds.

An ablation is a variant that params.yaml describes by what it changes of `ours`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int32
from PIL import Image

from kdlib.artifacts import find_parts
from kdlib.data.dataset import training_set
from kdlib.encoder import Encoder
from kdlib.models.backbone import load_backbone
from kdlib.models.discrete.tokenizer import Tokenizer
from kdlib.params import load_params, load_preset, stage_folder
from kdlib.pipeline import Pipeline
from kdlib.retrieval import Index, open_embeddings, open_index, same_group
from kdlib.training.denoiser import train_denoiser
from kdlib.training.views import Views, choose_lessons, lesson_neighbours
from kdlib.types import Embeddings

SAMPLING = ("sampling_steps", "guidance_scale")
MEASURING = ("num_prompts", "num_seeds", "num_draws")  # the same for all, or they could not be compared


def plain_settings(preset: str, root: str | Path | None = None) -> dict:
    """What `ours` is made with: the preset's group `variant`, how training neighbours are found, the training's seed.

    exclude  "self" or "concept", see `left_out_of_neighbours`
    k        how many neighbours, in training and in drawing
    lessons  what is taught of the views, see `choose_lessons`
    """
    group = load_preset(preset, root)
    return {"exclude": "self", "lessons": "plain", "k": group["k"], "seed": group["seed"], "conditioning": "ours",
            **group["variant"]}


def ablation_settings(preset: str, name: str, root: str | Path | None = None) -> dict:
    """`plain_settings` with what params.yaml's `ablations` says that the named one changes.

    Raises ValueError for an unknown ablation, for one without changes, and for a change of an unknown setting, of one
    of MEASURING, or to a value of another type.
    """
    plain, ablations = plain_settings(preset, root), load_params(root)["ablations"]
    if name not in ablations:
        raise ValueError(f"params.yaml has no {name!r} among its ablations: {', '.join(ablations)}")
    changes = ablations[name]
    if not isinstance(changes, dict) or not changes:
        raise ValueError(f"ablations.{name} is {changes!r}; write what it changes, for example {{k: 5}}")
    free = {setting: value for setting, value in plain.items() if setting not in MEASURING}
    for setting, value in changes.items():
        if setting not in free:
            raise ValueError(f"ablations.{name} changes {setting!r}; it can change {', '.join(free)}")
        if type(value) is not type(free[setting]):
            raise ValueError(f"ablations.{name}.{setting} is {value!r}; it takes the type of {free[setting]!r} "
                             "(write floats as 1.0e-4)")
    return plain | changes


def training_settings(settings: dict) -> dict:
    """Those of a variant's settings that `train_variant` takes."""
    return {name: value for name, value in settings.items() if name not in SAMPLING + MEASURING}


def left_out_of_neighbours(ids: np.ndarray, concepts: Sequence[str] | np.ndarray, exclude: str) -> list:
    """What `Index.search` is to exclude for each training picture: itself ("self") or its whole concept ("concept").

    ids, concepts  (num_pictures,) of the training pictures, in the index's order
    Raises ValueError for another `exclude`.
    """
    if exclude not in ("self", "concept"):
        raise ValueError(f"exclude = {exclude!r} must be 'self' or 'concept'")
    return list(ids) if exclude == "self" else same_group(ids, np.asarray(concepts))


def train_variant(preset: str, folder: Path, root: Path, *, k: int, exclude: str, lessons: str = "plain",
                  **settings) -> pd.DataFrame:
    """Trains a denoiser on a preset's views and training set, saves `folder`/model and returns the history.

    k, exclude  how many neighbours a view is shown with, and which not (`left_out_of_neighbours`)
    lessons     what is taught of the views, see `choose_lessons`
    settings    what `train_denoiser` takes besides
    Raises as these and `Index.search` do.
    """
    tokenizer = Tokenizer.load(find_parts(preset, ("tokenizer",), root)["tokenizer"])
    shown = open_embeddings(stage_folder(preset, "views", root) / "training_set")
    views = Views.load(stage_folder(preset, "views", root) / "views")
    views, neighbours = choose_lessons(lessons, views, lesson_neighbours_of(preset, shown, views, k, exclude, root))
    return train_denoiser(views, shown, neighbours, folder, num_codes=tokenizer.num_codes,
                          tokenizer_id=tokenizer.identity, **settings)


def lesson_neighbours_of(preset: str, shown: Embeddings, views: Views, k: int, exclude: str,
                         root: Path) -> Int32[np.ndarray, "views pictures k"]:
    """Those that the stage `views` has found, if it looked for the same, else found anew."""
    if (exclude, k) == ("self", load_preset(preset, root)["k"]):
        return np.load(stage_folder(preset, "views", root) / "neighbours.npy")
    learned = training_set(preset, root)
    concepts, styles = (learned.look_up(column, shown.ids) for column in ("concept", "style"))
    return lesson_neighbours(Index(shown), views, k, left_out_of_neighbours(shown.ids, concepts, exclude), styles)


def variant_pipeline(preset: str, folder: Path, root: Path, *, k: int, sampling_steps: int,
                     guidance_scale: float) -> Pipeline:
    """A pipeline with the denoiser `folder`/model, and the preset's encoder, index and tokenizer; raises as it does."""
    parts = find_parts(preset, ("encoder", "index", "tokenizer"), root)
    encoder = Encoder.load(parts["encoder"])
    backbone = load_backbone({"denoiser": folder / "model", "tokenizer": parts["tokenizer"]})
    return Pipeline(encoder, open_index(parts["index"], encoder.identity), backbone,
                    {"k": k, "num_steps": sampling_steps, "guidance_scale": guidance_scale})


def draw_variant(preset: str, prompts: list[str], folder: Path, root: Path, *, num_seeds: int, seed: int,
                 **settings) -> list[list[Image.Image]]:
    """What `folder`/model draws for the prompts, from their k nearest pictures: drawn[draw][prompt].

    settings  what `variant_pipeline` takes;  draw i has the seed `seed` + i
    """
    pipe = variant_pipeline(preset, folder, root, **settings)
    _, condition = pipe.retrieve(prompts)
    return [pipe.generate(condition, seed=seed + draw) for draw in range(num_seeds)]
