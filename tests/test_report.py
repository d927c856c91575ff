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
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from kdlib.io import write_json
from kdlib.notebook import normalise, write_notebook
from kdlib.report import figures, site
from kdlib.report.intervals import heatmaps, interval_lines, intervals
from kdlib.report.site import as_page, build_report, metrics_table

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="5" fill="red"/></svg>'
FORMULA = r"""
$$ \mathrm{knn}(I, k) := \underset{h \in \mathcal{H}}{\mathrm{arg\,min}^k}\ \mathbf{s}(f_{img}(I), h) $$

with $\lambda = 8$; [more](01_variant.ipynb)"""
PAGES = ["00_tour", "01_variant-blue", "01_variant-green"]
RESULTS = [*(f"notebooks/{page}.ipynb" for page in PAGES), "index/metrics.json", "variant/blue/metrics.json"]
DEPS = ["kdlib/io.py", *(f"reports/${{item.preset}}/{name}" for name in RESULTS)]

CLAIMS = [{"claim": "It <finds> most", "place": "Fig. 3", "paper": "a curve", "ours": {
               "stage": "variant/blue", "key": "recall.at_10", "what": "recall", "holds": "above 0.5"}},
          {"claim": "Ten are best", "place": "Fig. 5", "paper": "of five", "ours": {
              "stage": "variant/older", "key": "recall.at_10", "what": "recall", "holds": "below 1"}},
          {"claim": "People like it", "place": "Table 1", "paper": "72%", "cannot": "nobody was asked"}]


def toy_results(root: Path) -> None:
    (root / "params.yaml").write_text("toy: {seed: 3}\n")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"report": {"deps": DEPS}}}))
    results = root / "reports" / "toy"
    for folder in ("data", "notebooks", "reports/toy/notebooks", "reports/toy/generation/pictures"):
        (root / folder).mkdir(parents=True)
    pd.DataFrame({"id": ["noto:red-apple"], "title": ["red apple"], "style": ["noto"], "author": ["Goo & Co"],
                  "licence": ["Apache-2.0"], "svg": [SVG]}).to_parquet(root / "data" / "stickers.parquet")
    picture = figures.grid([Image.new("RGB", (5, 7), "green")] * 3, alt="three green squares")
    data, metadata = picture._repr_mimebundle_()
    output = new_output("display_data", data=data, metadata=metadata)
    cells = [new_markdown_cell(f"# The tour\n\n{FORMULA}"),
             new_code_cell("seed: int = 0", metadata={"tags": ["parameters"]}),
             new_code_cell("seed = 3", metadata={"tags": ["injected-parameters"]}),
             new_code_cell("grid()", outputs=[output], execution_count=1)]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    for name in [*PAGES, "01_variant-of-an-older-matrix"]:
        write_notebook(normalise(new_notebook(cells=cells)), results / "notebooks" / f"{name}.ipynb")
    Image.new("RGB", (32, 32), "red").save(results / "generation" / "pictures" / "000.png")
    neighbour = {"id": "noto:red-apple", "title": "red apple", "style": "noto", "author": "Goo & Co",
                 "licence": "Apache-2.0", "score": 0.5}
    write_json(results / "generation" / "samples.json",
               [{"prompt": "an <apple>", "picture": "000.png", "neighbours": [neighbour]}])
    (root / "reports" / "claims.yaml").write_text(yaml.safe_dump(CLAIMS))
    for stage in ("index", "variant/blue", "variant/older"):
        write_json(results / stage / "metrics.json", {"recall": {"at_10": 0.61234}, "num_pictures": 12345})


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return total.hexdigest()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("compendium")
    toy_results(root)
    return build_report("toy", root)


def test_two_builds_are_equal_whatever_the_hash_seed(built):
    first = digest(built.parent / "site")
    root = built.parents[2]
    subprocess.run([sys.executable, "-m", "kdlib.report", "toy"], cwd=root, check=True, stdout=subprocess.DEVNULL,
                   env=os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"})
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
    first = (built.parent / "site" / "index.html").read_text()
    assert "preset toy" in first and "an &lt;apple&gt;" in first and "Goo &amp; Co" in first and "Apache-2.0" in first
    assert "0.6123" in first and "12,345" in first
    for page in (built.parent / "site").glob("*.html"):
        assert all(re.search(r'alt="[^"]+"', tag) for tag in re.findall(r"<img\b[^>]*>", page.read_text())), page
    tour = (built.parent / "site" / "00_tour.html").read_text()
    assert "three green squares" in tour and tour.count("<math") == 2


def test_a_notebook_has_a_page_for_each_declared_item_of_its_matrix(built):
    site = built.parent / "site"
    assert {path.stem for path in site.glob("*_*.html")} == set(PAGES)
    assert "<title>The tour: green" in (site / "01_variant-green.html").read_text()
    assert 'href="01_variant-blue.html">' in (site / "00_tour.html").read_text().split("<math")[-1]
    first = (site / "index.html").read_text()
    metrics = first.partition("In brackets")[2]
    assert "variant/blue" in metrics and "variant/older" not in metrics


def test_pages_show_the_parameters_that_were_used():
    cells = [new_code_cell("seed: int = 0", metadata={"tags": ["parameters"]})]
    assert len(as_page(new_notebook(cells=list(cells))).cells) == 1
    cells.append(new_code_cell("seed = 3", metadata={"tags": ["injected-parameters"]}))
    assert [cell.source for cell in as_page(new_notebook(cells=cells)).cells] == ["seed = 3"]


def test_claims_stand_on_the_first_page_and_what_fails_on_its_own(built):
    site = built.parent / "site"
    first, gaps = ((site / name).read_text() for name in ("index.html", "gaps.html"))
    assert "All claims: 1 holds, 1 not run, 1 can’t be asked" in first and "It &lt;finds&gt; most" in first
    rows = gaps.partition("claims that do not hold")[2].partition("</table>")[0]
    assert rows and 'href="01_variant-blue.html"' not in rows and "It &lt;finds&gt; most" not in gaps
    assert "there is no recall.at_10 in variant/older/metrics.json" in gaps, "an undeclared folder counts for nothing"
    assert "nobody was asked" in gaps and "nobody was asked" not in first
    table = pd.read_csv(site / "_static" / "claims.csv", keep_default_na=False)
    assert table.verdict.tolist() == ["holds", "not run", "can't be asked"] and table.ours[0] == "0.6123"


def test_a_stage_that_has_not_run_leaves_its_claims_open(tmp_path, monkeypatch):
    toy_results(tmp_path)
    (tmp_path / "reports" / "toy" / "variant" / "blue" / "metrics.json").unlink()
    monkeypatch.setattr(site, "run_sphinx", lambda preset, source, folder: shutil.copytree(source, folder / "site"))
    built = build_report("toy", tmp_path).parent / "site"
    assert pd.read_csv(built / "_static" / "claims.csv").verdict.tolist() == ["not run", "not run", "can't be asked"]


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
    interval = {"value": 0.5, "low": 0.25, "high": 0.75}
    table = metrics_table({"index": {"a": {"b": 0.123456}, "c": 7, "d": interval}}, "toy")
    assert table.splitlines()[2:] == [
        '| index | a.b | 0.1235 | <span class="kd-badge">preset toy</span> |',
        '| index | c | 7 | <span class="kd-badge">preset toy</span> |',
        '| index | d | 0.5 [0.25, 0.75] | <span class="kd-badge">preset toy</span> |']


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
