"""Textual Inversion (Gal et al., 2022), small: what the generator has to be told to redraw a picture, then edited.

Published: the embedding of one new word is optimised until the frozen generator redraws the picture for it, and then
used in other sentences. This generator is told no sentences but y = (f, knn), so f is what is optimised, from the
embedding of the picture's name; a sentence is then composed in the joint space, f + f_txt(target) - f_txt(source).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from kdlib.encoder import Encoder
from kdlib.models.condition import Condition
from kdlib.models.discrete.backbone import DiscreteBackbone
from kdlib.models.discrete.denoiser import ConditionedDenoiser
from kdlib.models.discrete.process import training_loss
from kdlib.retrieval import Index
from kdlib.training.loop import step_generator

LEARNING_RATE = 5e-3
NUM_TIMES = 4  # noise levels of each picture in a step


def invert(denoiser: ConditionedDenoiser, codes: Int[Tensor, "pictures positions"], start: Condition, num_steps: int,
           seed: int) -> Float[Tensor, "pictures dim"]:
    """Unit vectors f for which the generator draws these codes best; only they are learned (published: 5,000 steps).

    start  where each f begins, and the neighbours that are told with it
    """
    frozen = [weight for weight in denoiser.parameters() if weight.requires_grad]
    for weight in frozen:
        weight.requires_grad_(False)
    words = start.query.clone().requires_grad_()
    optimizer, repeat = torch.optim.Adam([words], LEARNING_RATE), lambda x: x.repeat_interleave(NUM_TIMES, 0)
    for step in range(num_steps):
        told = Condition(repeat(F.normalize(words, dim=-1)), repeat(start.neighbours))
        loss = training_loss(denoiser.schedule, denoiser, repeat(codes), told, denoiser.config.num_codes,
                             generator=step_generator(seed, step))
        optimizer.zero_grad()
        (loss * len(codes)).backward()
        optimizer.step()
    for weight in frozen:
        weight.requires_grad_(True)
    return F.normalize(words.detach(), dim=-1)


def composed(words: Float[Tensor, "pictures dim"], targets: Float[Tensor, "pictures dim"],
             sources: Float[Tensor, "pictures dim"]) -> Float[Tensor, "pictures dim"]:
    """Unit vectors of words + targets - sources: the picture's word, where the sentence has changed."""
    return F.normalize(words + targets - sources, dim=-1)


def edit_by_word(backbone: DiscreteBackbone, encoder: Encoder, index: Index, pictures: Sequence[Image.Image],
                 codes: Int[Tensor, "pictures positions"], texts: Sequence[str], source_texts: Sequence[str], *, k: int,
                 num_steps: int, sampling_steps: int, guidance_scale: float, seed: int) -> list[Image.Image]:
    """Pictures drawn anew from their words, composed with what the texts change.

    codes  the pictures' codes             source_texts  what the pictures show
    """
    targets, sources = (encoder.encode_texts(list(told)) for told in (texts, source_texts))
    near = index.search(encoder.encode_images(pictures), k).vectors
    words = invert(backbone.denoiser, codes, Condition.from_numpy(sources, near), num_steps, seed)
    query = composed(words, torch.from_numpy(targets), torch.from_numpy(sources))
    near = index.search(np.asarray(query), k).vectors
    return backbone.draw(Condition(query, torch.from_numpy(near)), sampling_steps, guidance_scale,
                         torch.Generator().manual_seed(seed))
