"""The paper's claims beside what the stages measured: every verdict comes from a metrics.json, none from a hand.

reports/claims.yaml lists the claims. Each has `claim`, `place` and `paper` (where the paper says so, and its numbers),
and one of `cannot` (why it can't be asked here), `not_built` (what would have to be built to ask it) and `ours`:

    stage   whose metrics.json holds our number (a folder under reports/<preset>)
    key     which one there, dotted; with *, all that match
    what    the number in words
    holds   "above 0", "below 1", ...: where the number's interval lies if the claim holds; or "as said", where the
            stage itself says one of SAID
    matters not beside "as said": the smallest distance from that limit that matters, in the number's own unit. An
            interval that lies wholly nearer to the limit, on whichever side, is "no effect"
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd
import yaml

HOLDS = re.compile(r"as said|(above|below) (-?\d+(?:\.\d+)?)")
SAID = ["does not hold", "no effect", "can't be told", "holds"]  # of a claim's several numbers, the first said counts
INTERVAL = {"value", "low", "high"}
VERDICTS = ["holds", "does not hold", "no effect", "can't be told", "not run", "not built", "can't be asked"]
UNASKED = {"cannot": "can't be asked", "not_built": "not built"}


def load_claims(root: str | Path) -> list[dict]:
    """The rows of reports/claims.yaml; raises ValueError naming a claim that has too little, too much or nonsense."""
    claims = yaml.safe_load((Path(root) / "reports" / "claims.yaml").read_text(encoding="utf-8"))
    for row in claims:
        answers = row.keys() - {"claim", "place", "paper"}
        fits = is_asked(row["ours"]) if answers == {"ours"} else answers in [{reason} for reason in UNASKED]
        if not fits or not row.keys() >= {"claim", "place", "paper"}:
            raise ValueError(f"claims.yaml: {row.get('claim', row)!r} needs claim, place, paper, and one of cannot, "
                             "not_built, and ours with stage, key, what, holds ('above 0', 'below 1.5', 'as said') and "
                             "(but for 'as said') matters, a number of at least 0")
    return claims


def is_asked(ours: dict) -> bool:
    """Whether `ours` says all that a verdict needs, and nothing else."""
    if not {"stage", "key", "what", "holds"} <= ours.keys() or not HOLDS.fullmatch(ours["holds"]):
        return False
    more, matters = ours.keys() - {"stage", "key", "what", "holds"}, ours.get("matters")
    if ours["holds"] == "as said":
        return not more
    return more == {"matters"} and isinstance(matters, int | float) and not isinstance(matters, bool) and matters >= 0


def judge_claims(claims: list[dict], metrics: dict[str, dict]) -> pd.DataFrame:
    """A row of texts for each claim, in their order.

    Columns: claim, place, paper, stage, what, holds_if, matters, ours, verdict, why.
    metrics  stage -> its metrics.json
    verdict  one of VERDICTS; "not run" where the stage or the number is missing
    """
    verdicts = [judge_claim(row["ours"], metrics) if "ours" in row else why_unasked(row) for row in claims]
    columns = ["claim", "place", "paper", "stage", "what", "holds_if", "matters", "ours", "verdict", "why"]
    return pd.DataFrame([row | more for row, more in zip(claims, verdicts, strict=True)]).reindex(
        columns=columns, fill_value="").fillna("")


def why_unasked(row: dict) -> dict[str, str]:
    """What a claim that isn't asked adds to the table."""
    reason = next(name for name in UNASKED if name in row)
    return {"verdict": UNASKED[reason], "why": row[reason].strip()}


def judge_claim(ours: dict, metrics: dict[str, dict]) -> dict[str, str]:
    """What a claim that can be asked adds to the table."""
    as_said = ours["holds"] == "as said"
    found = {key: value for key, value in flatten(metrics.get(ours["stage"], {})).items()
             if fnmatchcase(key, ours["key"]) and (value in SAID if as_said else not isinstance(value, str))}
    matters = "" if as_said else f"{ours['matters']:g}"
    row = {"stage": ours["stage"], "what": ours["what"], "holds_if": ours["holds"], "matters": matters, "ours": ""}
    if not found:
        return row | {"verdict": "not run", "why": f"there is no {ours['key']} in {ours['stage']}/metrics.json"}
    said = [value if as_said else verdict_of(value, ours["holds"], ours["matters"]) for value in found.values()]
    return row | {"ours": "; ".join(map(show, found.values())), "verdict": min(said, key=SAID.index)}


def verdict_of(found: float | int | dict, holds: str, matters: float | int) -> str:
    """Whether the whole interval lies where it has to ("above 0", "below 1"), on the other side, or neither.

    matters  the smallest distance from the limit that matters: an interval wholly within it is "no effect", whichever
             side it lies on; one that touches it is not within

    A number without an interval is exact: a count, or a share of a whole.
    """
    low, high = (found["low"], found["high"]) if isinstance(found, dict) else (found, found)
    side, limit = HOLDS.fullmatch(holds).groups()
    if float(limit) - matters < low and high < float(limit) + matters:
        return "no effect"
    below, above = high < float(limit), low > float(limit)
    return "holds" if (above if side == "above" else below) else "does not hold" if below or above else "can't be told"


def show(value: float | int | str | dict) -> str:
    """A metric as a table shows it: "0.123 [0.1, 0.2]", "12,345", "0.1235"."""
    if isinstance(value, dict):
        return f"{value['value']:.4g} [{value['low']:.4g}, {value['high']:.4g}]"
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def flatten(values: dict, prefix: str = "") -> dict:
    """Nested dictionaries as one with dotted names; a value with its interval stays together."""
    flat = {}
    for name, value in values.items():
        nested = isinstance(value, dict) and value.keys() != INTERVAL
        flat |= flatten(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return flat
