"""How the tokenizer is made: each choice beside another, by what it keeps of pictures that no training saw.

    python -m benchmarks.tokenizers [--preset cpu] [--steps 300] [--out benchmarks/tokenizers.csv]

Every row trains the preset's tokenizer anew on the same training pictures, with one thing changed, and sends pictures
of held-out concepts, in the generator's styles, through its codes and back. What comes back is the ceiling of all that
is drawn from codes; `bits` is what a generator must say to draw one. A table that is there already is added to.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from jaxtyping import Integer, UInt8
from scipy.stats import entropy

from benchmarks.choices import add_rows_missing, run_comparison
from benchmarks.machine import measured_now
from kdlib.data.dataset import DataSet, tokenizer_set
from kdlib.evaluation.judge import Judge, verdicts
from kdlib.evaluation.metrics import fit_gaussian, frechet_distance, psnr_db
from kdlib.experiments.session import reference_pictures
from kdlib.models.discrete.tokenizer import Tokenizer, reconstruct_pictures
from kdlib.params import load_preset, stage_folder
from kdlib.training.tokenizer import train_tokenizer


@dataclass(frozen=True)
class Choice:
    """What is changed: settings of `train_tokenizer`, and by how much the pictures are made smaller beforehand."""

    settings: dict = field(default_factory=dict)
    shrink: int = 1


def choices(trained: dict) -> dict[str, Choice]:
    """The choices by name; `trained` is the preset's group `tokenizer`."""
    codes, dim, width, halvings = (trained[name] for name in ("num_codes", "code_dim", "width", "num_downsamplings"))
    return {
        "as trained": Choice(),
        f"{codes // 4} codes": Choice({"num_codes": codes // 4}),
        f"{codes * 4} codes": Choice({"num_codes": codes * 4}),
        f"code vectors of {dim // 2}": Choice({"code_dim": dim // 2}),
        f"code vectors of {dim * 2}": Choice({"code_dim": dim * 2}),
        f"{width * 2 // 3} wide": Choice({"width": width * 2 // 3}),
        "one halving fewer": Choice({"num_downsamplings": halvings - 1}),
        "half the resolution, one halving fewer": Choice({"num_downsamplings": halvings - 1}, shrink=2),
    }


@dataclass(frozen=True)
class Material:
    """Pictures to learn from, pictures of held-out concepts with their labels, and who judges."""

    known: UInt8[np.ndarray, "num_known height width 3"]
    fresh: DataSet
    judge: Judge


def load_material(preset: str, root: Path) -> Material:
    """From the stages `images`, `world` and `judge` of a preset."""
    return Material(tokenizer_set(preset, root).pictures, reference_pictures(preset, root),
                    Judge.load(stage_folder(preset, "judge", root) / "model"))


def shrunk(pictures: UInt8[np.ndarray, "num height width 3"], by: int) -> UInt8[np.ndarray, "num small small 3"]:
    """Means of squares of by x by pixels."""
    num, height, width, _ = pictures.shape
    squares = pictures.reshape(num, height // by, by, width // by, by, 3)
    return squares.mean((2, 4)).round().astype(np.uint8)


def bits(codes: Integer[np.ndarray, "num positions"]) -> float:
    """Entropy of the codes as they occur, times positions: bits of a picture whose codes told nothing of each other."""
    return float(entropy(np.bincount(codes.ravel()), base=2) * codes.shape[1])


def run(choice: Choice, trained: dict, num_steps: int, material: Material) -> dict[str, float]:
    """Trains with one choice and measures: a row of the table, but for its name."""
    settings = {**trained, "seed": 0, **choice.settings, "num_steps": num_steps,
                "gan_start": num_steps * trained["gan_start"] // trained["num_steps"]}
    start = time.perf_counter()
    with TemporaryDirectory() as folder:
        train_tokenizer(shrunk(material.known, choice.shrink), folder, **settings)
        tokenizer = Tokenizer.load(Path(folder) / "model")
    return {"seconds": round(time.perf_counter() - start), **rebuilt(tokenizer, material, choice.shrink)}


def rebuilt(tokenizer: Tokenizer, material: Material, shrink: int = 1) -> dict[str, float]:
    """What comes back from a tokenizer of pictures of held-out concepts, made smaller by `shrink`."""
    fresh = material.fresh
    copies, codes = reconstruct_pictures(tokenizer, shrunk(fresh.pictures, shrink))
    copies = copies.repeat(shrink, 1).repeat(shrink, 2)
    features, real = (material.judge.features(pictures) for pictures in (copies, fresh.pictures))
    said = verdicts(material.judge, features, fresh.table.concept.tolist(), fresh.table.title.tolist())
    return {"grid": tokenizer.grid, "num_codes": tokenizer.num_codes,
            "million_parameters": round(sum(p.numel() for p in tokenizer.parameters()) / 1e6, 2),
            "psnr_db": round(float(psnr_db(copies, fresh.pictures).mean()), 2),
            "concept_top5": round(float(said.top5.mean()), 4),
            "fd_to_real": round(frechet_distance(fit_gaussian(features), fit_gaussian(real)), 3),
            "codes_in_use": round(len(np.unique(codes)) / tokenizer.num_codes, 4), "bits": round(bits(codes))}


def compare(preset: str, num_steps: int, root: Path, out: Path) -> pd.DataFrame:
    """Runs what `out` lacks, a row for each choice; the file is written after every row."""
    trained, material = load_preset(preset, root)["tokenizer"], load_material(preset, root)
    facts = measured_now("python -m benchmarks.tokenizers") | {"preset": preset}
    return add_rows_missing(out, facts, choices(trained), lambda choice: run(choice, trained, num_steps, material))


if __name__ == "__main__":
    run_comparison(__doc__, "tokenizers", 300, compare)
