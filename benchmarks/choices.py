"""How the generator is trained: each choice beside another, by the loss on pictures that no training saw.

    python -m benchmarks.choices [--preset cpu] [--steps 500] [--out benchmarks/choices.csv] [--only "240 wide"]

Every row trains the preset's generator anew, with one thing changed and as many pictures seen. `held_out_loss` is
algorithm 1's loss, in nats a code, on pictures of held-out concepts in the generator's styles, told their own
embeddings and their neighbours in the training index; `training_loss` is the same on plain training pictures, with the
neighbours that they are trained with. What a change does to a longer training is another question. A table that is
there already is added to: rows that it has are not run again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch

from benchmarks.machine import check_machine, measured_now, write_table
from kdlib.experiments.session import reference_pictures
from kdlib.models.condition import Condition
from kdlib.models.discrete.denoiser import ConditionedDenoiser
from kdlib.models.discrete.process import training_loss
from kdlib.models.discrete.tokenizer import Tokenizer, encode_view
from kdlib.params import find_root, load_preset, stage_folder
from kdlib.retrieval import open_embeddings, open_index
from kdlib.training.denoiser import train_denoiser
from kdlib.training.views import Views
from kdlib.types import Embeddings

NUM_PICTURES, NUM_TIMES = 1024, 4  # of each kind that the loss is measured on, and draws of t and of the noise for each


@dataclass(frozen=True)
class Choice:
    """What is changed: settings of `train_denoiser`, and how many views are used (see `views_used`)."""

    settings: dict = field(default_factory=dict)
    num_views: int | None = None


def choices(trained: dict) -> dict[str, Choice]:
    """The choices by name; `trained` is the preset's group `training`."""
    rate, blocks, batch, heads = (trained[name] for name in ("learning_rate", "num_blocks", "batch_size", "num_heads"))
    wide, deep = trained["width"] // heads * (heads + 1), round(blocks * 1.5)  # heads keep their width
    return {
        "as trained": Choice(),
        "plain and mirrored views only": Choice(num_views=2),
        "twice the learning rate": Choice({"learning_rate": 2 * rate}),
        "half the learning rate": Choice({"learning_rate": rate / 2}),
        f"{wide} wide": Choice({"width": wide, "num_heads": heads + 1}),
        f"{deep} blocks": Choice({"num_blocks": deep}),
        "half the batch": Choice({"batch_size": batch // 2}),
        "a quarter of the batch": Choice({"batch_size": batch // 4}),
        "average of weights shorter by ten": Choice({"ema_decay": 0.99}),
        "no weight decay": Choice({"weight_decay": 0.0}),
        "float32": Choice({"precision": "fp32"}),
    }


@dataclass(frozen=True)
class Material:
    """What all choices share: what is trained on, and what the loss is measured on, as codes and conditions."""

    tokenizer: Tokenizer
    embeddings: Embeddings
    views: Views
    neighbours: np.ndarray
    known: tuple[torch.Tensor, Condition]
    fresh: tuple[torch.Tensor, Condition]


def load_material(preset: str, root: Path) -> Material:
    """From what the stages of a preset have made, up to `views`."""
    tokenizer = Tokenizer.load(stage_folder(preset, "tokenizer", root) / "model")
    index, k = open_index(stage_folder(preset, "index", root) / "training"), load_preset(preset, root)["k"]
    embeddings = open_embeddings(stage_folder(preset, "index", root) / "training_set")
    folder = stage_folder(preset, "views", root)
    views, neighbours = Views.load(folder / "views"), np.load(folder / "neighbours.npy")
    rows = np.random.default_rng(0).permutation(len(embeddings))[:NUM_PICTURES]
    known = conditioned(views.codes[0, rows], views.vectors[0, rows], embeddings.vectors[neighbours[0, rows]])
    codes, queries = fresh_pictures(preset, root, tokenizer)
    return Material(tokenizer, embeddings, views, neighbours, known,
                    conditioned(codes, queries, index.search(queries, k).vectors))


def conditioned(codes: np.ndarray, queries: np.ndarray, near: np.ndarray) -> tuple[torch.Tensor, Condition]:
    """Codes (n, positions), queries (n, dim) and vectors (n, k, dim) of neighbours as `training_loss` takes them."""
    return (torch.from_numpy(codes.astype(np.int64)),
            Condition.from_numpy(queries.astype(np.float32), near.astype(np.float32)))


def fresh_pictures(preset: str, root: Path, tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Codes (n, positions) and embeddings (n, dim) of pictures of held-out concepts in the generator's styles."""
    fresh = reference_pictures(preset, root)
    rows = np.random.default_rng(0).permutation(len(fresh))[:NUM_PICTURES]
    everything = open_embeddings(stage_folder(preset, "index", root) / "embeddings")
    row_of = {id: row for row, id in enumerate(everything.ids)}
    queries = everything.vectors[[row_of[id] for id in fresh.ids[rows]]].astype(np.float32)
    return encode_view(tokenizer, fresh.pictures[rows]), queries


@torch.inference_mode()
def mean_loss(denoiser: ConditionedDenoiser, codes: torch.Tensor, condition: Condition, batch_size: int = 64) -> float:
    """The loss of algorithm 1, over the pictures and NUM_TIMES draws of t and noise for each; the same draws always."""
    generator, losses = torch.Generator().manual_seed(0), []
    for rows in torch.arange(len(codes)).repeat(NUM_TIMES).split(batch_size):
        loss = training_loss(denoiser.schedule, denoiser, codes[rows], condition[rows], denoiser.config.num_codes,
                             generator=generator)
        losses += [loss.item()] * len(rows)
    return float(np.mean(losses))


def views_used(num_views: int | None, total: int) -> np.ndarray:
    """Which of all views are used: the first `num_views` (None: all) of either half, see `with_style_lessons`."""
    return np.arange(total).reshape(2, -1)[:, :num_views].ravel()


def run(choice: Choice, trained: dict, num_steps: int, material: Material) -> dict[str, float]:
    """Trains with one choice and measures: a row of the table, but for its name."""
    settings = {**trained, "seed": 0, **choice.settings}
    settings["num_steps"] = num_steps * trained["batch_size"] // settings["batch_size"]
    used, start = views_used(choice.num_views, len(material.views.codes)), time.perf_counter()
    with TemporaryDirectory() as folder:
        train_denoiser(Views(material.views.codes[used], material.views.vectors[used]), material.embeddings,
                       material.neighbours[used], folder, num_codes=material.tokenizer.num_codes,
                       tokenizer_id=material.tokenizer.identity, **settings)
        denoiser = ConditionedDenoiser.load(Path(folder) / "model")
    return {"steps": settings["num_steps"], "batch": settings["batch_size"],
            "million_parameters": round(sum(p.numel() for p in denoiser.parameters()) / 1e6, 2),
            "seconds": round(time.perf_counter() - start),
            "training_loss": round(mean_loss(denoiser, *material.known), 4),
            "held_out_loss": round(mean_loss(denoiser, *material.fresh), 4)}


def add_rows_missing(out: Path, facts: dict, named: dict, run_one: Callable[[object], dict]) -> pd.DataFrame:
    """Runs those of the named choices that `out` lacks; the table is written after every row, `facts` beside it.

    Raises ValueError where there is a table from another machine.
    """
    check_machine(facts, out)
    rows = pd.read_csv(out).to_dict("records") if out.is_file() else []
    for name, choice in named.items():
        if name not in {row["choice"] for row in rows}:
            rows.append({"choice": name, **run_one(choice)})
            print(pd.DataFrame(rows[-1:]).to_string(index=False), flush=True)
            write_table(pd.DataFrame(rows), facts, out)
    return pd.DataFrame(rows)


def run_comparison(doc: str, table: str, num_steps: int,
                   compare: Callable[[str, int, Path, Path], pd.DataFrame]) -> None:
    """What a benchmark does as a program: asks for preset, steps and file, and compares.

    doc, table, num_steps  its description, its table's name, how many steps unless others are asked for
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--steps", type=int, default=num_steps)
    parser.add_argument("--out", type=Path, default=Path(f"benchmarks/{table}.csv"))
    options = parser.parse_args()
    compare(options.preset, options.steps, find_root(), options.out)


def compare(preset: str, num_steps: int, root: Path, out: Path, only: list[str]) -> pd.DataFrame:
    """Runs what `out` lacks, a row for each choice, or for each of those named in `only`.

    Raises KeyError for a choice that there isn't.
    """
    trained, material = load_preset(preset, root)["training"], load_material(preset, root)
    named = choices(trained)
    facts = measured_now("python -m benchmarks.choices") | {"preset": preset}
    return add_rows_missing(out, facts, {name: named[name] for name in only or named},
                            lambda choice: run(choice, trained, num_steps, material))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/choices.csv"))
    parser.add_argument("--only", nargs="*", default=[], help="names of choices; without it, all")
    options = parser.parse_args()
    compare(options.preset, options.steps, find_root(), options.out, options.only)
