"""Pictures per CPU second of every training, at a preset's sizes, in float32 and in bfloat16.

    python -m benchmarks.precision [--preset cpu] [--out benchmarks/precision.csv]

A processor that computes bfloat16 natively is faster with it, any other by far slower; that is how
`kdlib.models.precision.native_precision` chooses. What a training sets up is left out: of the CPU time of several steps
that of one is taken away.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import pandas as pd

from benchmarks.machine import write_measured
from kdlib.data import stickers as data
from kdlib.data.drawings import rasterise
from kdlib.models.precision import native_precision
from kdlib.params import find_root, load_preset
from kdlib.retrieval import Index
from kdlib.training.denoiser import train_denoiser
from kdlib.training.encoder import train_encoder
from kdlib.training.judge import train_judge
from kdlib.training.tokenizer import train_tokenizer
from kdlib.training.views import Views, view_neighbours
from kdlib.types import Embeddings

NUM_CONCEPTS = 60  # pictures of these are trained on, which is enough for a batch
NUM_STEPS = 3      # beside the first


def trainings(preset: str, root: Path) -> dict[str, tuple[int, Callable]]:
    """name -> (batch size, train(num_steps, folder)) of a preset, on few pictures; codes and embeddings are random."""
    values = load_preset(preset, root)
    stickers = data.select_pictures(data.load_stickers(root), NUM_CONCEPTS)
    pictures = rasterise(stickers.svg.tolist(), values["images"]["size_px"])
    encode = partial(train_encoder, stickers, pictures, seed=0, **{**values["encoder"], "num_text_steps": 1})
    found = {
        "encoder": encode,
        "tokenizer": partial(train_tokenizer, pictures, seed=0, **{**values["tokenizer"], "gan_start": 0}),
        "generator": partial(train_denoiser, *random_views(len(pictures), values), tokenizer_id="random",
                             num_codes=values["tokenizer"]["num_codes"], seed=0, **values["training"]),
        "judge": partial(train_judge, stickers, pictures, seed=0, **values["judge"])}
    batches = {name: values[{"generator": "training"}.get(name, name)]["batch_size"] for name in found}
    return {name: (batches[name], lambda num_steps, folder, train=train: train(folder, num_steps=num_steps))
            for name, train in found.items()}


def random_views(num_pictures: int, values: dict) -> tuple[Views, Embeddings, np.ndarray]:
    """One view of each picture with random codes and embeddings, the database of these, and their neighbours."""
    random = np.random.default_rng(0)
    vectors = random.standard_normal((num_pictures, 512)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    positions = (values["images"]["size_px"] // 2 ** values["tokenizer"]["num_downsamplings"]) ** 2
    codes = random.integers(values["tokenizer"]["num_codes"], size=(1, num_pictures, positions)).astype(np.uint16)
    views = Views(codes, vectors[None].astype(np.float16))
    database = Embeddings(vectors, np.array([f"{n:05}" for n in range(num_pictures)]), "random")
    return views, database, view_neighbours(Index(database), views.vectors, values["k"], list(database.ids))


def cpu_seconds(train: Callable, num_steps: int, precision: str) -> float:
    """CPU time of a training of so many steps, all threads together."""
    with TemporaryDirectory() as folder, mock.patch("kdlib.training.loop.native_precision", lambda: precision):
        start = time.process_time()
        train(num_steps, folder)
        return time.process_time() - start


def measure(preset: str, root: Path) -> pd.DataFrame:
    """A row for each training: batch, pictures per CPU second in each precision, how many times as fast bf16 is."""
    rows = []
    for name, (batch, train) in trainings(preset, root).items():
        speed = {precision: NUM_STEPS * batch / (cpu_seconds(train, 1 + NUM_STEPS, precision)
                                                - cpu_seconds(train, 1, precision)) for precision in ("fp32", "bf16")}
        rows.append({"training": name, "batch": batch, **speed, "bf16_to_fp32": speed["bf16"] / speed["fp32"]})
        print(pd.DataFrame(rows[-1:]).round(2).to_string(index=False, header=len(rows) == 1), flush=True)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    write_measured(__doc__, "benchmarks.precision", lambda preset: measure(preset, find_root()),
                   native=native_precision())
