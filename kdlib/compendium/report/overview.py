"""The first page: pictures, findings, the paper's claims with verdicts; the pages of all figures and of what failed."""

from __future__ import annotations

import html
from pathlib import Path

import pandas as pd

from kdlib.compendium.report.claims import VERDICTS, flatten, show
from kdlib.compendium.report.explorer import file_name, image_tag
from kdlib.compendium.report.paper import REASONS, count_states, missing_list
from kdlib.compendium.report.provenance import badge
from kdlib.files import read_json

MEANING = {"quick": "a test of the machinery, in which nothing has converged", "cpu": "trained on CPU cores",
           "gpu": "trained on one GPU", "paper": "the paper's sizes"}
FIRST_PROMPTS = 12
FIRST_PAGE = """# Pictures from text, learned from pictures alone

{badge} [KNN-Diffusion](https://arxiv.org/abs/2204.02849) (Sheynin et al., 2022) draws pictures from text with a model
that has never seen text: it learns from pictures, each told by its embedding in a joint space of texts and pictures and
by its nearest neighbours there; for a text, its own nearest pictures take their place. This is an independent reference
implementation on open sticker sets, at preset {preset}: {meaning}.

{gallery}

{findings}

{doors}

Code and texts are under Apache-2.0, stickers under their own free licences; `CITATION.cff` says how to cite this and
the paper. Every number and picture was made by the notebooks that follow, but for tables that were measured beforehand
(speed, large indexes, what else was tried): their pages say when and, if it is known, on what.

## What the paper claims, and what is found here

Each claim of the paper that can be asked here, its number, and ours with a 95% interval. It *holds* where the whole
interval lies where the brackets say, and *does not hold* where it lies on the other side. Where all of the interval is
nearer to that limit than what matters, which `reports/claims.yaml` declares, there is *no effect*; else it *can't be
told*. No number of ours compares with one of the paper's; signs and orders do.

All claims: {counts}. {states} [The paper, figure by figure](paper.md) has each beside ours,
[what we could not reproduce](gaps.md) the rest, and why, and [all figures](figures.md) what each stage measured.

{claims}

<p><a href="_static/tables/claims.csv" download>All claims as CSV</a></p>

{toctrees}
"""
GALLERY = """<ul class="kd-gallery">{items}</ul>

The first {shown} prompts in their order, none picked, seed {seed}: names of things that nothing which draws was trained
on. Framed, what is drawn; beside it the nearest of the {neighbours} pictures that it was made from.
[All {num}](explorer.md)."""
DOORS = """<div class="kd-doors">
<a href="00_tour.html"><strong>Learn</strong> the paper in runnable steps, one idea a notebook</a>
<a href="researchers.html"><strong>Run</strong> it again, change a number, compare</a>
<a href="paper.html"><strong>Read</strong> the paper figure by figure, ours beside it</a>
</div>"""
FIGURES_PAGE = """# All figures

{badge} What each stage measured. In brackets: 95% intervals over prompts. The judge is a network that never takes part
in drawing; its own page and that of the evaluation say what these figures mean, and what they don't.

{metrics}

<p><a href="_static/tables/metrics.csv" download>All figures as CSV</a></p>
"""

GAPS_PAGE = """# What we could not reproduce

{badge} Three different things: what was asked here and not found (it does not hold, has no effect that matters, can't
be told from so few pictures, or no stage of this preset has measured it), what isn't built, and what can't be asked
here at all.

## Claims

The same rows as on the [first page](index.md), and those that are not asked.

{claims}

## Tables and figures that aren't built

What could be had here, as a whole or in part. {states}

{not_built}

## Tables and figures that can't be asked here

{not_askable}
"""


def meaning(preset: str) -> str:
    """A preset in words."""
    return MEANING.get(preset, "see params.yaml")


def write_overview(preset: str, results: Path, pages: dict[str, str], metrics: dict[str, dict], claims: pd.DataFrame,
                   paper: list[dict], findings: str, toctrees: str, source: Path) -> None:
    """index.md (first prompts, findings, claims), figures.md, gaps.md (what failed, what is missing), and CSV tables.

    results   reports/<preset>
    pages     stage's folder -> its page
    metrics   stage's folder -> its metrics.json
    claims    from `judge_claims`
    paper     from `load_paper`
    findings  from `finding_list`
    """
    samples = read_json(results / "generation" / "samples.json")
    counts = claims.verdict.value_counts().reindex(VERDICTS).dropna().astype(int)
    (source / "index.md").write_text(FIRST_PAGE.format(
        badge=badge(preset), preset=preset, meaning=meaning(preset), gallery=gallery(samples), doors=DOORS,
        findings=findings, claims=claims_table(claims[claims.stage != ""], preset, pages),
        counts=", ".join(f"{count} {verdict}" for verdict, count in counts.items()), toctrees=toctrees,
        states=count_states(paper)), encoding="utf-8")
    figures = FIGURES_PAGE.format(badge=badge(preset), metrics=metrics_tables(metrics, preset))
    (source / "figures.md").write_text(figures, encoding="utf-8")
    gaps = claims[claims.verdict != "holds"].sort_values("verdict", key=lambda s: s.map(VERDICTS.index), kind="stable")
    missed = GAPS_PAGE.format(badge=badge(preset), claims=claims_table(gaps, preset, pages), states=count_states(paper),
                              **{reason: missing_list(paper, reason) for reason in REASONS})
    (source / "gaps.md").write_text(missed, encoding="utf-8")
    claims.to_csv(source / "_static" / "tables" / "claims.csv", index=False)
    metrics_frame(metrics).to_csv(source / "_static" / "tables" / "metrics.csv", index=False)


def gallery(samples: list[dict]) -> str:
    """The first prompts, each with its nearest picture and what is drawn, as HTML and a sentence."""
    items = []
    for sample in samples[:FIRST_PROMPTS]:
        prompt, near = sample["prompt"], sample["neighbours"][0]
        whose = f"nearest picture: {near['title']} ({near['style']}, {near['author']}, {near['licence']})"
        drawn = image_tag("generated/" + sample["picture"], f"drawn for “{prompt}”")
        beside = image_tag("neighbours/" + file_name(near["id"]), whose)
        items.append(f'<li><span class="kd-made">{drawn}</span>{beside}'
                     f'<span class="kd-prompt">{html.escape(prompt)}</span></li>')
    return GALLERY.format(items="".join(items), shown=len(items), seed=samples[0]["seed"], num=len(samples),
                          neighbours=len(samples[0]["neighbours"]))


def claims_table(claims: pd.DataFrame, preset: str, pages: dict[str, str]) -> str:
    """Rows of `judge_claims` as a Markdown table; our numbers with the badge, and a link to the stage's page."""
    lines = ["| claim | verdict | here | in the paper |", "| --- | --- | --- | --- |"]
    for row in claims.map(html.escape).itertuples():
        what = f"[{row.what}]({pages[row.stage]}.ipynb)" if row.stage in pages else row.what
        limit = "" if row.holds_if == "as said" else f" ({row.holds_if}{matters(row.matters)})"
        here = f"{what}: {row.ours}{limit} {badge(preset)}" if row.ours else row.why
        lines.append(f"| {row.claim} | **{row.verdict}** | {here} | {row.place}: {row.paper} |")
    return "\n".join(lines)


def matters(distance: str) -> str:
    """What stands behind a claim's limit: the smallest distance from it that matters, if that isn't any."""
    return "" if distance == "0" else f"; matters: {distance}"


def metrics_frame(metrics: dict[str, dict]) -> pd.DataFrame:
    """stage -> its metrics.json as a table: stage, figure, value, and low and high where there is an interval."""
    rows = [{"stage": stage, "figure": name, **(value if isinstance(value, dict) else {"value": value})}
            for stage, values in metrics.items() for name, value in flatten(values).items()]
    return pd.DataFrame(rows, columns=["stage", "figure", "value", "low", "high"])


def metrics_tables(metrics: dict[str, dict], preset: str) -> str:
    """stage -> its metrics.json as Markdown tables that fold, one a stage, each number with the preset's badge."""
    return "\n\n".join(f"<details><summary>{stage}</summary>\n\n{metrics_table(values, preset)}\n\n</details>"
                       for stage, values in metrics.items())


def metrics_table(values: dict, preset: str) -> str:
    """One metrics.json as a Markdown table."""
    lines = [f"| {name} | {show(value)} | {badge(preset)} |" for name, value in flatten(values).items()]
    return "\n".join(["| figure | value | |", "| --- | --- | --- |", *lines])
