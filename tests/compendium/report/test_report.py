"""The report: opens offline, says the same at every build, names its sources."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from kdlib.compendium import figures
from kdlib.compendium.figures import heatmaps, interval_lines, intervals
from kdlib.compendium.report import site
from kdlib.compendium.report.explorer import cut_sheet
from kdlib.compendium.report.overview import metrics_frame, metrics_table
from kdlib.compendium.report.provenance import footer, inputs_hash, used_parameters
from kdlib.compendium.report.site import as_page, build_report
from tests.compendium.report.toy_report import LOCKED_DEPS, PAGES, PROMPTS, toy_results, toy_sheet


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return total.hexdigest()


def test_two_builds_are_equal_whatever_the_hash_seed(built):
    first = digest(built.parent / "site")
    root = built.parents[2]
    subprocess.run([sys.executable, "-m", "kdlib.compendium.report", "toy"], cwd=root, check=True,
                   stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"})
    assert digest(built.parent / "site") == first


def test_nothing_is_fetched_from_a_network(built):
    site = built.parent / "site"
    for page in site.glob("*.html"):
        text = page.read_text()
        assert not re.findall(r"""<(?:script|img|link|iframe)\b[^>]*(?:src|href)=["'](?:https?:)?//[^"']*""", text)
        local = re.findall(r"""(?:src|href)=["']([^"'#?:]+)["'#?]""", text)
        assert not [name for name in local if not (page.parent / name).exists()], page
        assert not re.search(r"\bat 0x[0-9a-f]{6}|\d{4}-\d\d-\d\d \d\d:\d\d", text)
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.findall(r"""(?:url\(|@import)\s*["']?(?:https?:)?//""", styles)


def test_the_site_is_light_and_the_front_page_leads_there(built):
    assert 'href="site/index.html"' in built.read_text()
    assert sum(path.stat().st_size for path in built.parent.rglob("site/**/*") if path.is_file()) < 3e6


def test_pages_say_what_is_to_be_seen_and_whose_it_is(built):
    first, figures = ((built.parent / "site" / name).read_text() for name in ("index.html", "figures.html"))
    assert "preset toy" in first and "an &lt;apple&gt;" in first and "Goo &amp; Co" in first and "Apache-2.0" in first
    assert "0.6123" in first and "12,345" in figures
    for page in (built.parent / "site").glob("*.html"):
        assert all(re.search(r'alt="[^"]+"', tag) for tag in re.findall(r"<img\b[^>]*>", page.read_text())), page
    tour = (built.parent / "site" / "00_tour.html").read_text()
    assert "three green squares" in tour and tour.count("<math") == 2


def test_a_notebook_has_a_page_for_each_declared_item_of_its_matrix(built):
    site = built.parent / "site"
    assert {path.stem for path in site.glob("*_*.html")} == set(PAGES)
    assert "<title>The tour: green" in (site / "10_variant-green.html").read_text()
    assert 'href="10_variant-blue.html">' in (site / "00_tour.html").read_text().split("<math")[-1]
    figures = (site / "figures.html").read_text()
    metrics = re.findall(r"<summary>(.*?)</summary>", figures.partition("In brackets")[2])
    assert metrics == ["index", "variant/blue"], "an older folder is not declared"


def test_links_to_what_a_preset_does_not_run_are_text(built):
    """Sphinx warns of links that lead nowhere, which fails a build; there are two in the toy results."""
    site = built.parent / "site"
    tour, paper = (site / f"{name}.html" for name in ("00_tour", "paper"))
    assert "and more (not run at this preset)" in tour.read_text() and "11_larger" not in tour.read_text()
    assert "11_larger (not run at this preset)" in paper.read_text() and not (site / "11_larger.html").exists()
    assert 'href="10_variant-green.html">of green' in re.sub(r"<span[^>]*>|class=\S+ internal\" ", "", tour.read_text())


def test_pages_show_the_parameters_that_were_used():
    cells = [new_markdown_cell("# T"), new_code_cell("seed: int = 0", metadata={"tags": ["parameters"]})]
    assert len(as_page(new_notebook(cells=list(cells)), "", "").cells) == 2
    cells.append(new_code_cell("seed = 3\nwhere = 'x'", metadata={"tags": ["injected-parameters"]}))
    page = as_page(new_notebook(cells=cells), "", "")
    assert [cell.source for cell in page.cells[1:]] == ["seed = 3\nwhere = 'x'"]
    assert used_parameters(page) == {"seed": 3, "where": "x"}


def test_claims_stand_on_the_first_page_and_what_fails_on_its_own(built):
    site = built.parent / "site"
    first, gaps = ((site / name).read_text() for name in ("index.html", "gaps.html"))
    assert "The first 2 prompts in their order, none picked, seed 3" in first
    assert "All claims: 1 holds, 1 not run, 1 can’t be asked" in first and "It &lt;finds&gt; most" in first
    rows = gaps.partition('<section id="claims">')[2].partition("</table>")[0]
    assert rows and 'href="10_variant-blue.html"' not in rows and "It &lt;finds&gt; most" not in gaps
    assert "there is no recall.at_10 in variant/older/metrics.json" in gaps, "an undeclared folder counts for nothing"
    assert "nobody was asked" in gaps and "nobody was asked" not in first
    table = pd.read_csv(site / "_static" / "tables" / "claims.csv", keep_default_na=False)
    assert table.verdict.tolist() == ["holds", "not run", "can't be asked"] and table.ours[0] == "0.6123"


def test_a_stage_that_has_not_run_leaves_its_claims_open(tmp_path, monkeypatch):
    toy_results(tmp_path)
    (tmp_path / "reports" / "toy" / "variant" / "blue" / "metrics.json").unlink()
    monkeypatch.setattr(site, "run_sphinx", lambda preset, source, folder: shutil.copytree(source, folder / "site"))
    built = build_report("toy", tmp_path).parent / "site"
    verdicts = pd.read_csv(built / "_static" / "tables" / "claims.csv").verdict.tolist()
    assert verdicts == ["not run", "not run", "can't be asked"]


def test_formulas_that_cannot_be_drawn_fail_the_build(tmp_path):
    toy_results(tmp_path)
    for path in tmp_path.rglob("00_tour.ipynb"):
        path.write_text(path.read_text().replace("lambda = 8", "unheardof"))
    with pytest.raises(RuntimeError, match="can't read this formula: .unheardof"):
        build_report("toy", tmp_path)


def test_a_missing_result_is_named(tmp_path):
    toy_results(tmp_path)
    (tmp_path / "reports" / "toy" / "notebooks" / "00_tour.ipynb").unlink()
    with pytest.raises(FileNotFoundError, match="00_tour.ipynb is not there"):
        build_report("toy", tmp_path)


def test_metrics_carry_the_preset():
    values = {"a": {"b": 0.123456}, "c": 7, "d": {"value": 0.5, "low": 0.25, "high": 0.75}}
    assert metrics_table(values, "toy").splitlines()[2:] == [
        '| a.b | 0.1235 | <span class="kd-badge">preset toy</span> |',
        '| c | 7 | <span class="kd-badge">preset toy</span> |',
        '| d | 0.5 [0.25, 0.75] | <span class="kd-badge">preset toy</span> |']
    table = metrics_frame({"index": values, "judge": {}})
    assert table.stage.tolist() == ["index"] * 3 and table.value.tolist() == [0.123456, 7, 0.5]
    assert table.low.tolist()[2] == 0.25 and table.high.isna().tolist() == [True, True, False]


def test_experiments_begin_with_their_claims(built):
    blue, green = ((built.parent / "site" / f"10_variant-{name}.html").read_text() for name in ("blue", "green"))
    head = blue.partition("</h1>")[2].partition("injected")[0].partition("<math")[0]
    assert "It &lt;finds&gt; most" in head and "<strong>holds</strong>" in head and "preset toy" in head
    assert "It &lt;finds&gt;" not in green and "preset toy" in green.partition("</h1>")[2].partition("<math")[0]
    captions = re.findall(r'class="caption-text">(.*?)</span>', blue)
    assert captions == ["Report", "The road", "Experiments"]


# --- provenance ----------------------------------------------------------------------------------------------------

def footers(page: Path) -> list[str]:
    return re.findall(r'<div class="kd-footer">.*?</div>', page.read_text(), re.S)


def test_every_figure_says_where_it_comes_from(built):
    site = built.parent / "site"
    page = site / "10_variant-blue.html"
    wanted = hashlib.sha256(f"data/prompts.csv {'3' * 32}\ndata/stickers.parquet {'2' * 32}".encode()).hexdigest()
    assert len(footers(page)) == 3, "two pictures and a table"
    for text in footers(page):
        assert "stage variant@toy-blue" in text and "seed 3" in text and f"inputs {wanted[:10]}" in text
        assert "preset toy" in text and "seed = 3" in text
    table = site / re.search(r'href="([^"]*verdicts.csv)"', footers(page)[0])[1]
    assert table.read_bytes() == (built.parent / "variant" / "blue" / "verdicts.csv").read_bytes()
    alts = [alt for alt in re.findall(r'<img[^>]*alt="([^"]*)"', page.read_text()) if "square" in alt]
    assert alts == ["three green squares", "a blue square"]


def test_a_figure_that_dvc_has_no_record_of_says_so_and_claims_no_table(built):
    for name in ("00_tour", "10_variant-green"):  # run again since; not in dvc.lock
        texts = footers(built.parent / "site" / f"{name}.html")
        assert texts and all("not run by DVC" in text and ".csv" not in text and "seed 3" in text for text in texts)


def test_inputs_change_with_data_and_not_with_code_or_order():
    changed = [dict(dep) for dep in LOCKED_DEPS]
    changed[0]["md5"] = "9" * 32
    assert inputs_hash(changed[::-1]) == inputs_hash(LOCKED_DEPS)
    changed[2]["md5"] = "9" * 32
    assert inputs_hash(changed) != inputs_hash(LOCKED_DEPS)


def test_footers_escape_what_they_show():
    assert "&lt;b&gt;" in footer("toy", {"where": "<b>"}, None) and "<b>" not in footer("toy", {"where": "<b>"}, None)


def test_a_missing_table_is_named(tmp_path):
    toy_results(tmp_path)
    (tmp_path / "reports" / "toy" / "variant" / "blue" / "verdicts.csv").unlink()
    with pytest.raises(FileNotFoundError, match="verdicts.csv is not there"):
        build_report("toy", tmp_path)


# --- explorer ------------------------------------------------------------------------------------------------------

def test_the_explorer_lists_all_without_a_script(built):
    text = (built.parent / "site" / "explorer.html").read_text()
    items = re.findall(r'<li class="kd-sample".*?</details></li>', text, re.S)
    assert len(items) == len(PROMPTS) and not [item for item in items if "hidden" in item.partition(">")[0]]
    assert '<form id="kd-filter" class="kd-filter" role="search" hidden>' in text
    assert items[0].count("Goo &amp; Co, Apache-2.0), cosine 0.50</li>") == 7, "all neighbours, with all of it"
    shown = [re.findall(r"<figcaption>(.*?)</figcaption>", item) for item in items]
    assert shown[0] == ["real", *["0.50"] * 5, "full model"], "a real apple, five of seven neighbours, one drawing"
    assert shown[1] == [*["0.25"] * 5, "full model", "blue"], "no sticker is a bird; the variant has drawn this prompt"
    assert "a real picture of “an &lt;apple&gt;”: red apple (noto, Goo &amp; Co, Apache-2.0)" in items[0]


def test_cells_of_a_sheet_go_to_their_prompts(tmp_path):
    toy_sheet(tmp_path, ["a", "b", "c", "d", "e"], size_px=7, columns=3)
    paths = cut_sheet(tmp_path, ["e", "b", "z"], tmp_path, "toy")
    colours = {prompt: Image.open(tmp_path / path).convert("RGB").getcolors() for prompt, path in paths.items()}
    assert colours == {"b": [(49, (0, 0, 255))], "e": [(49, (255, 255, 0))]}


def test_a_sheet_that_is_too_small_is_refused(tmp_path):
    toy_sheet(tmp_path, ["a", "b", "c"], size_px=7, columns=3)
    told = tmp_path / "pictures.json"
    told.write_text(told.read_text().replace('"c"', '"c", "d"'))
    with pytest.raises(ValueError, match="21 x 7 px, has no room for 4 cells"):
        cut_sheet(tmp_path, ["a"], tmp_path, "toy")


# --- figures -------------------------------------------------------------------------------------------------------

def test_figures_are_the_same_twice_and_have_a_text():
    table = pd.DataFrame({"step": [1, 2, 3], "loss": [3.0, 2.0, 1.5], "bound": [np.nan, 2.5, np.nan]})
    makers = [lambda: figures.curves(table, "step", ["loss", "bound"], alt="falls", log=True),
              lambda: figures.bars(pd.Series({"noto": 5, "twemoji": 7}), alt="two bars"),
              lambda: intervals({"a_b": {"x": (1.0, 0.5, 2.0), "y": (0.0, 0.0, 0.0)}}, ["x", "y"], alt="one"),
              lambda: interval_lines({name: {"1": {"x": (1.0, 0.5, 2.0)}} for name in "ab"}, ["x"], alt="two of one"),
              lambda: heatmaps({"x": table, "y": table.fillna(0)}, alt="two maps"),
              lambda: figures.histograms({"a": np.arange(5.0), "b": np.arange(11.0)}, alt="flat", xlabel="x")]
    for make in makers:
        first, second = make(), make()
        assert first.data == second.data and first.alt


def test_sheets_place_rows_and_columns():
    red, blue = Image.new("RGB", (3, 3), "red"), Image.new("RGB", (11, 11), "blue")
    page = figures.sheet([[red, blue], [blue]], size_px=16)
    assert page.size == (2 * 20, 2 * 20)
    assert [page.getpixel(at) for at in [(8, 8), (28, 8), (8, 28), (28, 28)]] == [
        (255, 0, 0), (0, 0, 255), (0, 0, 255), (255, 255, 255)]
    titled = figures.sheet([[red]], ["a title that is far too long for its place"], ["c"], size_px=16, title_px=50)
    assert titled.size == (50 + 20, 20 + 20)


def test_masked_codes_are_white():
    maps = figures.code_maps(np.array([[7, 0, 1, 7]]), num_codes=7)
    corners = [maps[0].getpixel(at) for at in [(1, 1), (60, 1), (1, 60), (60, 60)]]
    assert corners[0] == corners[3] == (255, 255, 255) and len(set(corners)) == 3
