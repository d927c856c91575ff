"""Trains the VQGAN: reconstruction, commitment, perceptual and adversarial terms; dead codes revived; measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from accelerate.utils import broadcast
from jaxtyping import Float, Int
from torch import Tensor, nn

from kdlib.data.augment import shift_and_mirror
from kdlib.data.pixels import normalise_pixels
from kdlib.files import array_hash
from kdlib.models.discrete.tokenizer import Tokenizer, TokenizerConfig
from kdlib.training.critic import EarlyFeatures, hinge_terms, make_critic
from kdlib.training.loop import TrainSettings, seed_weights, train

COMMITMENT, SQUARED, PERCEPTUAL, ADVERSARIAL = 0.25, 4.0, 0.2, 0.02


class TokenizerObjective(nn.Module):
    """The VQGAN's two players in one loss: each term reaches only the player that it is for.

    pictures   uint8 (num_pictures, size_px, size_px, 3)
    gan_start  step at which the adversarial term sets in;  num_steps  of the whole run (codes revive in its first half)
    """

    def __init__(self, tokenizer: Tokenizer, pictures: np.ndarray, gan_start: int, num_steps: int):
        super().__init__()
        self.tokenizer = tokenizer
        self.critic = make_critic()
        self.features = EarlyFeatures()
        self.pictures = torch.from_numpy(pictures)
        self.gan_start, self.num_steps = gan_start, num_steps
        self.register_buffer("usage", torch.full((tokenizer.num_codes,), 1 / tokenizer.num_codes))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, rows: Int[Tensor, " batch"], generator: torch.Generator) -> dict[str, Tensor]:
        """The sum of all terms for the pictures of `rows`."""
        images = shift_and_mirror(normalise_pixels(self.pictures[rows]), generator).to(self.usage.device)
        latents = self.tokenizer.latents(images)
        codes = self.tokenizer.nearest(latents.detach())
        self.revive(latents, codes, generator)
        broadcast(self.tokenizer.network.quantize.embedding.weight.data)  # where processes revived differently
        quantised = self.tokenizer.look_up(codes)
        copies = self.tokenizer.reconstruct(latents + (quantised - latents).detach()).float()
        terms = {
            "reconstruction": (copies - images).abs().mean() + SQUARED * F.mse_loss(copies, images),
            "codebook": F.mse_loss(quantised, latents.detach()) + COMMITMENT * F.mse_loss(latents, quantised.detach()),
            "perceptual": PERCEPTUAL * self.features.distance(copies, images)}
        if self.step >= self.gan_start:
            terms |= self.adversarial(copies, images)
        self.step += 1
        loss = sum(terms.values())
        return {"loss": loss, "reconstruction": terms["reconstruction"].detach(),
                "psnr_db": -10 * (F.mse_loss(copies.detach(), images) / 4).log10()}

    def adversarial(self, copies: Float[Tensor, "batch 3 height width"],
                    images: Float[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """The two players' terms; the tokenizer's is a small part of its loss."""
        player, critic = hinge_terms(self.critic, copies, images)
        return {"tokenizer": ADVERSARIAL * player, "critic": critic}

    @torch.no_grad()
    def revive(self, latents: Tensor, codes: Int[Tensor, "batch positions"], generator: torch.Generator) -> None:
        """Moves codes that are used less than a tenth of their fair share onto latents of this batch."""
        fair = 1 / self.tokenizer.num_codes
        counts = torch.bincount(codes.flatten(), minlength=self.tokenizer.num_codes)
        self.usage.lerp_(counts / codes.numel(), 0.02)
        dead = (self.usage < 0.1 * fair).nonzero()[:, 0]
        if self.step >= self.num_steps // 2 or not len(dead):
            return
        spots = latents.permute(0, 2, 3, 1).flatten(0, 2)
        chosen = torch.randperm(len(spots), generator=generator)[:len(dead)].to(spots.device)
        self.tokenizer.network.quantize.embedding.weight[dead[:len(chosen)]] = spots[chosen]
        self.usage[dead[:len(chosen)]] = fair


def train_tokenizer(pictures: np.ndarray, folder: str | Path, *, num_codes: int, code_dim: int,
                    width: int, num_downsamplings: int, batch_size: int, num_steps: int, learning_rate: float,
                    gan_start: int, seed: int) -> pd.DataFrame:
    """Trains on `pictures` and saves `folder`/model; returns the history. Goes on from `folder`/checkpoint."""
    seed_weights(seed)
    tokenizer = Tokenizer(TokenizerConfig(pictures.shape[1], num_codes, code_dim, width, num_downsamplings))
    objective = TokenizerObjective(tokenizer, pictures, gan_start, num_steps)
    settings = TrainSettings(num_steps=num_steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed,
                             weight_decay=0.0, ema_decay=0.998, data_id=array_hash(pictures))
    history = train(objective, len(pictures), settings, Path(folder) / "checkpoint")
    tokenizer.save(Path(folder) / "model")
    return history
