"""The paper's Fig. 7 as a number: are drawings in the style of the index that is swapped in?"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image

from kdlib.data.stickers import HELD_OUT_STYLES
from kdlib.evaluation.judge import Judge
from kdlib.experiments.session import Session
from kdlib.pipeline import Pipeline
from kdlib.retrieval import Index, open_embeddings


def style_indexes(session: Session, encoder_id: str, k: int) -> dict[str, Index]:
    """For each held-out style an index of its drawings of training concepts; a style with fewer than k is left out."""
    whole = Index(open_embeddings(session.folder("index") / "embeddings", encoder_id))
    split, tone, drawn_by = (session.stickers.look_up(name, whole.ids) for name in ("split", "skin_tone", "style"))
    masks = {style: (split == "train") & (tone == "") & (drawn_by == style) for style in HELD_OUT_STYLES}
    return {style: whole.where(mask) for style, mask in masks.items() if mask.sum() >= k}


def named_styles(judge: Judge, pictures: list[Image.Image]) -> np.ndarray:
    """(num_pictures,) str: in whose style the judge finds each picture."""
    return np.array(judge.styles)[judge.style(torch.from_numpy(judge.features(pictures))).argmax(-1).numpy()]


def followed(session: Session, pipe: Pipeline, num_steps: int,
             seed: int) -> tuple[Bool[np.ndarray, "styles prompts"], Bool[np.ndarray, "styles prompts"]]:
    """Which drawings from a held-out style's index the judge finds in that style; and which of the own index's.

    The latter, drawn with the same prompts and random numbers, say what is chance.
    """
    indexes = style_indexes(session, pipe.encoder.identity, pipe.settings["k"])
    styles = np.array(list(indexes))[:, None]
    draw = lambda index: named_styles(session.judge, pipe.generate(
        pipe.retrieve(session.prompts, index=index)[1], num_steps, seed=seed))
    return np.stack([draw(index) for index in indexes.values()]) == styles, draw(pipe.index) == styles
