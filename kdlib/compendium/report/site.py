"""The report of a preset: executed notebooks, an explorer and a first page as a site that opens from disk.

The same results make the same bytes.
"""

from __future__ import annotations

import html
import io
import re
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import nbformat
import pandas as pd
import yaml

from kdlib.compendium.report import mathml
from kdlib.compendium.report.claims import judge_claims, load_claims
from kdlib.compendium.report.explorer import write_explorer
from kdlib.compendium.report.overview import claims_table, meaning, write_overview
from kdlib.compendium.report.provenance import badge, footer, locked_runs, used_parameters, with_footers
from kdlib.data.catalogue import sticker_catalogue
from kdlib.files import atomic_file, atomic_folder, read_json
from kdlib.params import find_root, load_params, load_preset

RESULTS = "reports/${item.preset}/"
LINK = re.compile(r"\]\((\w+)\.ipynb\)")
FIRST_EXPERIMENT = "09"
DOCS = ("researchers", "scale")  # pages of docs/ that the report includes
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


class Declared(NamedTuple):
    """What the report's deps in dvc.yaml name: executed notebooks, and folders with a metrics.json, a pictures.json."""

    notebooks: list[str]
    measured: list[str]
    drawn: list[str]


def build_report(preset: str, root: str | Path | None = None) -> Path:
    """Writes reports/<preset>/site and reports/<preset>/index.html, which leads there; returns the latter's path.

    Reads the executed notebooks, generation/samples.json, reports/claims.yaml, DOCS, and what is there of the stages'
    metrics.json and sheets of pictures; dvc.lock says what a stage read and wrote. Raises FileNotFoundError when one
    of the first four is missing, or a CSV that dvc.lock names; RuntimeError when Sphinx warns (a broken link, a formula
    it can't read).
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
        temporary.write_text(REDIRECT.format(preset=html.escape(preset)))
    return results / "index.html"


def declared_results(root: Path) -> Declared:
    """Names in the order of the report's deps, those of the ablations in params.yaml among them by their number.

    They are listed there, since a folder may still hold what a matrix made that was larger once.
    """
    deps = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]["report"]["deps"]
    paths = [PurePosixPath(dep.removeprefix(RESULTS)) for dep in deps if dep.startswith(RESULTS)]
    ablations = list(load_params(root).get("ablations", {}))
    folders = [f"ablation/{name}" for name in ablations]
    names = [path.stem for path in paths if path.suffix == ".ipynb"] + [f"20_ablation-{name}" for name in ablations]
    return Declared(sorted(names, key=lambda name: name.partition("_")[0]),
                    [path.parent.as_posix() for path in paths if path.name == "metrics.json"] + folders,
                    [path.parent.as_posix() for path in paths if path.name == "pictures.json"] + folders)


# --- pages ---------------------------------------------------------------------------------------------------------

def write_pages(preset: str, root: Path, source: Path) -> None:
    """All pages, tables and pictures that Sphinx makes the site of."""
    results = root / "reports" / preset
    declared = declared_results(root)
    metrics = {stage: read_json(results / stage / "metrics.json") for stage in declared.measured
               if (results / stage / "metrics.json").is_file()}
    claims = judge_claims(load_claims(root), metrics)
    pages = {folder_of(name): name for name in declared.notebooks}
    write_notebook_pages(preset, root, declared.notebooks, claims, source)
    write_explorer(preset, results, {folder: pages.get(folder, "") for folder in declared.drawn}, source,
                   sticker_catalogue(root))
    write_overview(preset, results, pages, metrics, claims, toctrees(declared.notebooks), source)
    for name in DOCS:
        shutil.copyfile(root / "docs" / f"{name}.md", source / f"{name}.md")


def folder_of(name: str) -> str:
    """The folder of the stage that made an executed notebook: 10_variant-ours -> variant/ours."""
    return name.partition("_")[2].replace("-", "/")


def toctrees(names: list[str]) -> str:
    """The sidebar: the report's own pages, the notebooks of the road, those of the experiments."""
    groups = {"Report": ["explorer", "gaps", *DOCS],
              "The road": [name for name in names if name < FIRST_EXPERIMENT],
              "Experiments": [name for name in names if name >= FIRST_EXPERIMENT]}
    return "\n\n".join(TOCTREE.format(caption=caption, names="\n".join(group))
                       for caption, group in groups.items() if group)


def write_notebook_pages(preset: str, root: Path, names: list[str], claims: pd.DataFrame, source: Path) -> None:
    """The executed notebooks as pages, and the CSVs of their stages; raises FileNotFoundError naming what is missing.

    A notebook that ran for several items of a matrix has a page for each: 10_variant-ours, 10_variant-concat. A link to
    the notebook itself leads to the first of them.
    """
    first = {name.partition("-")[0]: name for name in reversed(names)}
    runs = locked_runs(preset, root)
    for name in names:
        path = root / "reports" / preset / "notebooks" / f"{name}.ipynb"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there; run its stage first (`dvc repro`)")
        notebook = nbformat.read(path, as_version=4)
        under = footer(preset, used_parameters(notebook), runs.get(name))
        answered = claims[claims.stage == folder_of(name)]
        lead = f"{badge(preset)}\n\n" + (f"{claims_table(answered, preset, {})}\n\n" if len(answered) else "")
        page = as_page(notebook, lead, under, name.partition("-")[2])
        for cell in page.cells:
            if cell.cell_type == "markdown":
                cell.source = LINK.sub(lambda found: f"]({first.get(found[1], found[1])}.ipynb)", cell.source)
        nbformat.write(page, source / path.name)
        for table in runs[name].tables if name in runs else []:
            copy_table(root / table, source / "_static" / "tables" / table.removeprefix(f"reports/{preset}/"))


def as_page(notebook: nbformat.NotebookNode, lead: str, under: str, item: str = "") -> nbformat.NotebookNode:
    """An executed notebook as readers want it: the parameters that were used, and where every figure comes from.

    lead   Markdown that goes between the title and the rest
    under  the footer of every figure, HTML
    item   what tells this run from others of the same notebook; it goes into the title
    """
    title, _, rest = notebook.cells[0].source.partition("\n")
    notebook.cells[0].source = f"{title}{f': {item}' if item else ''}\n\n{lead}{rest.lstrip()}"
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    injected = any("injected-parameters" in tag for tag in tags)
    kept = [cell for cell, tag in zip(notebook.cells, tags, strict=True) if not (injected and "parameters" in tag)]
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
