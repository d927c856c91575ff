"""Section 3.1 measured: edits of stickers, ours and others', beside what the artist drew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import UInt8
from PIL import Image

from kdlib.baselines.text2live import edit_by_layer
from kdlib.baselines.textual_inversion import edit_by_word
from kdlib.data.dataset import DataSet
from kdlib.data.edits import find_edits
from kdlib.data.pixels import normalise_pixels, to_pil
from kdlib.evaluation.edits import measure_edits
from kdlib.evaluation.judge import Judge
from kdlib.evaluation.metrics import Interval, bootstrap
from kdlib.models.edit.editor import as_array
from kdlib.models.edit.sampler import EditSettings
from kdlib.pipeline import Pipeline

BATCH = 64
AS_IT_IS, PLAIN_TEXT = "picture as it is", "plain text to image"

Pictures = UInt8[np.ndarray, "num_edits height width 3"]


@dataclass(frozen=True)
class Benchmark:
    """Edits with the artist's answers, row by row.

    table  columns of `find_edits`, and source_title, concept (the target's)
    """

    table: pd.DataFrame
    sources: UInt8[np.ndarray, "num_edits height width 3"]
    targets: UInt8[np.ndarray, "num_edits height width 3"]

    def spread(self, num_edits: int) -> Benchmark:
        """The first edit of each family, then the second of each, and so on; all where there are no more."""
        place = self.table.groupby("family").cumcount().to_numpy()
        rows = np.sort(np.argsort(place, kind="stable")[:num_edits])
        return Benchmark(self.table.iloc[rows].reset_index(drop=True), self.sources[rows], self.targets[rows])

    def images(self) -> list[Image.Image]:
        """The sources as PIL pictures."""
        return [Image.fromarray(picture) for picture in self.sources]

    def __len__(self) -> int:
        return len(self.table)


def load_benchmark(stickers: DataSet) -> Benchmark:
    """All edits among a preset's pictures; raises ValueError where there is none."""
    table = find_edits(stickers.table)
    if not len(table):
        raise ValueError("there are no edits among these pictures; take more of their concepts")
    table = table.assign(source_title=stickers.look_up("title", table.source.to_numpy()),
                         concept=stickers.look_up("concept", table.target.to_numpy()))
    return Benchmark(table, stickers.pictures_of(table.source.to_numpy()),
                     stickers.pictures_of(table.target.to_numpy()))


# --- methods -------------------------------------------------------------------------------------------------------

def plain_text(pipe: Pipeline, edits: Benchmark, num_steps: int, seed: int) -> Pictures:
    """The instructions as prompts; the sources are not looked at."""
    texts = edits.table.instruction.tolist()
    batches = [pipe.generate(pipe.retrieve(texts[start:start + BATCH])[1], num_steps, seed=seed)
               for start in range(0, len(texts), BATCH)]
    return as_array([image for batch in batches for image in batch])


def by_editor(pipe: Pipeline, edits: Benchmark, settings: EditSettings, seed: int) -> Pictures:
    """Section 3.1 as `pipe.edit` does it, in batches."""
    images, texts, drawn = edits.images(), edits.table.instruction.tolist(), []
    for start in range(0, len(texts), BATCH):
        few = slice(start, start + BATCH)
        condition, _ = pipe.editor.condition(images[few], texts[few], pipe.index, settings)
        drawn += pipe.editor.draw(images[few], condition, settings, seed)
    return as_array(drawn)


def by_layer(pipe: Pipeline, edits: Benchmark, num_steps: int, seed: int) -> Pictures:
    """Text2LIVE, one picture after another; its text for what the picture shows is the source's title."""
    pictures = normalise_pixels(torch.from_numpy(edits.sources))
    layers = [edit_by_layer(pipe.encoder, pictures[row:row + 1], edit.instruction, edit.source_title, num_steps, seed)
              for row, edit in enumerate(edits.table.itertuples())]
    return as_array([to_pil(layer.edited)[0] for layer in layers])


def by_word(pipe: Pipeline, edits: Benchmark, num_steps: int, sampling_steps: int, seed: int) -> Pictures:
    """Textual Inversion, all pictures in one batch."""
    codes = pipe.backbone.tokenizer.encode(normalise_pixels(torch.from_numpy(edits.sources)))
    return as_array(edit_by_word(pipe.backbone, pipe.encoder, pipe.index, edits.images(), codes,
                                 edits.table.instruction.tolist(), edits.table.source_title.tolist(),
                                 k=pipe.settings["k"], num_steps=num_steps, sampling_steps=sampling_steps,
                                 guidance_scale=pipe.settings["guidance_scale"], seed=seed))


# --- measures ------------------------------------------------------------------------------------------------------

def measured(judge: Judge, edits: Benchmark, made: dict[str, Pictures]) -> dict[str, pd.DataFrame]:
    """`measure_edits` of each method's pictures, with the columns source, target and family before it."""
    told = edits.table[["source", "target", "family"]]
    return {name: pd.concat([told, measure_edits(judge, pictures, edits.sources, edits.targets,
                                                 edits.table.concept.tolist(), edits.table.instruction.tolist())],
                            axis=1) for name, pictures in made.items()}


def difference(first: pd.DataFrame, second: pd.DataFrame, measure: str, num_draws: int, seed: int) -> Interval | None:
    """The mean difference of two methods in a measure on the same edits, with its interval; None where none has it."""
    apart = (first[measure].astype(float) - second[measure].astype(float)).dropna().to_numpy()
    return bootstrap(lambda rows: float(apart[rows].mean()), len(apart), num_draws, seed) if len(apart) else None
