"""Trains the editor (paper section 3.1): a picture with a foreign part and f_img of the true one in, the true out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float16, Int, Int32, UInt8, UInt16
from torch import Tensor, nn
from tqdm import tqdm

from kdlib.encoder import Encoder
from kdlib.files import array_hash
from kdlib.models.condition import Condition
from kdlib.models.conditioning import drop_condition
from kdlib.models.discrete.denoiser import ConditionedDenoiser
from kdlib.models.discrete.process import training_loss
from kdlib.models.discrete.tokenizer import Tokenizer, encode_view
from kdlib.models.edit.denoiser import EditDenoiser
from kdlib.models.edit.pairs import MIN_DRAWING, Alignment, drawing_area, first_aligned, make_pair, pair_generator
from kdlib.retrieval import Index
from kdlib.training.loop import TrainSettings, seed_weights, train
from kdlib.types import Embeddings

MAX_TRIED = 8        # neighbours of a picture that may be aligned with it
NO_NEIGHBOURS = 0.5  # share of the lessons in which the part comes without neighbours


@dataclass(frozen=True)
class Lessons:
    """Pairs of pictures with neighbours, `num_areas` of each, as the editor sees them.

    codes        (num_pictures, positions)              of the pictures: x_0
    manipulated  (num_areas, num_pictures, positions)   codes of I_manip
    queries      (num_areas, num_pictures, dim) float16 f_img(I M)
    neighbours   (num_areas, num_pictures, k)           rows of the index: knn_img(I M, k) without the picture itself
    report       a row for each picture: id, place (which neighbour was aligned), before, after (correlations)
    """

    codes: UInt16[np.ndarray, "pictures positions"]
    manipulated: UInt16[np.ndarray, "areas pictures positions"]
    queries: Float16[np.ndarray, "areas pictures dim"]
    neighbours: Int32[np.ndarray, "areas pictures k"]
    report: pd.DataFrame


def make_lessons(pictures: UInt8[np.ndarray, "pictures size size 3"], index: Index, encoder: Encoder,
                 tokenizer: Tokenizer, k: int, num_areas: int, seed: int) -> Lessons:
    """Lessons from the pictures of the index, in its order; those of which no neighbour can be aligned are left out.

    Raises ValueError for pictures that aren't those of the index, or where nothing is left.
    """
    if len(pictures) != len(index):
        raise ValueError(f"{len(pictures)} pictures are not the {len(index)} of the index; give those, in its order")
    aligned = align_all(pictures, index)
    kept = [row for row, found in enumerate(aligned)
            if found and drawing_area(pictures[row]).sum() >= MIN_DRAWING]
    if not kept:
        raise ValueError("no picture of the index has a neighbour that can be aligned with it")
    ids, manipulated, queries = index.ids[kept], [], []
    for area in range(num_areas):
        pairs = [make_pair(pictures[row], aligned[row].picture, pair_generator(seed, str(index.ids[row]), area))
                 for row in kept]
        manipulated.append(encode_view(tokenizer, np.stack([pair.manipulated for pair in pairs])))
        queries.append(encoder.encode_images(np.stack([pair.local for pair in pairs])).astype(np.float16))
    neighbours = [rows_of(index, vectors, k, ids) for vectors in queries]
    report = pd.DataFrame({"id": ids} | {name: [getattr(aligned[row], name) for row in kept]
                                         for name in ("place", "before", "after")})
    return Lessons(encode_view(tokenizer, pictures[kept]), np.stack(manipulated), np.stack(queries),
                   np.stack(neighbours), report)


def align_all(pictures: UInt8[np.ndarray, "pictures size size 3"], index: Index) -> list[Alignment | None]:
    """For each picture of the index the first of its MAX_TRIED nearest others that can be aligned with it."""
    near = rows_of(index, index.embeddings.vectors, min(MAX_TRIED, len(index) - 1), index.ids)
    return [first_aligned((pictures[other] for other in row), picture)
            for picture, row in tqdm(list(zip(pictures, near, strict=True)), desc="align")]


def rows_of(index: Index, vectors: np.ndarray, k: int, left_out: np.ndarray) -> Int32[np.ndarray, "queries k"]:
    """The rows of the k pictures nearest to each vector, without the one of the id that is left out."""
    ids = index.search(np.asarray(vectors, dtype=np.float32), k, exclude=left_out.tolist()).ids
    return pd.Index(index.ids).get_indexer(ids.ravel()).reshape(ids.shape).astype(np.int32)


class EditObjective(nn.Module):
    """Algorithm 1 with I_manip beside x_t, and f_img(I M) as the query.

    embeddings  of the index that the lessons' neighbours are rows of
    dropout     probability of each: no picture, and no condition

    In NO_NEIGHBOURS of the lessons the condition is the query alone.
    """

    def __init__(self, denoiser: EditDenoiser, lessons: Lessons, embeddings: Embeddings, dropout: float):
        super().__init__()
        self.denoiser, self.dropout = denoiser, dropout
        self.codes, self.manipulated = (torch.from_numpy(codes.astype(np.int64))
                                        for codes in (lessons.codes, lessons.manipulated))
        self.queries, self.neighbours = map(torch.from_numpy, (lessons.queries, lessons.neighbours.astype(np.int64)))
        self.vectors = torch.from_numpy(np.array(embeddings.vectors, dtype=np.float32))

    def forward(self, rows: Int[Tensor, " batch"], generator: torch.Generator) -> dict[str, Tensor]:
        """The loss of the pictures of `rows`, each with one of its areas."""
        device = next(self.denoiser.parameters()).device
        x_0, condition, source = self.draw(rows, generator)
        source = source.to(device)
        denoise = lambda x_t, t, given: self.denoiser(x_t, t, given, source)
        return {"loss": training_loss(self.denoiser.schedule, denoise, x_0.to(device), condition.to(device),
                                      self.denoiser.config.num_codes, generator=generator)}

    def draw(self, rows: Int[Tensor, " batch"], generator: torch.Generator
             ) -> tuple[Int[Tensor, "batch positions"], Condition, Int[Tensor, "batch positions"]]:
        """x_0, what is told of it, and the picture's codes, each of the latter two missing as often as told."""
        area = torch.randint(len(self.queries), rows.shape, generator=generator)
        chance = torch.rand(2, len(rows), 1, generator=generator)
        neighbours = self.vectors[self.neighbours[area, rows]] * (chance[0] >= NO_NEIGHBOURS)[..., None]
        condition = drop_condition(Condition(self.queries[area, rows].float(), neighbours), self.dropout, generator)
        source = self.manipulated[area, rows]
        return self.codes[rows], condition, torch.where(chance[1] < self.dropout, self.denoiser.no_source(source),
                                                        source)


def train_editor(lessons: Lessons, embeddings: Embeddings, generator: str | Path, folder: str | Path, *,
                 batch_size: int, num_steps: int, learning_rate: float, dropout: float, seed: int) -> pd.DataFrame:
    """Fine-tunes the generator saved in `generator` as EditObjective says, saves `folder`/model; returns the history.

    Goes on from `folder`/checkpoint when it was cut off. Raises ValueError for embeddings of another encoder.
    """
    seed_weights(seed)
    denoiser = EditDenoiser(ConditionedDenoiser.load(generator))
    wanted = denoiser.config.encoder_id
    if wanted and wanted != embeddings.encoder_id:
        raise ValueError(f"the generator was trained with encoder {wanted}, but these embeddings are of encoder "
                         f"{embeddings.encoder_id}; make the lessons anew")
    objective = EditObjective(denoiser, lessons, embeddings, dropout)
    identity = array_hash(lessons.codes, lessons.manipulated, lessons.queries, lessons.neighbours, embeddings.ids)
    settings = TrainSettings(num_steps=num_steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed,
                             data_id=f"{embeddings.encoder_id} {identity} {dropout}")
    history = train(objective, len(lessons.codes), settings, Path(folder) / "checkpoint")
    denoiser.save(Path(folder) / "model")
    return history
