"""Which map takes names to pictures? The choice of `kdlib.encoder.TextMap`, measured; no training of towers.

    python -m benchmarks.text_map [--preset cpu] [--out benchmarks/text_map.csv]

Each map is fitted to the captions and mean picture directions that the encoder stage uses, then asked for held-out
names, as in notebook 2: recall@10 over all stickers but those of held-out concepts that the encoder was shown. `cosine`
is the mean to its own targets. `kernel ridge` keeps all captions; the others have a fixed size.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from torch import Tensor

from benchmarks.machine import write_measured
from kdlib.data.dataset import load
from kdlib.data.stickers import captions_of, encoder_rows, known_concepts
from kdlib.encoder import Encoder
from kdlib.encoder.text_tower import pooled_texts
from kdlib.evaluation.metrics import retrieval_recall
from kdlib.params import find_root, load_preset, stage_folder
from kdlib.retrieval import open_embeddings
from kdlib.training.encoder import fit_text_map, mean_directions

Map = Callable[[Tensor], Tensor]
BANDWIDTH = 0.6  # of the Gaussian kernel, as a distance between unit vectors


def ridge(estimator) -> Callable[[Tensor, Tensor], Map]:
    """One of scikit-learn's regressions as a way to fit a map."""

    def fit(texts: Float[Tensor, "texts width"], targets: Float[Tensor, "texts dim"]) -> Map:
        fitted = estimator.fit(texts.double().numpy(), targets.double().numpy())
        return lambda asked: torch.from_numpy(fitted.predict(asked.double().numpy())).float()

    return fit


def contenders(num_steps: int) -> dict[str, Callable[[Tensor, Tensor], Map]]:
    """What is compared, by name; each takes texts (texts, width) and targets (texts, dim) and returns a map."""
    perceptron = lambda noise, seed: lambda x, y: fit_text_map(x, y, num_steps=num_steps, seed=seed, noise=noise)
    return {"linear": ridge(Ridge(alpha=1.0, fit_intercept=False)),
            **{f"perceptron, noise {noise:g}, seed {seed}": perceptron(noise, seed)
               for noise in (0.0, 0.25, 0.5, 1.0) for seed in (0, 1)},
            "kernel ridge": ridge(KernelRidge(alpha=0.3, kernel="rbf", gamma=1 / (2 * BANDWIDTH ** 2)))}


def compare(preset: str, root: Path) -> pd.DataFrame:
    """A row for each contender: its recall of known and of new names, the cosine to its targets, and seconds to fit."""
    encoder = Encoder.load(stage_folder(preset, "encoder", root) / "model")
    everything = open_embeddings(stage_folder(preset, "index", root) / "embeddings", encoder.identity)
    vectors = np.asarray(everything.vectors, np.float32)
    stickers, rows = load("stickers", preset, root).table, []
    seen, held_out = encoder_rows(stickers), (stickers.split == "test").to_numpy()
    bank, targets = mean_directions([text.split(", ") for text in captions_of(stickers[seen])], vectors[seen])
    answers = ~(held_out & seen)
    names = stickers[held_out & answers].drop_duplicates("concept").set_index("concept").title
    kinds = names.index.isin(known_concepts(stickers))
    texts, asked = (pooled_texts(encoder.model.text.transformer, some) for some in (bank, names.tolist()))
    for name, fit in contenders(load_preset(preset, root)["encoder"]["num_text_steps"]).items():
        start = time.perf_counter()
        text_map = fit(texts, targets)
        took, found = time.perf_counter() - start, F.normalize(text_map(asked), dim=-1).numpy()
        hits = retrieval_recall(found, names, stickers[answers], vectors[answers])["recall@10"]
        rows.append({"map": name, "recall_at_10_known": round(float(hits[kinds].mean()), 4),
                     "recall_at_10_new": round(float(hits[~kinds].mean()), 4),
                     "cosine": round(float(F.cosine_similarity(text_map(texts), targets).mean()), 4),
                     "seconds": round(took, 1)})
        print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    write_measured(__doc__, "benchmarks.text_map", lambda preset: compare(preset, find_root()))
