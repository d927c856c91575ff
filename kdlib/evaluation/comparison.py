"""The judge's measures of pictures that were drawn for prompts, and how sure they are.

Pictures of a prompt lie side by side, one for each sampling seed, and are drawn again together by the bootstrap; two
models are compared on the same prompts and seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from PIL import Image

from kdlib.evaluation.judge import Judge, verdicts
from kdlib.evaluation.metrics import Gaussian, Interval, bootstrap, distances, fit_gaussian, frechet_distance

LOWER_IS_BETTER = ("fd_sticker", "cmmd")
MEASURES = (*LOWER_IS_BETTER, "concept_top1", "concept_top5", "text_alignment")
COLUMNS = {"concept_top1": "top1", "concept_top5": "top5", "text_alignment": "alignment"}
Statistic = Callable[[Int[np.ndarray, " num_prompts"]], float]


def judge_pictures(judge: Judge, drawn: Sequence[Sequence[Image.Image]], prompts: Sequence[str],
                   concepts: Sequence[str]) -> tuple[Float[np.ndarray, "num_prompts num_seeds width"], pd.DataFrame]:
    """Features and verdicts of the pictures drawn[seed][prompt]; the concept is what a prompt's pictures should show.

    The verdicts are those of `kdlib.evaluation.judge.verdicts` with the columns prompt and draw (0 .. num_seeds - 1)
    before them, a prompt's pictures in successive rows. Raises ValueError as that does.
    """
    of_prompt = [picture for pictures in zip(*drawn, strict=True) for picture in pictures]
    features = judge.features(of_prompt)
    texts, wanted = (np.repeat(np.asarray(values), len(drawn)) for values in (prompts, concepts))
    said = verdicts(judge, features, wanted.tolist(), texts.tolist())
    said.insert(0, "prompt", texts)
    said.insert(1, "draw", np.tile(np.arange(len(drawn)), len(prompts)))
    return features.reshape(len(prompts), len(drawn), -1), said


def statistics(features: Float[np.ndarray, "num_prompts num_seeds width"], said: pd.DataFrame,
               reference: Float[np.ndarray, "num_pictures width"]) -> dict[str, Statistic]:
    """Each of MEASURES as a function of the rows of prompts to use, which is what `bootstrap` wants.

    features, said  of `judge_pictures`                    reference  of `reference_features`
    """
    means = {name: said[column].to_numpy(float).reshape(features.shape[:2]).mean(1) for name, column in COLUMNS.items()}
    return {"fd_sticker": frechet_statistic(features, fit_gaussian(reference)),
            "cmmd": cmmd_statistic(features, reference),
            **{name: lambda rows, values=values: float(values[rows].mean()) for name, values in means.items()}}


def frechet_statistic(features: Float[np.ndarray, "num_prompts num_seeds width"], reference: Gaussian) -> Statistic:
    """`frechet_distance` of the pictures of some prompts to the reference."""
    return lambda rows: frechet_distance(fit_gaussian(features[rows].reshape(-1, features.shape[2])), reference)


def cmmd_statistic(features: Float[np.ndarray, "num_prompts num_seeds width"],
                   reference: Float[np.ndarray, "num_pictures width"], bandwidth: float = 10.0) -> Statistic:
    """`cmmd` of the pictures of some prompts to the reference, from kernels that are made once.

    Holds (num_pictures, num_pictures) float64 for both sets, and for one against the other, while it makes them.
    """
    num_prompts, num_seeds, width = features.shape
    flat = features.reshape(-1, width)
    kernel = lambda x, y: np.exp(-distances(x, y) ** 2 / (2 * bandwidth ** 2))
    pairs = kernel(flat, flat).reshape(num_prompts, num_seeds, num_prompts, num_seeds).sum((1, 3))
    cross = kernel(flat, reference).reshape(num_prompts, -1).mean(1)
    others = (kernel(reference, reference).sum() - len(reference)) / (len(reference) * (len(reference) - 1))

    def statistic(rows: Int[np.ndarray, " num_prompts"]) -> float:
        count = len(rows) * num_seeds
        within = (pairs[np.ix_(rows, rows)].sum() - count) / (count * (count - 1))
        return float(1000 * (within + others - 2 * cross[rows].mean()))

    return statistic


def measure(found: dict[str, Statistic], num_prompts: int, num_draws: int, seed: int) -> dict[str, Interval]:
    """Every statistic with its 95% bootstrap interval over prompts; distances centred (see `bootstrap`)."""
    return {name: bootstrap(statistic, num_prompts, num_draws, seed, centred=name in LOWER_IS_BETTER)
            for name, statistic in found.items()}


def paired(how: Callable[[float, float], float], first: dict[str, Statistic],
           second: dict[str, Statistic]) -> dict[str, Statistic]:
    """how(first, second) for each measure, on the same prompts: a difference (np.subtract) or a ratio (`ratio`)."""
    return {name: lambda rows, name=name: float(how(first[name](rows), second[name](rows))) for name in first}


def ratio(first: float, second: float) -> float:
    """first / second; not a number where second is not positive, as the concept accuracy of poor pictures is."""
    return first / second if second > 0 else float("nan")


def ratios_to(label, found: dict, num_prompts: int, num_draws: int, seed: int) -> dict[object, dict[str, Interval]]:
    """found[other] / found[label] for each other one, on the same prompts, with intervals; 1 is no difference."""
    return {other: measure(paired(ratio, of, found[label]), num_prompts, num_draws, seed)
            for other, of in found.items() if other != label}


def against(name: str, found: Interval, limit: float = 0.0) -> str:
    """Where a measure lies beside a limit, as far as its 95% interval tells: "better", "worse" or "can't be told"."""
    sign = 1 if name in LOWER_IS_BETTER else -1
    ends = sorted([sign * (found.low - limit), sign * (found.high - limit)])
    return "better" if ends[1] < 0 else "worse" if ends[0] > 0 else "can't be told"


def claim(reply: str, claimed: str) -> str:
    """What a reply of `against` means for a claim of the paper: "holds", "does not hold" or "can't be told"."""
    return reply if reply == "can't be told" else "holds" if reply == claimed else "does not hold"


def claim_best(ratios: dict[object, dict[str, Interval]], name: str = "fd_sticker") -> str:
    """The same for the claim that what `ratios_to` divides by is best: refuted by one that is better beyond doubt."""
    replies = {against(name, row[name], limit=1.0) for row in ratios.values()}
    return "does not hold" if "better" in replies else "holds" if replies == {"worse"} else "can't be told"


def rounded(intervals: dict[str, Interval]) -> dict[str, dict[str, float]]:
    """Intervals as metrics.json holds them; what is no number is left out."""
    return {name: {end: round(number, 4) for end, number in found._asdict().items()}
            for name, found in intervals.items() if np.isfinite(found).all()}


def shown(intervals: dict[str, Interval]) -> dict[str, str]:
    """Intervals as a table shows them: "0.123 [0.1, 0.2]"."""
    return {name: f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]" for name, found in intervals.items()}


def long_table(results: dict[str | int, dict[str, Interval]], label: str) -> pd.DataFrame:
    """results[label][measure] as a table with a row for each interval: the CSV beside a figure."""
    return pd.DataFrame([{label: name, "measure": of, **found._asdict()}
                         for name, row in results.items() for of, found in row.items()])
