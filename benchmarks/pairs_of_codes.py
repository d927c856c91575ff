"""One table of codes beside pairs from two small ones: equal bits, equal training.

    python -m benchmarks.pairs_of_codes [--preset cpu] [--steps 500] [--out benchmarks/pairs_of_codes.csv]

A pair of codes has as many values as the preset's one table, from tables of a few dozen vectors. "two factors" puts two
halves of a vector beside each other (product quantisation; Jegou et al., 2011), "two residuals" adds a correction to a
first vector (residual quantisation; RQ-VAE, Lee et al., 2022). Rows have what `benchmarks.tokenizers` measures, and the
last has one halving fewer, so four times the positions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.choices import add_rows_missing, run_comparison
from benchmarks.machine import measured_now
from benchmarks.tokenizers import Choice, Material, load_material, rebuilt, run
from kdlib.files import array_hash
from kdlib.models.discrete.tokenizer import Tokenizer, TokenizerConfig
from kdlib.params import load_preset
from kdlib.training.loop import TrainSettings, seed_weights, train
from kdlib.training.tokenizer import TokenizerObjective

Join = Callable[[Float[Tensor, "first 1 dim"], Float[Tensor, "1 second dim"]], Float[Tensor, "first second width"]]


def side_by_side(first: Float[Tensor, "first 1 half"], second: Float[Tensor, "1 second half"]) -> Tensor:
    """Two halves of a vector, each of length 1: (first, second, 2 half)."""
    sizes = len(first), second.shape[1]
    return torch.cat([F.normalize(part, dim=-1).expand(*sizes, -1) for part in (first, second)], -1)


def added(first: Float[Tensor, "first 1 dim"], second: Float[Tensor, "1 second dim"]) -> Tensor:
    """A vector of length 1 and what is added to it: (first, second, dim)."""
    return F.normalize(first, dim=-1) + second


class PairTokenizer(Tokenizer):
    """A tokenizer whose code is a pair, of two small tables that `join` makes the codebook of.

    join   `side_by_side` or `added`;  width  of the small tables' vectors
    """

    def __init__(self, config: TokenizerConfig, join: Join, width: int):
        super().__init__(config)
        bits = config.num_codes.bit_length() - 1
        self.join = join
        self.first = nn.Parameter(torch.randn(2 ** (bits - bits // 2), 1, width))
        self.second = nn.Parameter(torch.randn(1, 2 ** (bits // 2), width) / 2)

    def codebook(self) -> Float[Tensor, "num_codes code_dim"]:
        """All pairs' unit vectors, the second code running fastest."""
        return F.normalize(self.join(self.first, self.second).flatten(0, 1).float(), dim=-1)


class PairObjective(TokenizerObjective):
    """The tokenizer's objective without reviving: in so small tables no code dies."""

    def revive(self, latents: Tensor, codes: Tensor, generator: torch.Generator) -> None:
        pass


def with_one_table(pairs: PairTokenizer) -> Tokenizer:
    """The plain tokenizer that gives and takes the same codes."""
    plain = Tokenizer(pairs.config)
    plain.network.load_state_dict(pairs.network.state_dict())
    plain.network.quantize.embedding.weight.data = pairs.codebook().detach()
    return plain.eval().requires_grad_(False)


def run_pairs(join: Join, width: int, trained: dict, num_steps: int, material: Material) -> dict[str, float]:
    """Trains with pairs of codes and measures: a row of the table, but for its name."""
    start = time.perf_counter()
    seed_weights(0)
    shape = {name: trained[name] for name in ("num_codes", "code_dim", "width", "num_downsamplings")}
    pairs = PairTokenizer(TokenizerConfig(material.known.shape[1], **shape), join, width)
    gan_start = num_steps * trained["gan_start"] // trained["num_steps"]
    objective = PairObjective(pairs, material.known, gan_start, num_steps)
    settings = TrainSettings(num_steps=num_steps, batch_size=trained["batch_size"], seed=0, weight_decay=0.0,
                             learning_rate=trained["learning_rate"], ema_decay=0.998,
                             data_id=array_hash(material.known) + str(asdict(pairs.config)))
    with TemporaryDirectory() as folder:
        train(objective, len(material.known), settings, Path(folder) / "checkpoint")
    return {"seconds": round(time.perf_counter() - start), **rebuilt(with_one_table(pairs.eval()), material)}


def rows(trained: dict, num_steps: int, material: Material) -> dict[str, Callable[[], dict]]:
    """What makes each row, by its name."""
    dim, halvings = trained["code_dim"], trained["num_downsamplings"]
    return {
        "one table": lambda: run(Choice(), trained, num_steps, material),
        "two factors": lambda: run_pairs(side_by_side, dim // 2, trained, num_steps, material),
        "two residuals": lambda: run_pairs(added, dim, trained, num_steps, material),
        "one halving fewer": lambda: run(Choice({"num_downsamplings": halvings - 1}), trained, num_steps, material)}


def compare(preset: str, num_steps: int, root: Path, out: Path) -> pd.DataFrame:
    """Runs what `out` lacks; the file is written after every row."""
    trained, material = load_preset(preset, root)["tokenizer"], load_material(preset, root)
    facts = measured_now("python -m benchmarks.pairs_of_codes") | {"preset": preset, "steps": num_steps}
    return add_rows_missing(out, facts, rows(trained, num_steps, material), lambda make: make())


if __name__ == "__main__":
    run_comparison(__doc__, "pairs_of_codes", 500, compare)
