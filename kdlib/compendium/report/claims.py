"""The paper's claims beside what the stages measured: every verdict comes from a metrics.json, none from a hand.

reports/claims.yaml lists the claims. Each has `claim`, `place` and `paper` (where the paper says so, and its numbers),
and either `cannot` (why it can't be asked here) or `ours`:

    stage   whose metrics.json holds our number (a folder under reports/<preset>)
    key     which one there, dotted; with *, all that match
    what    the number in words
    holds   "above 0", "below 1", ...: where the number's interval lies if the claim holds; or "as said", where the
            stage itself says "holds", "does not hold" or "can't be told"
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd
import yaml

HOLDS = re.compile(r"as said|(above|below) (-?\d+(?:\.\d+)?)")
SAID = ["does not hold", "can't be told", "holds"]  # of several numbers of one claim, the first that is said counts
INTERVAL = {"value", "low", "high"}
VERDICTS = ["holds", "does not hold", "can't be told", "not run", "can't be asked"]


def load_claims(root: str | Path) -> list[dict]:
    """The rows of reports/claims.yaml; raises ValueError naming a claim that has too little, too much or nonsense."""
    claims = yaml.safe_load((Path(root) / "reports" / "claims.yaml").read_text(encoding="utf-8"))
    for row in claims:
        ours = row.get("ours", {})
        asked = ours.keys() == {"stage", "key", "what", "holds"} and HOLDS.fullmatch(ours["holds"])
        if row.keys() != {"claim", "place", "paper", "ours" if asked else "cannot"}:
            raise ValueError(f"claims.yaml: {row.get('claim', row)!r} needs claim, place, paper, and either cannot, or "
                             "ours with stage, key, what and holds ('above 0', 'below 1.5', 'as said')")
    return claims


def judge_claims(claims: list[dict], metrics: dict[str, dict]) -> pd.DataFrame:
    """A row of texts for each claim, in their order: claim, place, paper, stage, what, holds_if, ours, verdict, why.

    metrics  stage -> its metrics.json
    verdict  one of VERDICTS; "not run" where the stage or the number is missing
    """
    verdicts = [judge_claim(row["ours"], metrics) if "ours" in row else
                {"verdict": "can't be asked", "why": row["cannot"].strip()} for row in claims]
    columns = ["claim", "place", "paper", "stage", "what", "holds_if", "ours", "verdict", "why"]
    return pd.DataFrame([row | more for row, more in zip(claims, verdicts, strict=True)]).reindex(
        columns=columns, fill_value="").fillna("")


def judge_claim(ours: dict, metrics: dict[str, dict]) -> dict[str, str]:
    """What a claim that can be asked adds to the table."""
    as_said = ours["holds"] == "as said"
    found = {key: value for key, value in flatten(metrics.get(ours["stage"], {})).items()
             if fnmatchcase(key, ours["key"]) and (value in SAID if as_said else not isinstance(value, str))}
    row = {"stage": ours["stage"], "what": ours["what"], "holds_if": ours["holds"], "ours": ""}
    if not found:
        return row | {"verdict": "not run", "why": f"there is no {ours['key']} in {ours['stage']}/metrics.json"}
    said = [value if as_said else verdict_of(value, ours["holds"]) for value in found.values()]
    return row | {"ours": "; ".join(map(show, found.values())), "verdict": min(said, key=SAID.index)}


def verdict_of(found: float | int | dict, holds: str) -> str:
    """Whether the whole interval lies where it has to ("above 0", "below 1"), on the other side, or neither.

    A number without an interval is exact: a count, or a share of a whole.
    """
    low, high = (found["low"], found["high"]) if isinstance(found, dict) else (found, found)
    side, limit = HOLDS.fullmatch(holds).groups()
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
