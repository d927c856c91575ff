"""What the generator is shown: one thing changed at a time, by what comes of it in drawings.

    python -m benchmarks.lessons [--preset cpu] [--steps 500] [--out benchmarks/lessons.csv]

Every row trains the variant `ours` of notebook 10 anew, shown other pictures or other codes, and with lessons in style
in half of the draws but for "plain lessons"; it draws the prompts of held-out concepts. `in_style` is the share of
drawings from a swapped index in that index's style, `by_chance` of those from the own one. "another seed" changes
nothing else: what it moves is luck. A table that is there is added to.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from jaxtyping import Int32

from benchmarks.choices import add_rows_missing, run_comparison
from benchmarks.frequent_codes import FrequentCodes
from benchmarks.machine import measured_now
from benchmarks.tokenizers import bits
from kdlib.artifacts import find_parts
from kdlib.data.dataset import DataSet, coloured_lessons, concatenate, load, training_set
from kdlib.data.world import SUITED_SETS
from kdlib.encoder import Encoder
from kdlib.evaluation.comparison import measure
from kdlib.experiments.session import Session
from kdlib.experiments.swap import followed
from kdlib.experiments.variants import (
    SAMPLING,
    draw_variant,
    plain_settings,
    training_settings,
    variant_pipeline,
)
from kdlib.models.discrete.tokenizer import Tokenizer
from kdlib.params import load_preset, stage_folder
from kdlib.retrieval import Index, open_embeddings
from kdlib.training.denoiser import train_denoiser
from kdlib.training.views import (
    Views,
    choose_lessons,
    lesson_neighbours,
    make_views,
    view_pictures,
    with_style_lessons,
)
from kdlib.types import Embeddings

MEASURES = ("fd_sticker", "concept_top5", "text_alignment")


@dataclass(frozen=True)
class Shown:
    """All that a generator is shown: the views, the database that their neighbours are rows of, and these."""

    views: Views
    pictures: Embeddings
    neighbours: Int32[np.ndarray, "views pictures k"]


def stage_shown(preset: str, root: Path) -> Shown:
    """What the stage `views` of a preset has made."""
    folder = stage_folder(preset, "views", root)
    return Shown(Views.load(folder / "views"), open_embeddings(folder / "training_set"),
                 np.load(folder / "neighbours.npy"))


def with_the_world(learned: DataSet, world: DataSet, tokenizer: Tokenizer, encoder: Encoder, k: int, num_changed: int,
                   seed: int) -> Shown:
    """The stickers and, of the world's pictures, those in SUITED_SETS; neighbours are found among both."""
    suited = coloured_lessons(world.table) & world.table["style"].isin(SUITED_SETS).to_numpy(bool)
    both = concatenate(learned, world.where(suited))
    styles = both.table["style"].to_numpy(str)
    views = with_style_lessons(make_views(tokenizer, encoder, both.pictures, num_changed, seed), styles)
    pictures = Embeddings(views.vectors[0], both.ids, encoder.identity)
    return Shown(views, pictures, lesson_neighbours(Index(pictures), views, k, list(both.ids), styles))


def with_frequent_codes(shown: Shown, learned: DataSet, tokenizer: Tokenizer, num_changed: int, seed: int,
                        rate_weight: float) -> Shown:
    """The same views in frequent codes; `num_changed` and `seed` are those that the stage `views` had."""
    pictures = learned.pictures_of(shown.pictures.ids)
    frequent = FrequentCodes(tokenizer, pictures, rate_weight)
    codes = [frequent.encode(view) for view in view_pictures(pictures, num_changed, seed)]
    return Shown(Views(np.stack(codes + codes), shown.views.vectors), shown.pictures, shown.neighbours)


def plain_lessons(shown: Shown) -> Shown:
    """Without the lessons in following a style."""
    views, neighbours = choose_lessons("plain", shown.views, shown.neighbours)
    return Shown(views, shown.pictures, neighbours)


def run(shown: Shown, settings: dict, session: Session, preset: str, seed: int) -> dict[str, float]:
    """Trains on what is shown, draws and measures: a row of the table, but for its name."""
    tokenizer = Tokenizer.load(find_parts(preset, ("tokenizer",), session.root)["tokenizer"])
    training = {name: value for name, value in training_settings(settings).items()
                if name not in ("k", "exclude", "lessons", "seed")}
    drawing = {"k": settings["k"], **{name: settings[name] for name in SAMPLING}}
    start = time.process_time()
    with TemporaryDirectory() as folder:
        history = train_denoiser(shown.views, shown.pictures, shown.neighbours, folder, seed=seed,
                                 num_codes=tokenizer.num_codes, tokenizer_id=tokenizer.identity, **training)
        seconds = time.process_time() - start
        drawn = draw_variant(preset, session.prompts, Path(folder), session.root, num_seeds=settings["num_seeds"],
                             seed=settings["seed"], **drawing)
        pipe = variant_pipeline(preset, Path(folder), session.root, **drawing)
        in_style, by_chance = followed(session, pipe, load_preset(preset, session.root)["swap"]["num_steps"],
                                       settings["seed"])
    found = measure(session.statistics(drawn), len(session.prompts), settings["num_draws"], settings["seed"])
    plain = shown.views.codes[0]
    row = {"pictures": len(shown.pictures), "cpu_seconds": round(seconds),
           "bits_a_code": round(bits(plain) / plain.shape[1], 2),
           "training_loss": round(float(history.loss.iloc[-1]), 3)}
    for name in MEASURES:
        row |= {name: round(found[name].value, 4), f"{name}_low": round(found[name].low, 4),
                f"{name}_high": round(found[name].high, 4)}
    return row | {"in_style": round(float(in_style.mean()), 4), "by_chance": round(float(by_chance.mean()), 4)}


def rows(preset: str, root: Path, num_steps: int) -> dict[str, Callable[[], dict]]:
    """What makes each row, by its name."""
    settings = plain_settings(preset, root) | {"num_steps": num_steps}
    session = Session(preset, "lessons", settings["num_prompts"], root)
    shown, learned, group = stage_shown(preset, root), training_set(preset, root), load_preset(preset, root)
    tokenizer = Tokenizer.load(find_parts(preset, ("tokenizer",), root)["tokenizer"])
    encoder = Encoder.load(find_parts(preset, ("encoder",), root)["encoder"])
    world = lambda: with_the_world(learned, load("world", preset, root), tokenizer, encoder, settings["k"],
                                   group["views"]["num_changed"], group["seed"])
    frequent = lambda weight: with_frequent_codes(shown, learned, tokenizer, group["views"]["num_changed"],
                                                  group["seed"], weight)
    trained = lambda of, seed=settings["seed"]: run(of, settings, session, preset, seed)
    return {
        "with the world's pictures": lambda: trained(world()),
        "stickers alone": lambda: trained(shown),
        "frequent codes, w = 0.01": lambda: trained(frequent(0.01)),
        "plain lessons": lambda: trained(plain_lessons(shown)),
        "another seed": lambda: trained(shown, settings["seed"] + 1)}


def compare(preset: str, num_steps: int, root: Path, out: Path) -> pd.DataFrame:
    """Runs what `out` lacks; the file is written after every row."""
    facts = measured_now("python -m benchmarks.lessons") | {"preset": preset, "steps": num_steps}
    return add_rows_missing(out, facts, rows(preset, root, num_steps), lambda make: make())


if __name__ == "__main__":
    run_comparison(__doc__, "lessons", 500, compare)
