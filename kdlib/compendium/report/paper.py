"""The page "The paper, figure by figure": every table and figure of the paper beside ours, or why there is none.

reports/paper.yaml lists them. Each has `place` ("Table 1", "Fig. 10"), `shows` (what is to be seen in the paper), and
at least one of

    ours         our counterpart: `says` in words and `pages` (notebooks, or pages of this report), and perhaps
                 `numbers` (each the stage whose metrics.json holds it, its dotted key there, and what it is) and
                 `picture`: the executed notebook (`page`) that draws it, and how its alternative text (`alt`) begins
    not_built    what of it could be had here and isn't built
    not_askable  what of it can't be had here, and why

All texts are Markdown.
"""

from __future__ import annotations

import base64
import html
from collections import Counter
from pathlib import Path

import nbformat
import pandas as pd
import yaml

from kdlib.compendium.report.claims import flatten, show
from kdlib.compendium.report.provenance import badge

REASONS = {"not_built": "Not built", "not_askable": "Can't be asked here"}
STATES = {"built": "have a counterpart here", "built in part": "have one in part", "not built": "aren't built",
          "not askable": "can't be asked here"}
PAGE = """# The paper, figure by figure

{badge} Every table and figure of the paper, and what stands beside it here. Three things are kept apart: what was
asked here and found otherwise (the verdict of a claim says so), what isn't built, and what can't be asked of a
compendium of stickers. {counts}

{overview}

{sections}
"""


def load_paper(root: str | Path) -> list[dict]:
    """The rows of reports/paper.yaml; raises ValueError naming a row that has too little or too much."""
    rows = yaml.safe_load((Path(root) / "reports" / "paper.yaml").read_text(encoding="utf-8"))
    for row in rows:
        answers = row.keys() - {"place", "shows"}
        ours = row.get("ours", {"says": "", "pages": []})
        fits = answers and answers <= {"ours", *REASONS} and row.keys() >= {"place", "shows"}
        if not fits or not {"says", "pages"} <= ours.keys() <= {"says", "pages", "numbers", "picture"}:
            raise ValueError(f"paper.yaml: {row.get('place', row)!r} needs place, shows, and at least one of ours "
                             "(with says, pages, and perhaps numbers and picture), not_built and not_askable")
    return rows


def state_of(row: dict) -> str:
    """Which of STATES a table or figure is in."""
    if "ours" in row:
        return "built in part" if row.keys() & REASONS.keys() else "built"
    return "not built" if "not_built" in row else "not askable"


def count_states(rows: list[dict]) -> str:
    """How many tables and figures are in which state, as a sentence."""
    counts = Counter(map(state_of, rows))
    *told, last = [f"{counts[state]} {words}" for state, words in STATES.items() if counts[state]]
    tables = sum(row["place"].startswith("Table") for row in rows)
    told = f"{', '.join(told)} and {last}" if told else last
    return f"Of the paper's {tables} tables and {len(rows) - tables} figures, {told}."


def anchor(place: str) -> str:
    """The target of a place on the page: "Fig. 10" -> "fig-10"."""
    return place.lower().replace(". ", "-").replace(" ", "-")


def link(row: dict) -> str:
    """A Markdown link to a row's section, from any page."""
    return f"[{row['place']}](#{anchor(row['place'])})"


def missing_list(rows: list[dict], reason: str) -> str:
    """What isn't built, or can't be asked (`reason` is a key of REASONS), as a Markdown list with links."""
    return "\n".join(f"- {link(row)}: {row[reason].strip()}" for row in rows if reason in row)


# --- the page ------------------------------------------------------------------------------------------------------

def write_paper(preset: str, results: Path, rows: list[dict], claims: pd.DataFrame, metrics: dict[str, dict],
                first: dict[str, str], source: Path) -> None:
    """paper.md, and its pictures in `source`/_static/paper.

    results  reports/<preset>
    rows     from `load_paper`
    claims   from `judge_claims`
    metrics  stage's folder -> its metrics.json
    first    notebook -> the first page that it became
    """
    sections = "\n\n".join(section(row, preset, results, claims, metrics, first, source) for row in rows)
    page = PAGE.format(badge=badge(preset), counts=count_states(rows), overview=overview(rows), sections=sections)
    (source / "paper.md").write_text(page, encoding="utf-8")


def overview(rows: list[dict]) -> str:
    """The places by state, with links to their sections, as a Markdown list."""
    lines = []
    for state, words in STATES.items():
        links = [link(row) for row in rows if state_of(row) == state]
        if links:
            lines.append(f"- {words}: {', '.join(links)}")
    return "\n".join(lines)


def section(row: dict, preset: str, results: Path, claims: pd.DataFrame, metrics: dict[str, dict],
            first: dict[str, str], source: Path) -> str:
    """One table or figure as Markdown."""
    place, ours = row["place"], row.get("ours", {})
    parts = [f"({anchor(place)})=\n## {place}", f"*In the paper:* {row['shows'].strip()}"]
    if ours:
        links = ", ".join(page_link(page, first) for page in ours["pages"])
        parts.append(f"*Here:* {ours['says'].strip()} {links}.")
        parts.append("\n".join(number_line(number, metrics, preset) for number in ours.get("numbers", [])))
    parts += [f"*{words}:* {row[reason].strip()}" for reason, words in REASONS.items() if reason in row]
    parts.append(claim_list(claims, place))
    if "picture" in ours:
        parts.append(picture_tag(ours["picture"], results, source / "_static" / "paper" / f"{anchor(place)}.png"))
    return "\n\n".join(part for part in parts if part)


def page_link(page: str, first: dict[str, str]) -> str:
    """A link to a notebook's page, or to a page of the report, which Sphinx gives that page's title.

    A notebook that this preset doesn't run is only named.
    """
    if page not in first and page[0].isdigit():
        return f"{page} (not run at this preset)"
    return f"[]({first[page]}.ipynb)" if page in first else f"[]({page}.md)"


def number_line(number: dict, metrics: dict[str, dict], preset: str) -> str:
    """A live number as an item of a Markdown list; "not run" where its stage has not measured it."""
    value = flatten(metrics.get(number["stage"], {})).get(number["key"])
    return f"- {number['what']}: {'not run' if value is None else f'{show(value)} {badge(preset)}'}"


def claim_list(claims: pd.DataFrame, place: str) -> str:
    """The claims that the paper makes at a place, each with its verdict, as a Markdown list; empty if there is none."""
    here = claims[claims.place.map(lambda told: place in told.split(", "))]
    lines = [f"- {html.escape(row.claim)}: **{row.verdict}**" for row in here.itertuples()]
    return "\n".join(["*Claimed there:*", "", *lines]) if lines else ""


def picture_tag(picture: dict, results: Path, path: Path) -> str:
    """Saves the figure of an executed notebook whose alternative text begins so to `path`; returns it as HTML.

    Empty where the notebook of this preset draws none like it, or where this preset doesn't run it.
    """
    path_of_notebook = results / "notebooks" / f"{picture['page']}.ipynb"
    if not path_of_notebook.is_file():
        return ""
    notebook = nbformat.read(path_of_notebook, as_version=4)
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        told = output.get("metadata", {}).get("image/png", {})
        if told.get("alt", "").startswith(picture["alt"]):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(base64.b64decode(output["data"]["image/png"]))
            width = f' width="{told["width"]}"' if "width" in told else ""
            return f'<img src="_static/paper/{path.name}" alt="{html.escape(told["alt"])}"{width} loading="lazy">'
    return ""
