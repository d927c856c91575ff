"""Trains the discrete KNN-Diffusion model (paper, algorithm 1): codes and embeddings in, no text anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor, nn

from kdlib.conditioning import ConditionedDenoiser, DenoiserConfig, drop_condition
from kdlib.discrete import Schedule, training_loss
from kdlib.io import array_hash
from kdlib.training import TrainSettings, seed_weights, train
from kdlib.types import Condition, Embeddings


class DenoiserObjective(nn.Module):
    """Algorithm 1 over precomputed codes, embeddings and neighbours.

    codes              (variants, num_pictures, positions) integers; variants are equally good views of a picture
    embeddings         f_img of the same pictures, in the same order
    neighbours         (num_pictures, k) ids of embeddings: knn_img(I, k), the picture itself excluded
    condition_dropout  probability of training with the null condition, for guidance
    """

    def __init__(self, denoiser: ConditionedDenoiser, codes: np.ndarray, embeddings: Embeddings, neighbours: np.ndarray,
                 condition_dropout: float):
        super().__init__()
        row_of = {id: row for row, id in enumerate(embeddings.ids)}
        self.neighbour_rows = torch.tensor([[row_of[id] for id in ids] for ids in neighbours])
        own = torch.arange(len(embeddings))[:, None]
        if (self.neighbour_rows == own).any():
            raise ValueError("a picture is among its own neighbours; search with exclude=ids")
        self.denoiser, self.condition_dropout = denoiser, condition_dropout
        self.codes = torch.from_numpy(codes.astype(np.int64))
        self.vectors = torch.from_numpy(np.array(embeddings.vectors, dtype=np.float32))

    def forward(self, rows: Int[Tensor, " batch"], generator: torch.Generator) -> dict[str, Tensor]:
        """The loss of algorithm 1, lines 4 to 14, for the pictures of `rows`."""
        device = next(self.denoiser.parameters()).device
        variant = torch.randint(len(self.codes), rows.shape, generator=generator)
        condition = Condition(self.vectors[rows], self.vectors[self.neighbour_rows[rows]])
        condition = drop_condition(condition, self.condition_dropout, generator).to(device)
        loss, _, _ = training_loss(self.denoiser.schedule, self.denoiser, self.codes[variant, rows].to(device),
                                       condition, self.denoiser.config.num_codes, generator=generator)
        return {"loss": loss}


def train_denoiser(codes: np.ndarray, embeddings: Embeddings, neighbours: np.ndarray, folder: str | Path, *,
                   num_codes: int, tokenizer_id: str, width: int, num_blocks: int, num_heads: int, mlp_ratio: float,
                   num_timesteps: int, batch_size: int, num_steps: int, learning_rate: float,
                   condition_dropout: float, conditioning: str, seed: int) -> pd.DataFrame:
    """Trains as DenoiserObjective says and saves `folder`/model (float16); returns the history.

    Goes on from `folder`/checkpoint when it was cut off. Raises ValueError for an unknown conditioning, or a picture
    among its own neighbours.
    """
    seed_weights(seed)
    denoiser = ConditionedDenoiser(DenoiserConfig(
        num_codes=num_codes, num_positions=codes.shape[-1], width=width, num_blocks=num_blocks, num_heads=num_heads,
        schedule=Schedule(num_timesteps).to_dict(), embedding_dim=embeddings.vectors.shape[1], k=neighbours.shape[1],
        conditioning=conditioning, mlp_ratio=mlp_ratio, encoder_id=embeddings.encoder_id, tokenizer_id=tokenizer_id))
    objective = DenoiserObjective(denoiser, codes, embeddings, neighbours, condition_dropout)
    settings = TrainSettings(num_steps=num_steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed,
                             data_id=" ".join([embeddings.encoder_id, tokenizer_id,
                                               array_hash(codes, neighbours, embeddings.ids)]))
    history = train(objective, len(embeddings), settings, Path(folder) / "checkpoint")
    denoiser.save(Path(folder) / "model", torch.float16)
    return history
