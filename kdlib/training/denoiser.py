"""Trains the discrete KNN-Diffusion model (paper, algorithm 1): codes and embeddings in, no text anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from kdlib.files import array_hash
from kdlib.models.discrete.denoiser import ConditionedDenoiser, DenoiserConfig
from kdlib.models.discrete.process import Schedule, training_loss
from kdlib.training.conditions import ConditionedObjective
from kdlib.training.loop import TrainSettings, seed_weights, train
from kdlib.training.views import Views
from kdlib.types import Embeddings


class DenoiserObjective(ConditionedObjective):
    """Algorithm 1 over precomputed codes, embeddings and neighbours, as `ConditionedObjective` has them.

    views  of the training pictures: x_0 and f_img(I)
    """

    def __init__(self, denoiser: ConditionedDenoiser, views: Views, embeddings: Embeddings, neighbours: np.ndarray,
                 condition_dropout: float):
        super().__init__(views.vectors, embeddings, neighbours, condition_dropout)
        self.denoiser = denoiser
        self.codes = torch.from_numpy(views.codes.astype(np.int64))

    def forward(self, rows: Int[Tensor, " batch"], generator: torch.Generator) -> dict[str, Tensor]:
        """The loss of algorithm 1, lines 4 to 14, for the pictures of `rows`."""
        device = next(self.denoiser.parameters()).device
        view, condition = self.draw(rows, generator)
        return {"loss": training_loss(self.denoiser.schedule, self.denoiser, self.codes[view, rows].to(device),
                                      condition.to(device), self.denoiser.config.num_codes, generator=generator)}


def train_denoiser(views: Views, embeddings: Embeddings, neighbours: np.ndarray, folder: str | Path, *,
                   num_codes: int, tokenizer_id: str, width: int, num_blocks: int, num_heads: int, mlp_ratio: float,
                   num_timesteps: int, batch_size: int, num_steps: int, learning_rate: float,
                   condition_dropout: float, conditioning: str, seed: int, **training) -> pd.DataFrame:
    """Trains as DenoiserObjective says and saves `folder`/model (float16); returns the history.

    training  other fields of TrainSettings: weight_decay, ema_decay, precision, ...

    Goes on from `folder`/checkpoint when it was cut off. Raises ValueError for an unknown conditioning, neighbours
    of other views or pictures, or a picture among its own neighbours.
    """
    seed_weights(seed)
    denoiser = ConditionedDenoiser(DenoiserConfig(
        num_codes=num_codes, num_positions=views.codes.shape[-1], width=width, num_blocks=num_blocks,
        num_heads=num_heads, mlp_ratio=mlp_ratio, schedule=Schedule(num_timesteps).to_dict(), conditioning=conditioning,
        embedding_dim=embeddings.vectors.shape[1], k=neighbours.shape[-1], encoder_id=embeddings.encoder_id,
        tokenizer_id=tokenizer_id))
    objective = DenoiserObjective(denoiser, views, embeddings, neighbours, condition_dropout)
    settings = TrainSettings(num_steps=num_steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed,
                             data_id=" ".join([embeddings.encoder_id, tokenizer_id,
                                               array_hash(views.codes, views.vectors, neighbours, embeddings.ids)]),
                             **training)
    history = train(objective, len(embeddings), settings, Path(folder) / "checkpoint")
    denoiser.save(Path(folder) / "model", torch.float16)
    return history
