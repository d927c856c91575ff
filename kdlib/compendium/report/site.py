"""The report of a preset: executed notebooks, an explorer and a first page as a site that opens from disk.

The same results make the same bytes.
"""

from __future__ import annotations

import html
import io
import re
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import nbformat
import pandas as pd

from kdlib.compendium.declared import Stage, read_stages
from kdlib.compendium.report import mathml
from kdlib.compendium.report.claims import judge_claims, load_claims
from kdlib.compendium.report.explorer import write_explorer
from kdlib.compendium.report.findings import finding_list, load_findings
from kdlib.compendium.report.overview import claims_table, meaning, write_overview
from kdlib.compendium.report.paper import load_paper, write_paper
from kdlib.compendium.report.provenance import badge, footer, locked_runs, used_parameters, with_footers
from kdlib.compendium.report.tables import readable_tables
from kdlib.data.catalogue import sticker_catalogue
from kdlib.files import atomic_file, atomic_folder, read_json
from kdlib.params import find_root, load_params, load_preset

LINK = re.compile(r"\[([^][]*)\]\(([\w-]+)\.ipynb\)")
DOCS = ("researchers", "commands", "scale", "published")  # pages of docs/ that the report includes
ASSETS = Path(__file__).parent / "assets"
NOT_NEEDED = ("**/*.map", "_static/locales", "_static/**/fa-brands*", "_static/images", ".buildinfo*", "objects.inv",
              "_static/*.html", "_sources")
TOCTREE = """```{{toctree}}
:hidden:
:caption: {caption}
{names}
```"""
REDIRECT = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>KNN-Diffusion, preset {preset}</title>
<meta http-equiv="refresh" content="0; url=site/index.html"></head>
<body><p><a href="site/index.html">The report of preset {preset}</a></p></body>
</html>
"""


def build_report(preset: str, root: str | Path | None = None) -> Path:
    """Writes reports/<preset>/site and reports/<preset>/index.html, which leads there; returns the latter's path.

    Reads the executed notebooks, generation/samples.json, reports/claims.yaml, paper.yaml and findings.yaml, DOCS, and
    what is there of the stages' metrics.json and sheets of pictures; dvc.lock says what a stage read and wrote. Raises
    FileNotFoundError when one of the first six is missing, or a CSV that dvc.lock names; RuntimeError when Sphinx
    warns (a broken link, a formula it can't read).
    """
    root = Path(root or find_root())
    load_preset(preset, root)
    results = root / "reports" / preset
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        shutil.copytree(ASSETS, source / "_static")
        (source / "_static" / "tables").mkdir()
        write_pages(preset, root, source)
        run_sphinx(preset, source, Path(folder))
        with atomic_folder(results / "site") as site:
            shutil.copytree(Path(folder, "site"), site, dirs_exist_ok=True)
    with atomic_file(results / "index.html") as temporary:
        temporary.write_text(REDIRECT.format(preset=html.escape(preset)), encoding="utf-8")
    return results / "index.html"


class Run(NamedTuple):
    """A stage's run for one item of its matrix.

    page    the name of its executed notebook, and of the page that it becomes
    folder  where its results lie under reports/<preset>
    """

    page: str
    folder: str
    stage: Stage


def declared_runs(preset: str, root: Path) -> list[Run]:
    """What there is to report of a preset, in the order of the notebooks.

    They are listed there, since a folder may still hold what a matrix made that was larger once.
    """
    params = load_params(root)
    stages = [stage for stage in read_stages(root).values() if stage.stage in params[preset]]
    return [Run(stage.executed(item), stage.folder(item), stage) for stage in stages for item in stage.items(params)]


# --- pages ---------------------------------------------------------------------------------------------------------

def write_pages(preset: str, root: Path, source: Path) -> None:
    """All pages, tables and pictures that Sphinx makes the site of."""
    results = root / "reports" / preset
    runs = declared_runs(preset, root)
    metrics = {run.folder: read_json(results / run.folder / "metrics.json") for run in runs
               if "metrics.json" in run.stage.writes and (results / run.folder / "metrics.json").is_file()}
    claims, paper = judge_claims(load_claims(root), metrics), load_paper(root)
    write_notebook_pages(preset, root, runs, claims, source)
    pages = {run.folder: run.page for run in runs}
    drawn = {run.folder: run.page for run in runs if "pictures.json" in run.stage.writes}
    write_explorer(preset, root, drawn, source, sticker_catalogue(root))
    findings = finding_list(load_findings(root), metrics, first_pages(runs))
    write_overview(preset, results, pages, metrics, claims, paper, findings, toctrees(runs), source)
    write_paper(preset, results, paper, claims, metrics, first_pages(runs), source)
    for name in DOCS:
        shutil.copyfile(root / "docs" / f"{name}.md", source / f"{name}.md")


def toctrees(runs: list[Run]) -> str:
    """The sidebar: the report's own pages, then the notebooks of each part."""
    groups = {"Report": ["explorer", "paper", "gaps", "figures", *DOCS]}
    for run in runs:
        groups.setdefault(run.stage.part, []).append(run.page)
    return "\n\n".join(TOCTREE.format(caption=caption, names="\n".join(group)) for caption, group in groups.items())


def first_pages(runs: list[Run]) -> dict[str, str]:
    """Each notebook, and the first of the pages that it became."""
    return {run.stage.notebook: run.page for run in reversed(runs)}


def write_notebook_pages(preset: str, root: Path, runs: list[Run], claims: pd.DataFrame, source: Path) -> None:
    """The executed notebooks as pages, and the CSVs of their stages; raises FileNotFoundError naming what is missing.

    A notebook that ran for several items of a matrix has a page for each: 10_variant-ours, 10_variant-concat. A link to
    the notebook itself leads to the first of them; one to a notebook that this preset doesn't run is text.
    """
    first = first_pages(runs)
    pages = first | {run.page: run.page for run in runs}
    locked = locked_runs(preset, root)
    for name, folder, stage in runs:
        path = root / "reports" / preset / "notebooks" / f"{name}.ipynb"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there; run its stage first (`dvc repro`)")
        notebook = nbformat.read(path, as_version=4)
        under = footer(preset, used_parameters(notebook), locked.get(name))
        answered = claims[claims.stage == folder]
        lead = f"{badge(preset)}\n\n" + (f"{claims_table(answered, preset, {})}\n\n" if len(answered) else "")
        page = as_page(notebook, lead, under, name.removeprefix(stage.notebook).removeprefix("-"))
        for cell in page.cells:
            if cell.cell_type == "markdown":
                cell.source = with_links(cell.source, pages)
        nbformat.write(page, source / path.name)
        for table in locked[name].tables if name in locked else []:
            copy_table(root / table, source / "_static" / "tables" / table.removeprefix(f"reports/{preset}/"))


def with_links(text: str, pages: dict[str, str]) -> str:
    """A notebook's text with its links to others as links to their pages: `pages`, notebook -> page."""
    return LINK.sub(lambda found: f"[{found[1]}]({pages[found[2]]}.ipynb)" if found[2] in pages
                    else f"{found[1]} (not run at this preset)", text)


def as_page(notebook: nbformat.NotebookNode, lead: str, under: str, item: str = "") -> nbformat.NotebookNode:
    """An executed notebook as readers want it: the parameters that were used, tables in words, where figures come from.

    lead   Markdown that goes between the title and the rest
    under  the footer of every figure, HTML
    item   what tells this run from others of the same notebook; it goes into the title
    """
    title, _, rest = notebook.cells[0].source.partition("\n")
    notebook.cells[0].source = f"{title}{f': {item}' if item else ''}\n\n{lead}{rest.lstrip()}"
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    injected = any("injected-parameters" in tag for tag in tags)
    kept = [cell for cell, tag in zip(notebook.cells, tags, strict=True) if not (injected and "parameters" in tag)]
    for output in (output for cell in kept for output in cell.get("outputs", [])):
        if "text/html" in output.get("data", {}):
            output.data["text/html"] = readable_tables(output.data["text/html"])
    notebook.cells = [piece for cell in kept
                      for piece in (with_footers(cell, under) if cell.cell_type == "code" else [cell])]
    return notebook


def copy_table(table: Path, target: Path) -> None:
    """A stage's CSV for the site; raises FileNotFoundError where it is missing."""
    if not table.is_file():
        raise FileNotFoundError(f"{table} is not there, though its stage ran; fetch it (`dvc pull --with-deps`)")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(table, target)


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
        "html_show_search_summary": False,  # it would fetch the pages, which a browser forbids from disk
        "html_context": {"default_mode": "auto"},  # light or dark as the browser likes it
        "html_theme_options": {"use_download_button": False, "use_fullscreen_button": False, "navbar_persistent": [],
                               "announcement": f"Preset {preset}: {meaning(preset)}."}}
    warnings = io.StringIO()
    Sphinx(source, None, folder / "site", folder / "doctrees", "html", settings, status=None, warning=warnings).build()
    if warnings.getvalue():
        raise RuntimeError(f"Sphinx warned while it built the report:\n{warnings.getvalue()}")
    for pattern in NOT_NEEDED:
        for path in list((folder / "site").glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
