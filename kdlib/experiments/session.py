"""What the experiments share: prompts, pictures, a judge, and where tables and numbers go."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from PIL import Image

from kdlib.data.dataset import DataSet, load
from kdlib.data.stickers import held_out_rows, load_prompts
from kdlib.evaluation.comparison import Statistic, judge_pictures, statistics
from kdlib.evaluation.judge import Judge
from kdlib.files import atomic_file, write_json
from kdlib.params import find_root, output_folder, stage_folder


def reference_pictures(preset: str, root: Path) -> DataSet:
    """The real pictures to measure drawn ones against: held-out concepts in the generator's styles, in one skin tone.

    They are of the stage `images` of a preset.
    """
    stickers = load("stickers", preset, root)
    return stickers.where(held_out_rows(stickers.table))


class Session:
    """One run of an experiment. Its parts are loaded when they are asked for.

    preset       a group of params.yaml
    stage        the experiment's name, with the item of its matrix if it has one: "variant/ours"
    num_prompts  how many of the prompts that are names of held-out concepts are asked for; None: all
    root         the compendium's root; found from the working directory if not given

    out  the folder to write to, see `output_folder`
    """

    def __init__(self, preset: str, stage: str, num_prompts: int | None = None, root: str | Path | None = None):
        self.preset, self.num_prompts, self.root = preset, num_prompts, Path(root or find_root())
        self.out = output_folder(preset, stage, self.root)

    def folder(self, stage: str) -> Path:
        """Where another stage has left what it made."""
        return stage_folder(self.preset, stage, self.root)

    @cached_property
    def asked(self) -> pd.DataFrame:
        """The rows of `load_prompts` that are asked for."""
        return load_prompts(self.root).query("kind == 'name'").head(self.num_prompts)

    @property
    def prompts(self) -> list[str]:
        """What is asked for."""
        return self.asked.prompt.tolist()

    @property
    def concepts(self) -> list[str]:
        """What a picture of each prompt should show."""
        return self.asked.concept.tolist()

    @cached_property
    def stickers(self) -> DataSet:
        """The preset's pictures."""
        return load("stickers", self.preset, self.root)

    @cached_property
    def judge(self) -> Judge:
        """The preset's judge."""
        return Judge.load(self.folder("judge") / "model")

    @cached_property
    def reference(self) -> Float[np.ndarray, "num_pictures width"]:
        """The judge's features of `reference_pictures`."""
        return self.judge.features(reference_pictures(self.preset, self.root).pictures)

    def judged(self, drawn: Sequence[Sequence[Image.Image]]
               ) -> tuple[Float[np.ndarray, "num_prompts num_seeds width"], pd.DataFrame]:
        """`judge_pictures` of what was drawn for the prompts: drawn[seed][prompt]."""
        return judge_pictures(self.judge, drawn, self.prompts, self.concepts)

    def statistics(self, drawn: Sequence[Sequence[Image.Image]]) -> dict[str, Statistic]:
        """All measures of what was drawn for the prompts, against the reference."""
        return statistics(*self.judged(drawn), self.reference)

    def write_table(self, name: str, table: pd.DataFrame, float_format: str | None = "%.6g") -> None:
        """Writes a table without its index as the CSV file of that name."""
        with atomic_file(self.out / name) as temporary:
            table.to_csv(temporary, index=False, float_format=float_format)

    def write_metrics(self, metrics: dict) -> None:
        """Writes the experiment's numbers: metrics.json."""
        write_json(self.out / "metrics.json", metrics)
