"""Trains the judge: which concept, which style, where among the texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from kdlib.data.augment import augment
from kdlib.data.pixels import normalise_pixels
from kdlib.evaluation.judge import Judge, held_out_pictures, text_features
from kdlib.files import array_hash
from kdlib.training.loop import TrainSettings, seed_weights, train

TEXT_SCALE = 20.0  # of cosines, in the loss of the text head
LABEL_SMOOTHING = 0.1
SEED_SHIFT = 10_000  # the judge shares no random number with the encoder of the same seed


class JudgeObjective(nn.Module):
    """Cross-entropies of concept, style, and of the own title among all titles, with one weight for each.

    pictures  uint8 (num_pictures, size_px, size_px, 3)
    groups    for each row to draw: the pictures that differ in skin tone only; one of them is taken at random
    concepts, styles  (num_pictures,) int64, places in the judge's lists;  titles  (num_concepts, TEXT_DIM) unit vectors
    """

    def __init__(self, judge: Judge, pictures: np.ndarray, groups: list[np.ndarray], concepts: np.ndarray,
                 styles: np.ndarray, titles: Tensor):
        super().__init__()
        self.judge, self.groups, self.titles = judge, groups, titles
        self.pictures, self.concepts, self.styles = map(torch.from_numpy, (pictures, concepts, styles))

    def forward(self, rows: Int[Tensor, " batch"], generator: torch.Generator) -> dict[str, Tensor]:
        """The loss of the pictures of `rows` (rows of `groups`), augmented."""
        draw = torch.rand(len(rows), generator=generator)
        groups = [self.groups[row] for row in rows]
        chosen = torch.tensor([group[int(u * len(group))] for group, u in zip(groups, draw, strict=True)])
        images = augment(normalise_pixels(self.pictures[chosen]), generator).to(self.judge.text.weight.device)
        features = self.judge(images)
        concept, style = self.concepts[chosen].to(features.device), self.styles[chosen].to(features.device)
        with torch.autocast(features.device.type, enabled=False):
            scores = self.judge.concept(features)
            by_title = TEXT_SCALE * F.normalize(self.judge.text(features), dim=-1) @ self.titles.to(features.device).T
            terms = [F.cross_entropy(scores, concept, label_smoothing=LABEL_SMOOTHING),
                     F.cross_entropy(self.judge.style(features), style), F.cross_entropy(by_title, concept)]
        return {"loss": sum(terms), "concept": terms[0].detach(), "style": terms[1].detach(), "text": terms[2].detach(),
                "accuracy": (scores.argmax(-1) == concept).float().mean()}


def train_judge(stickers: pd.DataFrame, pictures: np.ndarray, folder: str | Path, *, backbone: str, batch_size: int,
                num_steps: int, learning_rate: float, seed: int) -> pd.DataFrame:
    """Trains on all of `stickers` (row i is pictures[i]) but `held_out_pictures`, and saves `folder`/model.

    Both splits are learned. Returns the history; checkpoints to `folder`/checkpoint and goes on from there when it
    was cut off.
    """
    rows = np.flatnonzero(~held_out_pictures(stickers))
    table = stickers.iloc[rows].reset_index(drop=True)
    names, styles = (sorted(table[column].unique()) for column in ("concept", "style"))
    titles = text_features(table.drop_duplicates("concept").set_index("concept").title[names].tolist())
    seed_weights(seed + SEED_SHIFT)
    judge = Judge(backbone, pictures.shape[1], names, styles)
    groups = [np.asarray(g) for g in table.groupby(["style", "concept"], sort=True).indices.values()]
    labels = [pd.Index(known).get_indexer(table[column]).astype(np.int64)
              for known, column in [(names, "concept"), (styles, "style")]]
    objective = JudgeObjective(judge, np.ascontiguousarray(pictures[rows]), groups, *labels, titles)
    settings = TrainSettings(num_steps=num_steps, batch_size=batch_size, learning_rate=learning_rate,
                             seed=seed + SEED_SHIFT, data_id=array_hash(pictures[rows], *labels, titles.numpy()))
    history = train(objective, len(groups), settings, Path(folder) / "checkpoint")
    judge.save(Path(folder) / "model")
    return history
