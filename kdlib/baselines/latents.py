"""FuseDream (Liu et al., 2021), small: no training at all, but a search in a trained GAN's latents for every text.

The score is AugCLIP, the mean cosine of the text and of many changed views of the picture, so that no pattern of pixels
that fools the encoder once can win. The search starts from the best of many draws, and composes the picture of a few
of these: softmax weights for each dimension, optimised together with the latents themselves. Here the GAN is
LAFITE's (`kdlib.baselines.gan`), whose embeddings take the place of BigGAN's classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from kdlib.baselines.gan import Generator, perturb
from kdlib.data.augment import augment
from kdlib.data.pixels import to_pil
from kdlib.encoder import Encoder
from kdlib.training.loop import step_generator

LIMIT = 2.0            # of each value of z, as published
BATCH = 64


@dataclass(frozen=True)
class Search:
    """How long is searched; the published code's numbers are the defaults.

    num_draws  pictures of which the best are taken      num_bases  how many of them are combined
    num_steps  of Adam at learning_rate                  num_views  changed views a step
    """

    num_draws: int = 10_000
    num_bases: int = 5
    num_steps: int = 1000
    num_views: int = 50
    learning_rate: float = 5e-3

    def __post_init__(self):
        if not 1 <= self.num_bases <= self.num_draws or self.num_steps < 0 or self.num_views < 1:
            raise ValueError(f"{self} can't be searched: num_bases must lie in 1 .. num_draws, num_steps be at least "
                             "0 and num_views at least 1")


@dataclass(frozen=True)
class Latents:
    """What a GAN draws from, and how its pictures look to the encoder."""

    noise: Float[Tensor, "draws noise_dim"]
    told: Float[Tensor, "draws dim"]
    seen: Float[Tensor, "draws dim"]


@torch.no_grad()
def draw_latents(gan: Generator, encoder: Encoder, embeddings: Float[np.ndarray, "pictures dim"], num_draws: int,
                 seed: int) -> Latents:
    """Latents as the GAN met them in training: z, and the `perturb`ed embedding of a random picture.

    The published code draws anew for each text. These are drawn once and serve all texts, for each of which the best
    are others; that is a saving, and changes nothing else.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(embeddings), (num_draws,), generator=generator).numpy()
    told = perturb(torch.from_numpy(embeddings[rows].astype(np.float32)), generator)
    noise = torch.randn(num_draws, gan.config.noise_dim, generator=generator).clamp(-LIMIT, LIMIT)
    seen = [embed(encoder, gan(noise[some], told[some])) for some in torch.arange(num_draws).split(BATCH)]
    return Latents(noise, told, torch.cat(seen))


def dream(gan: Generator, encoder: Encoder, latents: Latents, text: Float[Tensor, " dim"], search: Search,
          seed: int) -> tuple[Image.Image, dict[str, float]]:
    """The picture that the encoder finds most like a text (a unit vector), and the AugCLIP score at start and end.

    Same seed, same machine: same bytes. Raises ValueError for fewer latents than bases.
    """
    if len(latents.seen) < search.num_bases:
        raise ValueError(f"{len(latents.seen)} draws have no best {search.num_bases}; draw more")
    best = (latents.seen @ text).argsort(descending=True, stable=True)[:search.num_bases]
    bases = [latents.noise[best].clone(), latents.told[best].clone()]
    first = step_generator(seed, 0, stream=1)
    weights = [torch.randn(base.shape, generator=first) for base in bases]
    learned = [*weights, bases[0]]  # the published default leaves the classes, here the embeddings, as they are
    optimizer = torch.optim.Adam([tensor.requires_grad_() for tensor in learned], lr=search.learning_rate)
    told = {}
    for step in tqdm(range(search.num_steps), desc="dream", leave=False):
        score = aug_score(encoder, combined(gan, bases, weights), text, search.num_views, step_generator(seed, step))
        told.setdefault("start", score.item())
        optimizer.zero_grad()
        (-score).backward()
        optimizer.step()
        with torch.no_grad():
            bases[0].clamp_(-LIMIT, LIMIT)
    with torch.no_grad():
        image = combined(gan, bases, weights)
        told["end"] = aug_score(encoder, image, text, search.num_views, step_generator(seed, search.num_steps)).item()
        return to_pil(image.clamp(-1, 1))[0], {"start": told["end"], **told}


def combined(gan: Generator, bases: list[Tensor], weights: list[Tensor]) -> Float[Tensor, "1 3 size size"]:
    """The picture of the bases' weighted mean; the mean of embeddings is given their length, 1, again."""
    noise, told = (((weight.softmax(0)) * base).sum(0, keepdim=True)
                   for weight, base in zip(weights, bases, strict=True))
    return gan(noise, F.normalize(told, dim=-1))


def aug_score(encoder: Encoder, image: Float[Tensor, "1 3 size size"], text: Float[Tensor, " dim"], num_views: int,
              generator: torch.Generator) -> Float[Tensor, ""]:
    """AugCLIP: the mean cosine of a text and of `num_views` changed views (`kdlib.data.augment.augment`)."""
    views = augment(image.expand(num_views, -1, -1, -1), generator)
    return (embed(encoder, views) @ text).mean()


def embed(encoder: Encoder, images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch dim"]:
    """f_img, with gradients."""
    return encoder.model.encode_image(images, normalize=True)
