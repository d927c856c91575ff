"""Which map takes names to pictures? The choice of `kdlib.encoder.TextMap`, measured; no training of towers.

    python -m benchmarks.text_map [--preset cpu] [--out benchmarks/text_map.csv]

Each map is fitted to the captions and mean picture directions that the encoder stage uses, then asked for held-out
names, as in notebook 2: recall@10 over all pictures but those that the map was told of. `cosine` is the mean to its own
targets.
Compare `kernel ridge`, which has all captions in it, with what has a fixed size.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kdlib.data import stickers as data
from kdlib.encoder import Encoder, pooled_texts
from kdlib.encoder_training import captions_of, fit_text_map, known_concepts, mean_directions
from kdlib.params import find_root, load_preset, stage_folder
from kdlib.retrieval import open_embeddings

Map = Callable[[Tensor], Tensor]


def linear_ridge(texts: Float[Tensor, "texts width"], targets: Float[Tensor, "texts dim"], penalty: float) -> Map:
    """The linear map of least squares with `penalty` times its squared norm."""
    x = texts.double()
    weight = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]).double(), x.T @ targets.double())
    return lambda asked: (asked.double() @ weight).float()


def kernel_ridge(texts: Float[Tensor, "texts width"], targets: Float[Tensor, "texts dim"], bandwidth: float,
                 penalty: float) -> Map:
    """Ridge regression in the space of a Gaussian kernel between the texts."""
    kernel = lambda a, b: torch.exp(-torch.cdist(a.double(), b.double()) ** 2 / (2 * bandwidth ** 2))
    weights = torch.linalg.solve(kernel(texts, texts) + penalty * torch.eye(len(texts)).double(), targets.double())
    return lambda asked: (kernel(asked, texts) @ weights).float()


def contenders(num_steps: int) -> dict[str, Callable[[Tensor, Tensor], Map]]:
    """What is compared, by name; each takes texts and targets and returns a map."""
    perceptron = lambda noise, seed: lambda x, y: fit_text_map(x, y, num_steps=num_steps, seed=seed, noise=noise)
    return {"linear": lambda x, y: linear_ridge(x, y, penalty=1.0),
            **{f"perceptron, noise {noise:g}, seed {seed}": perceptron(noise, seed)
               for noise in (0.0, 0.25, 0.5, 1.0) for seed in (0, 1)},
            "kernel ridge": lambda x, y: kernel_ridge(x, y, bandwidth=0.6, penalty=0.3)}


def recall(asked: Float[np.ndarray, "names dim"], concepts: np.ndarray, vectors: Float[np.ndarray, "pictures dim"],
           answers: np.ndarray, at: int = 10) -> float:
    """The share of names with a picture of their concept among the nearest `at`."""
    best = np.argsort(-(asked @ vectors.T), axis=1, kind="stable")[:, :at]
    return float((answers[best] == concepts[:, None]).any(1).mean())


def compare(preset: str, root: Path) -> pd.DataFrame:
    """A row for each contender: its recall of known and of new names, the cosine to its targets, and seconds to fit."""
    encoder = Encoder.load(stage_folder(preset, "encoder", root) / "model")
    everything = open_embeddings(stage_folder(preset, "index", root) / "embeddings", encoder.identity)
    vectors = np.asarray(everything.vectors, np.float32)
    stickers = data.load_stickers(root).set_index("id").loc[everything.ids].reset_index()
    held_out, foreign = stickers.split == "test", stickers["style"].isin(data.HELD_OUT_STYLES)
    told = held_out & foreign & stickers.concept.isin(known_concepts(stickers))
    fitted = (~held_out | told).to_numpy()
    bank, targets = mean_directions([text.split(", ") for text in captions_of(stickers[fitted])], vectors[fitted])
    names = stickers[held_out & ~told].drop_duplicates("concept")
    known = names.concept.isin(known_concepts(stickers)).to_numpy()
    texts, asked = pooled_texts(encoder.model, bank), pooled_texts(encoder.model, names.title.tolist())
    answers, rows = stickers.concept[~told].to_numpy(), []
    for name, fit in contenders(load_preset(preset, root)["encoder"]["num_text_steps"]).items():
        start = time.perf_counter()
        text_map = fit(texts, targets)
        took, found = time.perf_counter() - start, F.normalize(text_map(asked), dim=-1).numpy()
        rows.append({"map": name, **{f"recall_at_10_{kind}": round(recall(
            found[chosen], names.concept.to_numpy()[chosen], vectors[~told.to_numpy()], answers), 4)
            for kind, chosen in (("known", known), ("new", ~known))},
            "cosine": round(float(F.cosine_similarity(text_map(texts), targets).mean()), 4), "seconds": round(took, 1)})
        print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    table = compare(options.preset, find_root())
    if options.out:
        table.to_csv(options.out, index=False, lineterminator="\n")
