"""The count of a ballot as lines to read and as JSON to keep."""

from __future__ import annotations

import pandas as pd

from kdlib.evaluation.human.ballot import QUESTIONS
from kdlib.evaluation.human.count import RATERS, Preference, agreement, preference, short_pairs
from kdlib.evaluation.human.votes import Votes
from kdlib.evaluation.metrics import Interval

LISTED = 5  # pairs that the lines name; the JSON has all


def count(votes: Votes, seed: int = 0) -> dict:
    """All that votes say, as JSON has it.

    preferences  a list of `Preference` with question and against          alpha   question -> agreement
    failing      raters who didn't pass the attention checks, with their files: none of their votes count
    short        pairs with fewer than five votes
    """
    asked = [(question, against) for question in QUESTIONS for against in sorted(set(votes.pairs.against))]
    failing = votes.raters[~votes.raters.passes.astype(bool)].drop(columns="passes")
    return {"kind": "count", "raters": len(votes.raters), "seed": seed,
            "preferences": [{"question": question, "against": against,
                             **as_json(preference(votes, question, against, seed))} for question, against in asked],
            "alpha": {question: agreement(votes, question) for question in QUESTIONS},
            "failing": failing.rename_axis("rater").reset_index().to_dict("records"),
            "short": short_pairs(votes).to_dict("records")}


def as_json(found: Preference) -> dict:
    """A `Preference` without tuples."""
    return {name: value._asdict() if isinstance(value, Interval) else value for name, value in found._asdict().items()}


def lines(counted: dict) -> list[str]:
    """What `count` found, to be read."""
    table = pd.DataFrame([{
        "question": row["question"], "against": row["against"], "majority of five (Wilson)": shown(row["majority"]),
        "(bootstrap)": ends(row["bootstrap"]), "pairs": row["decided"], "tied": row["tied"], "short": row["short"],
        "single votes (bootstrap)": shown(row["raw"]), "votes": row["votes"], "can't tell": row["undecided"]}
        for row in counted["preferences"]])
    alphas = ", ".join(f"{question} {'-' if alpha is None else f'{alpha:.2f}'}"
                       for question, alpha in counted["alpha"].items())
    failing, short = counted["failing"], counted["short"]
    return ["Share in favour of ours, with 95% intervals:", "", *table.to_string(index=False).splitlines(), "",
            f"agreement of the raters (Krippendorff's alpha): {alphas}",
            f"raters: {counted['raters']}, of whom {len(failing)} fail the attention checks, and don't count"
            + (":" if failing else ""),
            *(f"  {row['file']}: {row['num_right']} of {row['num_checks']} right" for row in failing),
            f"pairs with fewer than {RATERS} votes: {len(short)}" + (", such as:" if short else ""),
            *(f"  {row['question']} {row['id']}: {row['prompt']!r} against {row['against']}, {row['votes']} votes"
              for row in short[:LISTED])]


def shown(interval: dict | None) -> str:
    """"0.597 [0.556, 0.635]", or "-"."""
    return "-" if interval is None else f"{interval['value']:.3f} {ends(interval)}"


def ends(interval: dict | None) -> str:
    """"[0.556, 0.635]", or "-"."""
    return "-" if interval is None else f"[{interval['low']:.3f}, {interval['high']:.3f}]"
