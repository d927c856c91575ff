"""How LAFITE's GAN learns, without text: two players in one loss, a contrast through the encoder and one without."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.func import functional_call

from kdlib.baselines.gan import LEVEL, Discriminator, GanConfig, Generator, perturb
from kdlib.data.pixels import normalise_pixels
from kdlib.encoder import Encoder
from kdlib.files import array_hash
from kdlib.training.loop import TrainSettings, seed_weights, train

CONTRAST, TEMPERATURE = 10.0, 0.5      # the published code's weight of both contrasts (itc, itd), and tau
R1, R1_INTERVAL = 10.0, 16             # gamma, and how many steps lie between two such penalties
BETAS = (0.0, 0.99)                    # StyleGAN2's


def contrast_as_published(pictures: Float[Tensor, "batch dim"], told: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """Mean of -log softmax_i(exp(cos(picture_i, told_j) / tau)) at i = j, which is what the published code computes.

    Its own comment calls that incorrect (the exponential is in the softmax already), but the published weights and tau
    belong to it: at tau = 0.5 it is steep near cosine 1, where `contrast_mended` is flat.
    """
    return cross_entropy(torch.exp(cosines(pictures, told) / TEMPERATURE))


def contrast_mended(pictures: Float[Tensor, "batch dim"], told: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """Mean of -log softmax_i(cos(picture_i, told_j) / tau) at i = j: the formula that the paper writes."""
    return cross_entropy(cosines(pictures, told) / TEMPERATURE)


CONTRASTS = {"published": contrast_as_published, "mended": contrast_mended}


def cosines(first: Float[Tensor, "batch dim"], second: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch batch"]:
    """Of all pairs, in float32 also under autocast, since exponentials of them are taken."""
    with torch.autocast(first.device.type, enabled=False):
        return F.normalize(first.float(), dim=-1) @ F.normalize(second.float(), dim=-1).T


def cross_entropy(scores: Float[Tensor, "batch batch"]) -> Float[Tensor, ""]:
    """Which of the pictures (rows) belongs to each condition (column)? Its own, on the diagonal."""
    return -scores.log_softmax(0).diagonal().mean()


class GanObjective(nn.Module):
    """LAFITE's two players in one loss: each term reaches only the player that it is for.

    pictures   (num_views, num_pictures, size_px, size_px, 3) uint8
    queries    (num_views, num_pictures, dim) unit vectors: f_img of each view; a view of a picture is drawn each time
    tower      the encoder's image side, frozen
    contrast   a name of CONTRASTS        level  of `perturb`

    Raises ValueError for another contrast, or pictures of other views or another size than the networks'.
    """

    def __init__(self, maker: Generator, critic: Discriminator,
                 pictures: UInt8[np.ndarray, "views pictures size size 3"], queries: Float[np.ndarray, "_ _ dim"],
                 tower: nn.Module, contrast: str, level: float):
        super().__init__()
        if contrast not in CONTRASTS:
            raise ValueError(f"contrast = {contrast!r} must be one of {', '.join(CONTRASTS)}")
        if pictures.shape[:2] != queries.shape[:2] or pictures.shape[2] != maker.config.size_px:
            raise ValueError(f"pictures {pictures.shape}, queries {queries.shape} and a network of "
                             f"{maker.config.size_px} px don't fit: one width for each of 4, 8, 16, ... px")
        self.maker, self.critic = maker, critic
        self.tower = copy.deepcopy(tower).requires_grad_(False)
        self.pictures, self.queries = pictures, torch.from_numpy(queries)
        self.contrast, self.level = CONTRASTS[contrast], level
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, rows: Int[Tensor, " batch"], generator: torch.Generator) -> dict[str, Tensor]:
        """The sum of all terms for a view of each picture of `rows`."""
        self.tower.eval()
        device = self.step.device
        view = torch.randint(len(self.queries), rows.shape, generator=generator)
        told = perturb(self.queries[view, rows].float(), generator, self.level).to(device)
        noise = torch.randn(len(rows), self.maker.config.noise_dim, generator=generator).to(device)
        real = normalise_pixels(torch.from_numpy(self.pictures[view.numpy(), rows.cpu().numpy()])).to(device)
        made = self.maker(noise, told).float()
        maker, critic = self.maker_terms(made, told), self.critic_terms(made.detach(), real, told)
        if self.step % R1_INTERVAL == 0:
            critic["r1"] = R1_INTERVAL * r1_penalty(self.critic, real, told)
        self.step += 1
        return {"loss": sum(maker.values()) + sum(critic.values()), "maker": maker["deceives"].detach(),
                "critic": critic["tells"].detach(), "encoder": maker["encoder"].detach()}

    def maker_terms(self, made: Float[Tensor, "batch 3 size size"],
                    told: Float[Tensor, "batch dim"]) -> dict[str, Tensor]:
        """The generator's, before a critic whose weights are constants."""
        frozen = {name: value.detach() for name, value in self.critic.named_parameters()}
        scores, features = functional_call(self.critic, frozen, (made, told))
        return {"deceives": F.softplus(-scores.float()).mean(),
                "encoder": CONTRAST * self.contrast(self.tower(made), told),
                "semantics": CONTRAST * self.contrast(features, told)}

    def critic_terms(self, made: Float[Tensor, "batch 3 size size"], real: Float[Tensor, "batch 3 size size"],
                     told: Float[Tensor, "batch dim"]) -> dict[str, Tensor]:
        """The discriminator's but for R1; `made` carries no gradient."""
        scores, features = self.critic(real, told)
        return {"tells": F.softplus(self.critic(made, told)[0].float()).mean() + F.softplus(-scores.float()).mean(),
                "semantics": CONTRAST * self.contrast(features, told)}


def r1_penalty(critic: nn.Module, real: Float[Tensor, "batch 3 size size"],
               told: Float[Tensor, "batch dim"]) -> Float[Tensor, ""]:
    """gamma / 2 times the mean squared gradient of the scores in the real pictures (Mescheder et al., 2018)."""
    with torch.autocast(real.device.type, enabled=False):
        real = real.detach().float().requires_grad_()
        slopes = torch.autograd.grad(critic(real, told.float())[0].sum(), real, create_graph=True)[0]
    return R1 / 2 * slopes.square().sum((1, 2, 3)).mean()


def train_gan(pictures: UInt8[np.ndarray, "views pictures size size 3"],
              queries: Float[np.ndarray, "views pictures dim"], encoder: Encoder, folder: str | Path, *,
              widths: Sequence[int], noise_dim: int, critic_width: int, batch_size: int, num_steps: int,
              learning_rate: float, contrast: str, seed: int, level: float = LEVEL, **training) -> pd.DataFrame:
    """Trains as GanObjective says and saves `folder`/model, the generator alone; returns the history.

    training  other fields of TrainSettings: precision, ema_decay, ...

    Nothing is clipped or decayed, as published. Goes on from `folder`/checkpoint when it was cut off. Raises ValueError
    for sizes that make no sense.
    """
    seed_weights(seed)
    config = GanConfig(tuple(widths), noise_dim, queries.shape[-1], encoder.identity)
    maker, critic = Generator(config), Discriminator(pictures.shape[2], critic_width, queries.shape[-1])
    objective = GanObjective(maker, critic, pictures, queries, encoder.model.visual, contrast, level)
    data_id = f"{encoder.identity} {array_hash(pictures, queries)} {contrast} {level}"
    settings = TrainSettings(num_steps=num_steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed,
                             data_id=data_id, **{"betas": BETAS, "weight_decay": 0.0, "clip_norm": math.inf,
                                                 "ema_decay": 0.998, **training})
    history = train(objective, pictures.shape[1], settings, Path(folder) / "checkpoint")
    maker.save(Path(folder) / "model")
    return history
