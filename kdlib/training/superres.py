"""Trains the upsampler on true pictures: stickers are vectors, so a target of any size is exact (paper section 6.6)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from kdlib.data.drawings import render
from kdlib.data.pixels import normalise_pixels
from kdlib.files import array_hash
from kdlib.models.continuous.process import Process, training_loss
from kdlib.models.diffusion_superres import DiffusionUpsampler, DiffusionUpsamplerConfig, shown_small
from kdlib.models.superres import Upsampler, UpsamplerConfig
from kdlib.training.critic import EarlyFeatures, hinge_terms, make_critic
from kdlib.training.loop import TrainSettings, seed_weights, train

PERCEPTUAL, ADVERSARIAL = 0.5, 0.02
REBUILT, WORN = 0.5, 0.25  # shares of the small pictures: through the tokenizer, blurred or noisy; the rest is clean
BLUR_SIGMA, MAX_NOISE = 0.6, 0.15  # GLIDE's blur, at the small size; noise of pixels in [-1, 1]


class UpsamplerObjective(nn.Module):
    """Pixels, features and a critic: three measures of how far an enlarged picture is from the true one.

    svgs      (num_pictures,) the drawings, from which targets are rendered
    clean     uint8 (num_pictures, size_px, size_px, 3): the same, small
    rebuilt   of the same shape: small and through the tokenizer, so as the discrete generator draws
    crop_px   side of the part of a small picture that a step looks at
    gan_start step at which the adversarial term sets in
    """

    def __init__(self, upsampler: Upsampler | DiffusionUpsampler, svgs: Sequence[str],
                 clean: UInt8[np.ndarray, "pictures size size 3"], rebuilt: UInt8[np.ndarray, "pictures size size 3"],
                 crop_px: int, gan_start: int):
        super().__init__()
        if not 1 <= crop_px <= clean.shape[1]:
            raise ValueError(f"crop_px = {crop_px} must lie in 1 .. {clean.shape[1]}, the pictures' side")
        self.upsampler, self.critic, self.features = upsampler, make_critic(), EarlyFeatures()
        self.svgs, self.small = list(svgs), torch.from_numpy(np.stack([clean, rebuilt]))
        self.crop_px, self.gan_start = crop_px, gan_start
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, rows: Int[Tensor, " batch"], generator: torch.Generator) -> dict[str, Tensor]:
        """The sum of all terms for the pictures of `rows`."""
        device = self.step.device
        small, large = (images.to(device) for images in self.draw(rows, generator))
        made = self.upsampler(small).float()
        terms = {"pixels": F.l1_loss(made, large), "perceptual": PERCEPTUAL * self.features.distance(made, large)}
        if self.step >= self.gan_start:
            maker, terms["critic"] = hinge_terms(self.critic, made, large)
            terms["maker"] = ADVERSARIAL * maker
        self.step += 1
        return {"loss": sum(terms.values()), "pixels": terms["pixels"].detach(),
                "perceptual": terms["perceptual"].detach()}

    def draw(self, rows: Int[Tensor, " batch"], generator: torch.Generator
             ) -> tuple[Float[Tensor, "batch 3 crop crop"], Float[Tensor, "batch 3 larger larger"]]:
        """Crops of small pictures as they come, and of the true large ones; half of the pairs mirrored."""
        uniform = lambda *shape: torch.rand(len(rows), *shape, generator=generator)
        kind, mirrored = uniform(), uniform() < 0.5
        small = normalise_pixels(self.small[(kind < REBUILT).long(), rows])
        small = torch.where((kind > 1 - WORN)[:, None, None, None], worn(small, generator), small)
        scale, size = self.upsampler.config.scale, self.small.shape[2]
        with ThreadPoolExecutor() as pool:
            drawn = list(pool.map(lambda row: np.asarray(render(self.svgs[row], size * scale)), rows.tolist()))
        large = normalise_pixels(torch.from_numpy(np.stack(drawn)))
        corners = (uniform(2) * (size - self.crop_px + 1)).long()
        small, large = crop(small, corners, self.crop_px), crop(large, corners * scale, self.crop_px * scale)
        flip = lambda images: torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        return flip(small), flip(large)


class DiffusionObjective(UpsamplerObjective):
    """The process' loss for the same pairs of pictures: the large one is to be seen through its noise."""

    def __init__(self, upsampler: DiffusionUpsampler, svgs: Sequence[str],
                 clean: UInt8[np.ndarray, "pictures size size 3"], rebuilt: UInt8[np.ndarray, "pictures size size 3"],
                 crop_px: int):
        super().__init__(upsampler, svgs, clean, rebuilt, crop_px, gan_start=0)
        del self.critic, self.features  # noise is what this one is measured by

    def forward(self, rows: Int[Tensor, " batch"], generator: torch.Generator) -> dict[str, Tensor]:
        """The mean squared error for the pictures of `rows`."""
        small, large = (images.to(self.step.device) for images in self.draw(rows, generator))
        return {"loss": training_loss(self.upsampler.process, self.upsampler, large, shown_small(small), generator)}


def worn(images: Float[Tensor, "batch 3 size size"], generator: torch.Generator) -> Float[Tensor, "batch 3 size size"]:
    """Half of the pictures blurred, all of them with noise of some strength, as a continuous generator leaves it."""
    draw = torch.rand(len(images), 2, 1, 1, 1, generator=generator)
    weights = torch.exp(-torch.tensor([-1.0, 0, 1]) ** 2 / (2 * BLUR_SIGMA ** 2))
    kernel = torch.outer(weights, weights) / weights.sum() ** 2
    blurred = F.conv2d(F.pad(images, (1,) * 4, mode="replicate"), kernel.expand(3, 1, 3, 3), groups=3)
    noise = torch.randn(images.shape, generator=generator) * draw[:, 1] * MAX_NOISE
    return (torch.where(draw[:, 0] < 0.5, blurred, images) + noise).clamp(-1, 1)


def crop(images: Float[Tensor, "batch 3 height width"], corners: Int[Tensor, "batch 2"],
         size: int) -> Float[Tensor, "batch 3 size size"]:
    """Of each picture the square of side `size` whose upper left corner (row, column) is told."""
    return torch.stack([image[:, top:top + size, left:left + size]
                        for image, (top, left) in zip(images, corners.tolist(), strict=True)])


def as_bytes(texts: Sequence[str]) -> UInt8[np.ndarray, " bytes"]:
    """Texts one after another, an end after each, as numbers: an array of texts would pad all to the longest."""
    return np.frombuffer("".join(f"{text}\0" for text in texts).encode(), np.uint8)


def train_upsampler(svgs: Sequence[str], clean: UInt8[np.ndarray, "pictures size size 3"],
                    rebuilt: UInt8[np.ndarray, "pictures size size 3"], folder: str | Path, *, scale: int, width: int,
                    num_blocks: int, crop_px: int, batch_size: int, num_steps: int, learning_rate: float,
                    gan_start: int, seed: int) -> pd.DataFrame:
    """Trains as UpsamplerObjective says and saves `folder`/model; returns the history.

    Goes on from `folder`/checkpoint when it was cut off. Raises ValueError for sizes that make no sense.
    """
    seed_weights(seed)
    upsampler = Upsampler(UpsamplerConfig(scale, width, num_blocks))
    objective = UpsamplerObjective(upsampler, svgs, clean, rebuilt, crop_px, gan_start)
    settings = TrainSettings(num_steps=num_steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed,
                             weight_decay=0.0, ema_decay=0.998, data_id=" ".join(
                                 [array_hash(clean, rebuilt, as_bytes(svgs)), f"{crop_px} {gan_start}"]))
    history = train(objective, len(svgs), settings, Path(folder) / "checkpoint")
    upsampler.save(Path(folder) / "model")
    return history


def train_diffusion_upsampler(svgs: Sequence[str], clean: UInt8[np.ndarray, "pictures size size 3"],
                              rebuilt: UInt8[np.ndarray, "pictures size size 3"], folder: str | Path, *, scale: int,
                              widths: Sequence[int], num_blocks: int, process: dict, crop_px: int, batch_size: int,
                              num_steps: int, learning_rate: float, seed: int) -> pd.DataFrame:
    """Trains as DiffusionObjective says and saves `folder`/model; returns the history.

    process  what Process takes: num_timesteps, schedule, prediction, ...
    Goes on from `folder`/checkpoint when it was cut off. Raises ValueError for sizes or a process that make no sense.
    """
    seed_weights(seed)
    config = DiffusionUpsamplerConfig(scale, widths, num_blocks, asdict(Process(**process)))
    objective = DiffusionObjective(DiffusionUpsampler(config), svgs, clean, rebuilt, crop_px)
    settings = TrainSettings(num_steps=num_steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed,
                             weight_decay=0.0, ema_decay=0.998, data_id=" ".join(
                                 [array_hash(clean, rebuilt, as_bytes(svgs)), str(crop_px)]))
    history = train(objective, len(svgs), settings, Path(folder) / "checkpoint")
    objective.upsampler.save(Path(folder) / "model")
    return history
