"""The left half of the paper's Table 2: two backbones, each with neighbours and without them (sections 4.1 and 6.6).

The discrete half are variants (`kdlib.experiments.variants`). The continuous half is trained here, on the same views,
queries and neighbours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from kdlib.artifacts import find_parts
from kdlib.data.dataset import training_set
from kdlib.encoder import Encoder
from kdlib.evaluation.comparison import Statistic, measure, paired, ratio, shown
from kdlib.evaluation.metrics import Interval
from kdlib.models.backbone import load_backbone
from kdlib.params import load_preset, stage_folder
from kdlib.pipeline import Pipeline
from kdlib.retrieval import open_embeddings, open_index
from kdlib.training.unet import train_unet, view_file
from kdlib.training.views import Views, choose_lessons

COLUMNS = ("fd_sticker", "concept_top5", "text_alignment", "in_swapped_style", "beyond_chance")
RATIOS = {"discrete: ours / no kNN": ("discrete, ours", "discrete, no kNN"),
          "continuous: ours / no kNN": ("continuous, ours", "continuous, no kNN"),
          "ours: continuous / discrete": ("continuous, ours", "discrete, ours")}


def train_unet_variant(preset: str, folder: Path, root: Path, **settings) -> pd.DataFrame:
    """Trains a U-Net on a preset's views and training set, saves `folder`/model and returns the history.

    settings  what `train_unet` takes besides data and folder

    The pictures of the views are made anew, with the seed of the stage `views`; while it trains, they lie in
    `folder`/views.npy. Raises as `train_unet` does.
    """
    made = stage_folder(preset, "views", root)
    database = open_embeddings(made / "training_set")
    views, neighbours = choose_lessons("plain", Views.load(made / "views"), np.load(made / "neighbours.npy"))
    pictures = view_file(training_set(preset, root).pictures_of(database.ids), len(views.vectors) - 2,
                         load_preset(preset, root)["seed"], folder / "views.npy")
    history = train_unet(pictures, views.vectors, database, neighbours, folder, **settings)
    (folder / "views.npy").unlink()
    return history


def unet_pipeline(preset: str, folder: Path, root: Path, *, k: int, sampling_steps: int,
                  guidance_scale: float) -> Pipeline:
    """A pipeline with the U-Net `folder`/model, and the preset's encoder and index; raises as it does."""
    parts = find_parts(preset, ("encoder", "index"), root)
    encoder, unet = Encoder.load(parts["encoder"]), load_backbone({"denoiser": folder / "model"})
    return Pipeline(encoder, open_index(parts["index"], encoder.identity), unet,
                    {"k": k, "num_steps": sampling_steps, "guidance_scale": guidance_scale})


def style_statistics(followed: pd.DataFrame) -> dict[str, Statistic]:
    """The last two of COLUMNS as `measure` wants them.

    followed  a row a prompt: the share of its drawings from swapped indexes that are in these indexes' styles
              (in_style), and of those from the own index (by_chance), as `kdlib.experiments.swap.followed` finds them
    """
    in_style, by_chance = (followed[name].to_numpy(float) for name in ("in_style", "by_chance"))
    return {"in_swapped_style": lambda rows: float(in_style[rows].mean()),
            "beyond_chance": lambda rows: float((in_style - by_chance)[rows].mean())}


def table_2(results: dict[str, dict[str, Interval]]) -> pd.DataFrame:
    """COLUMNS of each model, with 95% intervals, as texts: a row a model, in the order of `results`."""
    return pd.DataFrame({name: shown({of: row[of] for of in COLUMNS}) for name, row in results.items()}).T


def table_2_ratios(found: dict[str, dict[str, Statistic]], num_prompts: int, num_draws: int,
                   seed: int) -> dict[str, dict[str, Interval]]:
    """The RATIOS of what `found` has, on the same prompts, for the first three of COLUMNS."""
    return {name: measure(paired(ratio, *({of: found[model][of] for of in COLUMNS[:3]} for model in pair)),
                          num_prompts, num_draws, seed) for name, pair in RATIOS.items()}
