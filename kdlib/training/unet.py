"""Trains the continuous KNN-Diffusion model (paper, section 6.6): pictures and embeddings in, no text anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from kdlib.data.pixels import normalise_pixels
from kdlib.files import array_hash, atomic_file
from kdlib.models.continuous.process import Process, training_loss
from kdlib.models.continuous.unet import ConditionedUnet, UnetConfig
from kdlib.training.conditions import ConditionedObjective
from kdlib.training.loop import TrainSettings, seed_weights, train
from kdlib.training.views import view_pictures
from kdlib.types import Embeddings


class UnetObjective(ConditionedObjective):
    """The loss of section 6.6 over pictures, with embeddings and neighbours as `ConditionedObjective` has them.

    pictures  (views, num_pictures, size_px, size_px, 3) uint8, the views of `kdlib.training.views.view_pictures`; a
              memory-mapped file will do, since only the batch's are read
    queries   (views, num_pictures, dim) unit vectors: what each view is shown with

    Raises ValueError for pictures of other views than the queries, and as ConditionedObjective does.
    """

    def __init__(self, unet: ConditionedUnet, pictures: UInt8[np.ndarray, "views pictures size size 3"],
                 queries: np.ndarray, embeddings: Embeddings, neighbours: np.ndarray, condition_dropout: float):
        super().__init__(queries, embeddings, neighbours, condition_dropout)
        if pictures.shape[:2] != queries.shape[:2]:
            raise ValueError(f"pictures {pictures.shape} and queries {queries.shape} are not of the same views")
        self.unet, self.pictures = unet, pictures

    def forward(self, rows: Int[Tensor, " batch"], generator: torch.Generator) -> dict[str, Tensor]:
        """The process' loss for a view of each picture of `rows`."""
        device = next(self.unet.parameters()).device
        view, condition = self.draw(rows, generator)
        x_0 = normalise_pixels(torch.from_numpy(self.pictures[view.cpu().numpy(), rows.cpu().numpy()]))
        return {"loss": training_loss(self.unet.process, self.unet, x_0.to(device), condition.to(device), generator)}


def view_file(pictures: UInt8[np.ndarray, "pictures height width 3"], num_changed: int, seed: int,
              path: str | Path) -> UInt8[np.ndarray, "views pictures height width 3"]:
    """The views of `view_pictures`, written to a .npy file and memory-mapped, so that they needn't fit into memory."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        file = np.lib.format.open_memmap(temporary, "w+", np.uint8, (2 + num_changed, *pictures.shape))
        for number, view in enumerate(view_pictures(pictures, num_changed, seed)):
            file[number] = view
        file.flush()
    return np.load(path, mmap_mode="r")


def train_unet(pictures: UInt8[np.ndarray, "views pictures size size 3"],
               queries: Float[np.ndarray, "views pictures dim"], embeddings: Embeddings, neighbours: np.ndarray,
               folder: str | Path, *, widths: Sequence[int], num_blocks: int, num_attending: int, folding: int,
               process: dict, batch_size: int, num_steps: int, learning_rate: float, condition_dropout: float,
               conditioning: str, seed: int, **training) -> pd.DataFrame:
    """Trains as UnetObjective says and saves `folder`/model (float16); returns the history.

    process   what Process takes: num_timesteps, schedule, prediction, ...
    training  other fields of TrainSettings: weight_decay, ema_decay, precision, ...

    Goes on from `folder`/checkpoint when it was cut off. Raises ValueError for sizes, a process or a conditioning that
    make no sense, neighbours of other views or pictures, or a picture among its own neighbours.
    """
    seed_weights(seed)
    unet = ConditionedUnet(UnetConfig(
        size_px=pictures.shape[2], widths=widths, num_blocks=num_blocks, num_attending=num_attending, folding=folding,
        process=asdict(Process(**process)), conditioning=conditioning, embedding_dim=embeddings.vectors.shape[1],
        k=neighbours.shape[-1], encoder_id=embeddings.encoder_id))
    objective = UnetObjective(unet, pictures, queries, embeddings, neighbours, condition_dropout)
    settings = TrainSettings(num_steps=num_steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed,
                             data_id=f"{embeddings.encoder_id} "
                                     f"{array_hash(pictures, queries, neighbours, embeddings.ids)} {unet.process}",
                             **training)
    history = train(objective, len(embeddings), settings, Path(folder) / "checkpoint")
    unet.save(Path(folder) / "model", torch.float16)
    return history
