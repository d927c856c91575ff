"""What a reader should know first: a few sentences whose numbers come from the stages' metrics.json.

reports/findings.yaml lists them. Each has `says`, a sentence with {names} in it, `page`, the notebook that tells more,
and `numbers`: for each name its `stage` (a folder under reports/<preset>), its dotted `key` there, and its `format` (as
of Python: ".0%", ".2f").
"""

from __future__ import annotations

import string
from pathlib import Path

import yaml

from kdlib.compendium.report.claims import flatten


def load_findings(root: str | Path) -> list[dict]:
    """The rows of reports/findings.yaml; raises ValueError naming one that has too little, too much or other names."""
    findings = yaml.safe_load((Path(root) / "reports" / "findings.yaml").read_text(encoding="utf-8"))
    for row in findings:
        fits = row.keys() == {"says", "page", "numbers"} and all(
            number.keys() == {"stage", "key", "format"} for number in row["numbers"].values())
        names = {name for _, name, _, _ in string.Formatter().parse(row.get("says", "")) if name is not None}
        if not fits or names != row["numbers"].keys():
            raise ValueError(f"findings.yaml: {row.get('says', row)!r} needs says, page, and numbers with stage, key "
                             "and format, one for each {name} that it says")
    return findings


def finding_list(findings: list[dict], metrics: dict[str, dict], pages: dict[str, str]) -> str:
    """The sentences as a Markdown list, each with a link; one of which a number is missing is left out.

    metrics  stage -> its metrics.json         pages  notebook -> its page, of those that have run
    """
    lines = []
    for row in findings:
        found = {name: flatten(metrics.get(number["stage"], {})).get(number["key"])
                 for name, number in row["numbers"].items()}
        if None not in found.values() and row["page"] in pages:
            said = row["says"].format(**{name: in_words(value, row["numbers"][name]["format"])
                                         for name, value in found.items()})
            lines.append(f"- {said} [More]({pages[row['page']]}.ipynb)")
    return "\n".join(lines)


def in_words(value: float | int | dict, form: str) -> str:
    """A metric in a sentence: "**30%** (24 to 37%)", or without an interval "**17.0**"."""
    if not isinstance(value, dict):
        return f"**{value:{form}}**"
    return f"**{value['value']:{form}}** ({format(value['low'], form).removesuffix('%')} to {value['high']:{form}})"
