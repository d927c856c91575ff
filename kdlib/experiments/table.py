"""Tables 1 and 2: every method measured by one function, on one picture of each prompt, and what people prefer.

Distances between sets depend on how many pictures they have (notebook 8), so all methods have as many: one a prompt.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from kdlib.evaluation.comparison import Statistic, measure, paired, statistics
from kdlib.evaluation.human.result import count, shown
from kdlib.evaluation.human.votes import read_votes
from kdlib.evaluation.metrics import Interval, ball_radii, bootstrap, check_features, distances, share_interval

SHARED = ("fd_sticker", "concept_top5", "text_alignment")
MEASURED = (*SHARED, "precision", "recall")
NO_VOTES = "no votes yet"
VOTES = "data/votes"  # key.json, and the files that raters saved


class Drawn(NamedTuple):
    """What a method drew for the prompts, one picture each.

    features        the judge's
    said            of `judge_pictures`: a row for each prompt
    num_parameters  of what draws; None: there is nothing
    """

    features: Float[np.ndarray, "prompts width"]
    said: pd.DataFrame
    num_parameters: int | None


def open_drawn(folder: Path, prompts: list[str], num_parameters: int | None) -> Drawn:
    """The first draw of each prompt of a stage that left features.npy and verdicts.csv.

    Raises ValueError where it drew other prompts.
    """
    features, said = np.load(folder / "features.npy"), pd.read_csv(folder / "verdicts.csv")
    first = said[said.draw == 0].reset_index(drop=True)
    if first.prompt.tolist() != list(prompts) or len(features) != len(prompts):
        raise ValueError(f"{folder} holds pictures of other prompts than are asked for; run its stage again")
    return Drawn(features[:, 0], first, num_parameters)


def drawn_statistics(drawn: Drawn, reference: Float[np.ndarray, "pictures width"],
                     num_nearest: int) -> dict[str, Statistic]:
    """MEASURED as functions of the rows of prompts to use."""
    found = statistics(drawn.features[:, None], drawn.said, reference)
    return {**{name: found[name] for name in SHARED}, **spread_statistics(drawn.features, reference, num_nearest)}


def spread_statistics(features: Float[np.ndarray, "prompts width"], reference: Float[np.ndarray, "pictures width"],
                      num_nearest: int) -> dict[str, Statistic]:
    """`precision_recall`'s first two of the pictures of some prompts.

    Recall leaves out repeated prompts, whose balls would have no width. Raises ValueError where either set has no
    `num_nearest` others.
    """
    for of in (features, reference):
        check_features(of, at_least=num_nearest + 1)
    between, within = distances(features, reference), distances(features, features)
    is_real = (between <= ball_radii(reference, num_nearest)).any(1)

    def recall(rows: Int[np.ndarray, " some"]) -> float:
        rows = np.unique(rows)
        if len(rows) <= num_nearest:
            return 0.0
        apart = within[np.ix_(rows, rows)] + np.diag(np.full(len(rows), np.inf))
        radii = np.partition(apart, num_nearest - 1, axis=1)[:, num_nearest - 1]
        return float((between[rows] <= radii[:, None]).any(0).mean())

    return {"precision": lambda rows: float(is_real[rows].mean()), "recall": recall}


def measure_methods(methods: dict[str, Drawn], reference: Float[np.ndarray, "pictures width"], num_nearest: int,
                    num_draws: int, seed: int) -> dict[str, dict[str, Interval]]:
    """MEASURED of each method, with 95% intervals over prompts.

    The shares of one picture a prompt, concept_top5 and precision, have exact ones; distance and recall, of which a
    resample has too few different pictures, centred ones.
    """
    rows = {}
    for name, drawn in methods.items():
        found, num_prompts = drawn_statistics(drawn, reference, num_nearest), len(drawn.said)
        rows[name] = {
            **measure({of: found[of] for of in SHARED}, num_prompts, num_draws, seed),
            "concept_top5": share_interval(drawn.said.top5.to_numpy(bool)),
            "precision": share_interval(np.array([found["precision"](np.array([row])) for row in range(num_prompts)],
                                                 dtype=bool)),
            "recall": bootstrap(found["recall"], num_prompts, num_draws, seed, centred=True)}
    return rows


def differences(methods: dict[str, Drawn], rivals: dict[str, str], reference: Float[np.ndarray, "pictures width"],
                num_draws: int, seed: int) -> dict[str, dict[str, Interval]]:
    """SHARED of each method minus those of its rival, on the same prompts; rivals are method -> which row of ours.

    Raises ValueError where the two drew other prompts.
    """
    found = {name: statistics(drawn.features[:, None], drawn.said, reference) for name, drawn in methods.items()}
    pick, rows = lambda name: {of: found[name][of] for of in SHARED}, {}
    for name, ours in rivals.items():
        check_prompts(methods, name, ours)
        rows[name] = measure(paired(np.subtract, pick(name), pick(ours)), len(methods[name].said), num_draws, seed)
    return rows


def preferred_by_judge(methods: dict[str, Drawn], rivals: dict[str, str]) -> dict[str, Interval]:
    """Of each method, the share of prompts whose picture by its rival, ours, the judge finds nearer to the text.

    An automatic preference, of one network and by one question: no vote of anybody. A tie is no preference for ours.
    Raises as `differences`.
    """
    rows = {}
    for name, ours in rivals.items():
        check_prompts(methods, name, ours)
        rows[name] = share_interval(methods[ours].said.alignment.to_numpy() > methods[name].said.alignment.to_numpy())
    return rows


def check_prompts(methods: dict[str, Drawn], name: str, ours: str) -> None:
    """Raises ValueError unless both drew the same prompts, in the same order."""
    if methods[name].said.prompt.tolist() != methods[ours].said.prompt.tolist():
        raise ValueError(f"{name} drew other prompts than {ours}; they can't be compared")


# --- people ----------------------------------------------------------------------------------------------------------

def people(root: Path, methods: list[str]) -> dict[str, str]:
    """What people prefer, by method: shares in favour of ours with Wilson's intervals, or why there is none.

    Counted, as `kd ballot count` does, from the files in data/votes beside their ballot's key.json; the ballot's names
    of methods are those of the table. Raises ValueError for files that aren't the ballot's.
    """
    folder = Path(root) / VOTES
    files = sorted(path for path in folder.glob("*.json") if path.name != "key.json")
    if not files:
        return dict.fromkeys(methods, NO_VOTES)
    if not (folder / "key.json").is_file():
        raise ValueError(f"{folder} has votes, but no key.json to count them by; put the ballot's key there")
    found = {}
    for row in count(read_votes(files, folder / "key.json"))["preferences"]:
        found.setdefault(row["against"], []).append(f"{row['question']} {shown(row['majority'])}")
    return {name: ", ".join(found.get(name, ["not asked"])) for name in methods}


# --- the table -------------------------------------------------------------------------------------------------------

def as_table(methods: dict[str, Drawn], rows: dict[str, dict[str, Interval]], judged: dict[str, Interval],
             votes: dict[str, str]) -> pd.DataFrame:
    """A row of texts for each method: MEASURED with intervals, costs, the judge's preference, people's votes."""
    text = lambda of: f"{of.value:.3g} [{of.low:.3g}, {of.high:.3g}]"
    size = lambda number: "-" if number is None else f"{number:,}"
    return pd.DataFrame({name: {
        **{of: text(rows[name][of]) for of in MEASURED},
        "parameters": size(drawn.num_parameters),
        "judge prefers ours (automatic, text)": text(judged[name]) if name in judged else "-",
        "people prefer ours": votes.get(name, "-")} for name, drawn in methods.items()}).T


def side_by_side(sets: dict[str, pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """Table 1's layout: for each data set, some columns of its table; a method that a set lacks has empty cells."""
    return pd.concat({name: table[columns] for name, table in sets.items()}, axis=1)
