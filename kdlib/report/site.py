"""The report of a preset: executed notebooks and a first page as a site that opens from disk.

The same results make the same bytes.
"""

from __future__ import annotations

import html
import io
import re
import shutil
import tempfile
from pathlib import Path, PurePosixPath

import nbformat
import pandas as pd
import yaml

from kdlib.data.catalogue import Catalogue, sticker_catalogue
from kdlib.io import atomic_path, read_json
from kdlib.params import find_root, load_preset
from kdlib.report import mathml
from kdlib.report.claims import VERDICTS, flatten, judge_claims, load_claims, show

RESULTS = "reports/${item.preset}/"
LINK = re.compile(r"\]\((\w+)\.ipynb\)")
MEANING = {"quick": "a test of the machinery, in which nothing has converged", "cpu": "trained on CPU cores",
           "gpu": "trained on one GPU", "paper": "the paper's sizes"}
FIRST_ROWS = 8
SHOWN_NEIGHBOURS = 5
THUMBNAIL_PX = 64
NOT_NEEDED = ("**/*.map", "_static/locales", "_static/vendor", "_static/images", ".buildinfo*", "objects.inv",
              "_static/*.html", "_sources")
STYLE = """
.kd-badge { border: 1px solid currentColor; border-radius: 1em; padding: 0 .6em; font-size: .85em; white-space: nowrap }
div.math { display: block; text-align: center }
table.kd-grid { border-collapse: collapse; display: block; overflow-x: auto }
table.kd-grid td, table.kd-grid th { padding: .3em .4em; text-align: left; vertical-align: middle }
table.kd-grid tr { border-top: 1px solid var(--pst-color-border) }
table.kd-grid img { max-width: none; background: white }
table.kd-grid td.kd-made img { outline: 2px solid #0072B2 }
table.kd-grid details { font-size: .85em; max-width: 20em }
"""
REDIRECT = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>KNN-Diffusion, preset {preset}</title>
<meta http-equiv="refresh" content="0; url=site/index.html"></head>
<body><p><a href="site/index.html">The report of preset {preset}</a></p></body>
</html>
"""


def build_report(preset: str, root: str | Path | None = None) -> Path:
    """Writes reports/<preset>/site and reports/<preset>/index.html, which leads there; returns the latter's path.

    Reads the executed notebooks, generation/samples.json, reports/claims.yaml, and what is there of the stages'
    metrics.json. Raises FileNotFoundError when one of the first three is missing, RuntimeError when Sphinx warns (a
    broken link, a formula it can't read).
    """
    root = Path(root or find_root())
    load_preset(preset, root)
    results = root / "reports" / preset
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        (source / "_static").mkdir(parents=True)
        (source / "_static" / "kd.css").write_text(STYLE)
        names, measured = declared_results(root)
        write_notebook_pages(names, results / "notebooks", source)
        metrics = {stage: read_json(results / stage / "metrics.json") for stage in measured
                   if (results / stage / "metrics.json").is_file()}
        claims = judge_claims(load_claims(root), metrics)
        write_result_pages(preset, results, names, metrics, claims, source, sticker_catalogue(root))
        run_sphinx(preset, source, Path(folder))
        with atomic_path(results / "site") as site:
            shutil.copytree(Path(folder, "site"), site)
    with atomic_path(results / "index.html") as temporary:
        temporary.write_text(REDIRECT.format(preset=html.escape(preset)))
    return results / "index.html"


def declared_results(root: Path) -> tuple[list[str], list[str]]:
    """Names of the executed notebooks, and folders that have a metrics.json, in the order of the report's deps.

    dvc.yaml lists them, since a folder may still hold what a matrix made that was larger once.
    """
    deps = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]["report"]["deps"]
    paths = [PurePosixPath(dep.removeprefix(RESULTS)) for dep in deps if dep.startswith(RESULTS)]
    return ([path.stem for path in paths if path.suffix == ".ipynb"],
            [path.parent.as_posix() for path in paths if path.name == "metrics.json"])


# --- pages ---------------------------------------------------------------------------------------------------------

def write_notebook_pages(names: list[str], executed: Path, source: Path) -> None:
    """The executed notebooks as pages; raises FileNotFoundError naming one that has not run.

    A notebook that ran for several items of a matrix has a page for each: 10_variant-ours, 10_variant-concat. A link to
    the notebook itself leads to the first of them.
    """
    first = {name.partition("-")[0]: name for name in reversed(names)}
    for name in names:
        path = executed / f"{name}.ipynb"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there; run its stage first (`dvc repro`)")
        page = as_page(nbformat.read(path, as_version=4), name.partition("-")[2])
        for cell in page.cells:
            if cell.cell_type == "markdown":
                cell.source = LINK.sub(lambda found: f"]({first.get(found[1], found[1])}.ipynb)", cell.source)
        nbformat.write(page, source / path.name)


def as_page(notebook: nbformat.NotebookNode, item: str = "") -> nbformat.NotebookNode:
    """An executed notebook as readers want it: the parameters that were used, alternative texts where MyST looks.

    item  what tells this run from others of the same notebook; it goes into the title
    """
    if item:
        title, newline, rest = notebook.cells[0].source.partition("\n")
        notebook.cells[0].source = f"{title}: {item}{newline}{rest}"
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    if any("injected-parameters" in tag for tag in tags):
        notebook.cells = [cell for cell, tag in zip(notebook.cells, tags, strict=True) if "parameters" not in tag]
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if image := output.get("metadata", {}).get("image/png"):
                image = {key: f"{value}px" if key == "width" else value for key, value in image.items()}
                cell.metadata["mystnb"] = {"image": image}
    return notebook


def write_result_pages(preset: str, results: Path, names: list[str], metrics: dict[str, dict], claims: pd.DataFrame,
                       source: Path, catalogue: Catalogue) -> None:
    """index.md (first rows, claims, metrics), gaps.md (claims that fail), pictures.md (all rows), and their pictures."""
    samples = read_json(results / "generation" / "samples.json")
    shutil.copytree(results / "generation" / "pictures", source / "_static" / "generated")
    (source / "_static" / "neighbours").mkdir()
    for id in {n["id"] for sample in samples for n in sample["neighbours"][:SHOWN_NEIGHBOURS]}:
        catalogue.picture(id, THUMBNAIL_PX).save(source / "_static" / "neighbours" / file_name(id), optimize=True)
    counts = claims.verdict.value_counts().reindex(VERDICTS).dropna().astype(int)
    listed = "\n".join(names)
    (source / "index.md").write_text(FIRST_PAGE.format(
        badge=badge(preset), meaning=MEANING.get(preset, "see params.yaml"), rows=grid_table(samples[:FIRST_ROWS]),
        claims=claims_table(claims[claims.stage != ""], preset, names), metrics=metrics_table(metrics, preset),
        counts=", ".join(f"{count} {verdict}" for verdict, count in counts.items()), names=listed, num=len(samples)))
    gaps = claims[claims.verdict != "holds"].sort_values("verdict", key=lambda s: s.map(VERDICTS.index), kind="stable")
    (source / "gaps.md").write_text(GAPS_PAGE.format(badge=badge(preset), claims=claims_table(gaps, preset, names)))
    claims.to_csv(source / "_static" / "claims.csv", index=False)
    (source / "pictures.md").write_text(PICTURES_PAGE.format(badge=badge(preset), rows=grid_table(samples)))


FIRST_PAGE = """# KNN-Diffusion, run for you

KNN-Diffusion (Sheynin et al., 2022) draws pictures from text with a model that has never seen text. It is trained on
pictures alone: each is described by its embedding in a joint space of texts and pictures, and by its nearest
neighbours there. Given a text, its embedding takes the picture's place, and its nearest pictures take the neighbours'.

This is a reference implementation, trained on open sticker sets that come with it, and these are its results
at preset {badge}: {meaning}. Every number and picture below was made by the notebooks that follow.

## From a prompt to a picture

The prompts are names of things that nothing which draws was trained on. Left to right: the prompt, its nearest
pictures in the database, the picture drawn from them. All {num} prompts are on [their own page](pictures.md).

{rows}

## What the paper claims, and what is found here

Each claim of the paper that can be asked here, its number, and ours with a 95% interval. It *holds* where the whole
interval lies where the brackets say, and *does not hold* where it lies on the other side; else it *can't be told*. No
number of ours compares with one of the paper's; signs and orders do. All claims: {counts}.
[What we could not reproduce](gaps.md) has the rest, and why.

{claims}

<p><a href="_static/claims.csv" download>All claims as CSV</a></p>

## Figures so far

In brackets: 95% intervals over prompts. The judge is a network that never takes part in drawing; its own page and that
of the evaluation say what these figures mean, and what they don't.

{metrics}

```{{toctree}}
:hidden:
gaps
pictures
{names}
```
"""

PICTURES_PAGE = """# All prompts

{badge} Each row: a prompt, its nearest pictures in the database, and the picture drawn from them. Under
"made from" stand all neighbours with their authors and licences.

{rows}
"""

GAPS_PAGE = """# What we could not reproduce

{badge} The paper's claims that do not hold here, that can't be told from so few pictures, that no stage of this preset
has measured, and those that can't be asked here at all: the same rows as on the [first page](index.md), and the rest.

{claims}
"""


def claims_table(claims: pd.DataFrame, preset: str, names: list[str]) -> str:
    """Rows of `judge_claims` as a Markdown table; our numbers with the badge, and a link to the notebook."""
    pages = {name.partition("_")[2]: name for name in names}
    lines = ["| claim | in the paper | here | verdict |", "| --- | --- | --- | --- |"]
    for row in claims.map(html.escape).itertuples():
        what = f"[{row.what}]({pages[row.stage]}.ipynb)" if row.stage in pages else row.what
        limit = "" if row.holds_if == "as said" else f" ({row.holds_if})"
        here = f"{what}: {row.ours}{limit} {badge(preset)}" if row.ours else row.why
        lines.append(f"| {row.claim} | {row.place}: {row.paper} | {here} | **{row.verdict}** |")
    return "\n".join(lines)


def badge(preset: str) -> str:
    """The preset's name as a mark that goes with every number."""
    return f'<span class="kd-badge">preset {html.escape(preset)}</span>'


def file_name(id: str) -> str:
    """A file name for a sticker's id: "noto:red-apple" -> "noto-red-apple.png"."""
    return id.replace(":", "-").replace("/", "-") + ".png"


def image_tag(path: str, alt: str) -> str:
    return f'<img src="_static/{html.escape(path)}" alt="{html.escape(alt)}" title="{html.escape(alt)}" ' \
           f'width="{THUMBNAIL_PX}" height="{THUMBNAIL_PX}" loading="lazy">'


def grid_table(samples: list[dict]) -> str:
    """Rows prompt, neighbours, picture as an HTML table (one line, as Markdown wants it)."""
    rows = []
    for sample in samples:
        near = "".join(image_tag(f"neighbours/{file_name(n['id'])}", f"{n['title']} ({n['style']}, {n['author']}, "
                       f"{n['licence']}), cosine {n['score']:.2f}") for n in sample["neighbours"][:SHOWN_NEIGHBOURS])
        made = image_tag(f"generated/{sample['picture']}", f"drawn for the prompt “{sample['prompt']}”")
        sources = "".join(f"<li>{html.escape(n['title'])}, {html.escape(n['style'])}, {html.escape(n['author'])}, "
                          f"{html.escape(n['licence'])} ({n['score']:.2f})</li>" for n in sample["neighbours"])
        rows.append(f"<tr><td>{html.escape(sample['prompt'])}<details><summary>made from</summary><ol>{sources}</ol>"
                    f'</details></td><td>{near}</td><td class="kd-made">{made}</td></tr>')
    head = "<tr><th>prompt</th><th>nearest pictures</th><th>drawn</th></tr>"
    return f'<table class="kd-grid">{head}{"".join(rows)}</table>'


def metrics_table(metrics: dict[str, dict], preset: str) -> str:
    """stage -> its metrics.json as a Markdown table, each number with the preset's badge."""
    lines = [f"| {stage} | {name} | {show(value)} | {badge(preset)} |"
             for stage, values in metrics.items() for name, value in flatten(values).items()]
    return "\n".join(["| stage | figure | value | |", "| --- | --- | --- | --- |", *lines])


# --- Sphinx --------------------------------------------------------------------------------------------------------

def run_sphinx(preset: str, source: Path, folder: Path) -> None:
    """Builds `source` into folder/site, and removes from it what no page needs."""
    from sphinx.application import Sphinx

    settings = {
        "project": "KNN-Diffusion", "author": "", "copyright": "", "html_title": f"KNN-Diffusion · {preset}",
        "extensions": ["myst_nb", mathml.__name__], "html_theme": "sphinx_book_theme",
        "html_math_renderer": "mathml", "html_static_path": [str(source / "_static")], "html_css_files": ["kd.css"],
        "nb_execution_mode": "off", "nb_ipywidgets_js": {}, "myst_enable_extensions": ["dollarmath", "amsmath"],
        "html_copy_source": False, "html_show_sourcelink": False, "html_show_sphinx": False, "html_use_index": False,
        "html_theme_options": {"use_download_button": False, "use_fullscreen_button": False,
                               "announcement": f"Preset {preset}: {MEANING.get(preset, 'see params.yaml')}."}}
    warnings = io.StringIO()
    Sphinx(source, None, folder / "site", folder / "doctrees", "html", settings, status=None, warning=warnings).build()
    if warnings.getvalue():
        raise RuntimeError(f"Sphinx warned while it built the report:\n{warnings.getvalue()}")
    for pattern in NOT_NEEDED:
        for path in list((folder / "site").glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


