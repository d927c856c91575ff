"""What the world's pictures bring the encoder: each kind of sets alone beside the stickers, at an equal budget.

    python -m benchmarks.sources [--preset cpu] [--steps 400] [--out benchmarks/sources.csv]

Every row trains the preset's encoder anew in as many steps, on the stickers and the sets of one kind, which are
fetched, and asks for held-out names as notebook 2 does: recall@10 over all stickers but those of held-out concepts that
it was shown. `cosine` is that of a held-out picture and its name. A table that is there already is added to.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from benchmarks.choices import add_rows_missing, run_comparison
from benchmarks.machine import measured_now
from kdlib.data.dataset import DataSet, concatenate, load
from kdlib.data.drawings import rasterise
from kdlib.data.stickers import HELD_OUT_STYLES, encoder_rows, known_concepts
from kdlib.data.world import SETS_BY_KIND, load_world
from kdlib.encoder import Encoder
from kdlib.evaluation.metrics import retrieval_recall
from kdlib.params import load_preset
from kdlib.training.encoder import train_encoder


def shown_pictures(stickers: DataSet, kinds: Sequence[str]) -> DataSet:
    """What an encoder is shown: its stickers, and the world's sets of some kinds."""
    mine, world = stickers.where(encoder_rows(stickers.table)), load_world(kinds, stickers.table)
    return concatenate(mine, DataSet(world, rasterise(world.svg.tolist(), stickers.pictures.shape[1])))


def recall_of_names(encoder: Encoder, stickers: DataSet) -> dict[str, float]:
    """Recall@10 of known and of new names, and the mean cosine of a held-out picture and its name, for both."""
    table, vectors, row = stickers.table, encoder.encode_images(stickers.pictures), {}
    held_out, foreign = table.split == "test", table["style"].isin(HELD_OUT_STYLES)
    known = table.concept.isin(known_concepts(table))
    answers = (~(held_out & known & foreign)).to_numpy()
    for kind, of in {"known": held_out & known, "new": held_out & ~known}.items():
        names = table[of & answers].drop_duplicates("concept").set_index("concept").title
        found = retrieval_recall(encoder.encode_texts(names.tolist()), names, table[answers], vectors[answers])
        own = (encoder.encode_texts(table.title[of & ~foreign].tolist()) * vectors[of & ~foreign]).sum(1)
        row |= {f"recall_at_10_{kind}": round(float(found["recall@10"].mean()), 4),
                f"cosine_{kind}": round(float(own.mean()), 4)}
    return row


def run(kinds: Sequence[str], trained: dict, num_steps: int, stickers: DataSet) -> dict[str, float]:
    """Trains with the sets of some kinds and measures: a row of the table, but for its name."""
    shown = shown_pictures(stickers, kinds)
    with TemporaryDirectory() as folder:
        history = train_encoder(shown.table, shown.pictures, folder, seed=0, **{**trained, "num_steps": num_steps})
        encoder = Encoder.load(Path(folder) / "model")
    loss = round(float(history.loss.iloc[-1]), 4)
    return {"pictures": len(shown), "loss": loss, **recall_of_names(encoder, stickers)}


def compare(preset: str, num_steps: int, root: Path, out: Path) -> pd.DataFrame:
    """Runs what `out` lacks, a row for the stickers alone and one for each kind; written after every row."""
    trained, stickers = load_preset(preset, root)["encoder"], load("stickers", preset, root)
    stickers = stickers.where(np.ones(len(stickers), bool))
    facts = measured_now(f"python -m benchmarks.sources --steps {num_steps}") | {"preset": preset}
    choices = {"stickers alone": [], **{f"and {kind} sets": [kind] for kind in SETS_BY_KIND}}
    return add_rows_missing(out, facts, choices, lambda kinds: run(kinds, trained, num_steps, stickers))


if __name__ == "__main__":
    run_comparison(__doc__, "sources", 400, compare)
