"""The bundled stickers: nine open emoji sets as vectors, with names, concepts, styles, licences, a split by concept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool

from kdlib.params import data_file

TRAINING_STYLES = ("twemoji", "noto", "noto-v1", "emojione", "fluent-emoji-flat")
HELD_OUT_STYLES = ("openmoji", "fluent-emoji", "fxemoji", "streamline-emojis")
STYLES = TRAINING_STYLES + HELD_OUT_STYLES
NEW_ONE_IN = 4  # of the held-out concepts that others draw, this part stays new to the encoder


def load_stickers(root: str | Path | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The table of stickers, one row a picture, in a fixed order; some of its columns, or all.

    Columns, all str: id ("twemoji:red-apple"), style (the icon set), name (as the set calls it), title (the concept
    in readable words), concept (names, skin tones and spellings folded together), keywords (all names of the
    concept), skin_tone ("" where there is none), split ("train" or "test", by concept), author, licence (SPDX), svg.
    Raises FileNotFoundError when data/ has not been pulled.
    """
    return pd.read_parquet(data_file("stickers.parquet", root), columns=columns)


def load_prompts(root: str | Path | None = None) -> pd.DataFrame:
    """The evaluation prompts: columns prompt, kind ("name" or "composed") and concept ("" for composed prompts).

    "name" prompts are the titles of held-out concepts; "composed" ones ("a cat wearing sunglasses") are no names.
    Raises as `load_stickers`.
    """
    return pd.read_csv(data_file("prompts.csv", root), keep_default_na=False)


def select_pictures(stickers: pd.DataFrame, max_concepts: int | None) -> pd.DataFrame:
    """All rows of the first `max_concepts` concepts in order of their hash (None: of all): a nested, fair sample."""
    concepts = sorted(stickers.concept.unique(), key=_hash)[:max_concepts]
    return stickers[stickers.concept.isin(set(concepts))].reset_index(drop=True)


def training_rows(stickers: pd.DataFrame) -> np.ndarray:
    """(num_pictures,) bool: what generators train on and index H holds by default.

    Training concepts in training styles, without the skin-tone copies of a picture: with them, the ten nearest
    neighbours of a person would be the same drawing in five tones.
    """
    return _rows_in_training_styles(stickers, "train")


def held_out_rows(stickers: pd.DataFrame) -> np.ndarray:
    """(num_pictures,) bool: what the generators' pictures are measured against, held-out concepts in training styles.

    Without the skin-tone copies of a picture, as `training_rows`.
    """
    return _rows_in_training_styles(stickers, "test")


def _rows_in_training_styles(stickers: pd.DataFrame, split: str) -> np.ndarray:
    chosen = (stickers.split == split) & stickers["style"].isin(TRAINING_STYLES) & (stickers.skin_tone == "")
    return chosen.to_numpy()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def in_domain_rows(stickers: pd.DataFrame) -> Bool[np.ndarray, " num_pictures"]:
    """Which stickers the in-domain index (Fig. 10) holds: H, and held-out concepts in styles that no generator learns.

    What is drawn is measured against the same concepts in the generator's styles, which are not among them.
    """
    added = (stickers.split == "test") & stickers["style"].isin(HELD_OUT_STYLES) & (stickers.skin_tone == "")
    return training_rows(stickers) | added.to_numpy()


def known_concepts(stickers: pd.DataFrame) -> set[str]:
    """The held-out concepts that the encoder has seen: those that a held-out style draws, but for a fixed quarter.

    CLIP, the paper's encoder, has seen nearly everything in some artist's hand. So this one is shown the known concepts
    as artists draw them whose pictures of them neither generator nor tokenizer nor index sees (`encoder_rows`). The
    quarter, chosen by a hash, is new to all, and so is what no held-out style draws: the harder test, beyond the paper.
    """
    drawn = stickers[(stickers.split == "test") & stickers["style"].isin(HELD_OUT_STYLES)].concept.unique()
    return {concept for concept in drawn if int(_hash(concept), 16) // 100 % NEW_ONE_IN}


def encoder_rows(stickers: pd.DataFrame) -> Bool[np.ndarray, " num_pictures"]:
    """What the encoder trains on: training concepts in all styles, and known ones in the held-out styles."""
    known = stickers["style"].isin(HELD_OUT_STYLES) & stickers.concept.isin(known_concepts(stickers))
    return ((stickers.split == "train") | known).to_numpy()


def captions_of(table: pd.DataFrame) -> list[str]:
    """Each picture's captions, joined by ", ": the title and all other names of its concept, in alphabetical order."""
    return [", ".join(sorted({title, *names.split(", ")}))
            for title, names in zip(table.title, table.keywords, strict=True)]
