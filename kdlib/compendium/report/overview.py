"""The first page: prompts and pictures, the paper's claims with verdicts, all figures; and the page of what failed."""

from __future__ import annotations

import html
from pathlib import Path

import pandas as pd

from kdlib.compendium.report.claims import VERDICTS, flatten, show
from kdlib.compendium.report.explorer import FULL_MODEL, sample_list
from kdlib.compendium.report.paper import REASONS, count_states, missing_list
from kdlib.compendium.report.provenance import badge
from kdlib.files import read_json

MEANING = {"quick": "a test of the machinery, in which nothing has converged", "cpu": "trained on CPU cores",
           "gpu": "trained on one GPU", "paper": "the paper's sizes"}
FIRST_ROWS = 8
FIRST_PAGE = """# KNN-Diffusion, run for you

KNN-Diffusion (Sheynin et al., 2022) draws pictures from text with a model that has never seen text. It is trained on
pictures alone: each is described by its embedding in a joint space of texts and pictures, and by its nearest
neighbours there. Given a text, its embedding takes the picture's place, and its nearest pictures take the neighbours'.

This is a reference implementation, trained on open sticker sets that come with it, and these are its results
at preset {badge}: {meaning}. Every number and picture was made by the notebooks that follow, but for tables that were
measured beforehand (speed, large indexes, what else was tried): their pages say when and, if it is known, on what.

## From a prompt to a picture

The prompts are names of things that nothing which draws was trained on. Each stands with its nearest pictures in the
database and, framed, the picture drawn from them: the first {shown} prompts in their order, each with the first
picture of seed {seed}; none was picked. All {num} prompts, and what other models make of them, are
[there to explore](explorer.md).

{rows}

## What the paper claims, and what is found here

Each claim of the paper that can be asked here, its number, and ours with a 95% interval. It *holds* where the whole
interval lies where the brackets say, and *does not hold* where it lies on the other side. Where all of the interval is
nearer to that limit than what matters, which `reports/claims.yaml` declares, there is *no effect*; else it *can't be
told*. No number of ours compares with one of the paper's; signs and orders do.

All claims: {counts}. {states} [The paper, figure by figure](paper.md) has each beside ours, and
[what we could not reproduce](gaps.md) the rest, and why.

{claims}

<p><a href="_static/tables/claims.csv" download>All claims as CSV</a></p>

## All figures

What each stage measured. In brackets: 95% intervals over prompts. The judge is a network that never takes part in
drawing; its own page and that of the evaluation say what these figures mean, and what they don't.

{metrics}

<p><a href="_static/tables/metrics.csv" download>All figures as CSV</a></p>

{toctrees}
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
                   paper: list[dict], toctrees: str, source: Path) -> None:
    """index.md (first prompts, claims, metrics), gaps.md (claims that fail, what is missing), and their tables as CSV.

    results  reports/<preset>
    pages    stage's folder -> its page
    metrics  stage's folder -> its metrics.json
    claims   from `judge_claims`
    paper    from `load_paper`
    """
    samples = read_json(results / "generation" / "samples.json")
    drawn = {FULL_MODEL: {sample["prompt"]: f"generated/{sample['picture']}" for sample in samples}}
    counts = claims.verdict.value_counts().reindex(VERDICTS).dropna().astype(int)
    (source / "index.md").write_text(FIRST_PAGE.format(
        badge=badge(preset), meaning=meaning(preset), rows=sample_list(samples[:FIRST_ROWS], drawn),
        claims=claims_table(claims[claims.stage != ""], preset, pages), metrics=metrics_tables(metrics, preset),
        counts=", ".join(f"{count} {verdict}" for verdict, count in counts.items()), toctrees=toctrees,
        states=count_states(paper),
        num=len(samples), shown=len(samples[:FIRST_ROWS]), seed=samples[0]["seed"]), encoding="utf-8")
    gaps = claims[claims.verdict != "holds"].sort_values("verdict", key=lambda s: s.map(VERDICTS.index), kind="stable")
    missed = GAPS_PAGE.format(badge=badge(preset), claims=claims_table(gaps, preset, pages), states=count_states(paper),
                              **{reason: missing_list(paper, reason) for reason in REASONS})
    (source / "gaps.md").write_text(missed, encoding="utf-8")
    claims.to_csv(source / "_static" / "tables" / "claims.csv", index=False)
    metrics_frame(metrics).to_csv(source / "_static" / "tables" / "metrics.csv", index=False)


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
