"""DALL-E 2 + ClipCap of Table 2: whose pictures the captioner learns from, and a decoder that learns from captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from kdlib.baselines.captions import Captioner
from kdlib.data.dataset import DataSet, concatenate, load, training_set
from kdlib.data.stickers import HELD_OUT_STYLES
from kdlib.encoder import Encoder
from kdlib.models.discrete.tokenizer import Tokenizer
from kdlib.params import stage_folder
from kdlib.retrieval import open_embeddings
from kdlib.training.denoiser import train_denoiser
from kdlib.training.views import Views, choose_lessons


def captioned_pictures(preset: str, root: Path) -> DataSet:
    """Pictures of training concepts with names, in other artists' hands than the generator learns from; in memory.

    ClipCap learned from photographs with captions, none of them a sticker. Here: the stickers of held-out styles, one
    skin tone each, and what of the world's pictures no generator sees.
    """
    stickers, world = load("stickers", preset, root), load("world", preset, root)
    table = stickers.table
    others = (table.split == "train") & table["style"].isin(HELD_OUT_STYLES) & (table.skin_tone == "")
    both = concatenate(stickers.where(others.to_numpy()), world.where((world.table.split == "train").to_numpy(bool)))
    return both.where(~np.isin(both.ids, training_set(preset, root).ids))


def caption_views(captioner: Captioner, views: Float[np.ndarray, "views pictures dim"]) -> np.ndarray:
    """(num_views, num_pictures) str: the caption of each view of each picture, from its embedding."""
    return np.array([captioner.caption(vectors) for vectors in views])


def has_concept(captions: Sequence[str] | np.ndarray, table: pd.DataFrame) -> np.ndarray:
    """(num_pictures,) bool: whether a picture's caption has one of its concept's names in it, as whole words.

    table  a row for each: columns title and keywords, all names of the concept joined by ", "
    """
    names = [{title, *keywords.split(", ")} for title, keywords in zip(table.title, table.keywords, strict=True)]
    return np.array([any(f" {name} " in f" {caption} " for name in known)
                     for caption, known in zip(captions, names, strict=True)], dtype=bool)


def train_on_captions(preset: str, captions: np.ndarray, encoder: Encoder, folder: Path, root: Path,
                      **settings) -> pd.DataFrame:
    """Trains a denoiser on the embeddings of captions in place of pictures', and without neighbours; the history.

    captions  (num_views, num_pictures) of the views of the stage `views`, its lessons in style left out
    settings  what `train_denoiser` takes besides; the conditioning is `no_knn`

    The decoder of DALL-E 2 as the paper trains it, with the discrete backbone. Saves `folder`/model.
    """
    stage = stage_folder(preset, "views", root)
    views, neighbours = choose_lessons("plain", Views.load(stage / "views"), np.load(stage / "neighbours.npy"))
    texts, place = np.unique(captions, return_inverse=True)
    vectors = encoder.encode_texts(texts.tolist())[place.reshape(captions.shape)].astype(np.float16)
    tokenizer = Tokenizer.load(stage_folder(preset, "tokenizer", root) / "model")
    return train_denoiser(Views(views.codes, vectors), open_embeddings(stage / "training_set"), neighbours, folder,
                          num_codes=tokenizer.num_codes, tokenizer_id=tokenizer.identity, conditioning="no_knn",
                          **settings)
