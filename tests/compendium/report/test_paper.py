"""The paper, figure by figure: reports/paper.yaml is whole and leads somewhere; the page says what it knows."""

import json
import re
from pathlib import Path

import pytest
import yaml

from kdlib.compendium.declared import read_stages
from kdlib.compendium.report.claims import flatten, load_claims
from kdlib.compendium.report.paper import count_states, load_paper, picture_tag, state_of
from kdlib.compendium.report.site import DOCS, declared_runs
from tests.compendium.report.toy_report import PAPER

ROOT = Path(__file__).resolve().parents[3]
ROWS = load_paper(ROOT)
WITH_OURS = [row for row in ROWS if "ours" in row]
PRESET = "cpu"  # the published one
NUMBERS = [(row["place"], number) for row in WITH_OURS for number in row["ours"].get("numbers", [])]
each_row_with_ours = pytest.mark.parametrize("row", WITH_OURS, ids=lambda row: row["place"])


def published(path):
    """A file of the bundled remote, as dvc.lock has it."""
    outs = [out for stage in yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"].values()
            for out in stage.get("outs", [])]
    md5 = next(out["md5"] for out in outs if out["path"] == f"reports/{PRESET}/{path}")
    return (ROOT / "artifacts" / "files" / "md5" / md5[:2] / md5[2:]).read_bytes()


# --- reports/paper.yaml --------------------------------------------------------------------------------------------

def test_both_tables_and_all_twenty_figures_are_there():
    assert [row["place"] for row in ROWS] == ["Table 1", "Table 2", *(f"Fig. {n}" for n in range(1, 21))]
    assert {state_of(row) for row in ROWS} == {"built", "built in part", "not built", "not askable"}
    texts = [text for row in ROWS for name, text in row.items() if name != "ours"]
    assert all(isinstance(text, str) and text.strip() and "\n" not in text.strip() for text in texts)


@each_row_with_ours
def test_links_lead_to_notebooks_and_pages_that_there_are(row):
    notebooks = {stage.notebook for stage in read_stages(ROOT).values()}
    assert row["ours"]["pages"] and set(row["ours"]["pages"]) <= notebooks | {"explorer", "gaps", *DOCS}


@pytest.mark.parametrize("place, number", NUMBERS, ids=[f"{place}, {number['key']}" for place, number in NUMBERS])
def test_numbers_are_in_the_published_results(place, number):
    assert number.keys() == {"stage", "key", "what"}
    assert number["stage"] in {run.folder for run in declared_runs(PRESET, ROOT)}
    assert number["key"] in flatten(json.loads(published(f"{number['stage']}/metrics.json"))), place


@pytest.mark.parametrize("row", [row for row in WITH_OURS if "picture" in row["ours"]], ids=lambda row: row["place"])
def test_pictures_are_drawn_by_the_published_notebooks(tmp_path, row):
    picture = row["ours"]["picture"]
    assert picture.keys() == {"page", "alt"} and picture["page"] in {
        run.page for run in declared_runs(PRESET, ROOT)}
    (tmp_path / "notebooks").mkdir()
    name = f"notebooks/{picture['page']}.ipynb"
    (tmp_path / name).write_bytes(published(name))
    assert picture_tag(picture, tmp_path, tmp_path / "static" / "x.png").startswith("<img ")
    assert (tmp_path / "static" / "x.png").read_bytes().startswith(b"\x89PNG")


def test_claims_are_made_at_places_that_are_listed():
    """Each by its own name: "Fig. 3, Fig. 18", not "Figs. 3 and 18"."""
    places = {row["place"] for row in ROWS}
    for row in load_claims(ROOT):
        for part in row["place"].split(", "):
            assert part in places or re.fullmatch(r"sections? \d(\.\d)?( and \d\.\d)?|benefit \(\d\)|.*; section \d|"
                                                  r"contribution \(\d\)", part), row


@pytest.mark.parametrize("change", [
    {"shows": None}, {"place": None}, {"extra": 1}, {"ours": None}, {"says": None}, {"pages": None}, {"link": "x"}])
def test_a_row_that_says_too_little_or_too_much_is_named(tmp_path, change):
    ours = {"says": "the same", "pages": ["00_tour"]}
    row = {"place": "Fig. 3", "shows": "a curve", "ours": ours}
    (tmp_path / "reports").mkdir()
    path = tmp_path / "reports" / "paper.yaml"
    path.write_text(yaml.safe_dump([row]))
    assert load_paper(tmp_path) == [row]
    for name, value in change.items():
        part = ours if name in ("says", "pages", "link") else row
        part.update({name: value}) if value is not None else part.pop(name)
    path.write_text(yaml.safe_dump([row]))
    with pytest.raises(ValueError, match="^paper.yaml: .* needs place, shows, and at least one of ours"):
        load_paper(tmp_path)


# --- the page ------------------------------------------------------------------------------------------------------

def test_a_state_follows_from_what_a_row_has():
    assert [state_of(row) for row in PAPER] == ["built in part", "built", "not built", "not askable"]
    assert count_states(PAPER) == ("Of the paper's 1 tables and 3 figures, 1 have a counterpart here, 1 have one in "
                                   "part, 1 aren't built and 1 can't be asked here.")
    assert count_states(PAPER[2:3]) == "Of the paper's 0 tables and 1 figures, 1 aren't built."


def section(page, name):
    """The HTML of one table or figure."""
    return re.search(rf'<section id="{name}">.*?</section>', page, re.S)[0]


def test_each_place_has_ours_beside_it_or_the_reason(built):
    site = built.parent / "site"
    page = (site / "paper.html").read_text()
    table = section(page, "table-1")
    assert "votes of people" in table and "Half of it." in table and "nobody is asked" in table
    assert 'href="10_variant-blue.html"' in table and 'href="explorer.html"' in table
    assert "The tour: blue" in table, "a link says where it leads"
    assert "recall: 0.6123" in table and "an older one: not run" in table and table.count("preset toy") == 1
    assert "People like it: <strong>can’t be asked</strong>" in table
    assert 'alt="three green squares"' in table
    assert (site / "_static" / "paper" / "table-1.png").read_bytes().startswith(b"\x89PNG")
    assert "It &lt;finds&gt; most: <strong>holds</strong>" in section(page, "fig-3")
    bridge = section(page, "fig-5")
    assert "It is to be built." in bridge and "Not that half." in bridge and "<em>Here:</em>" not in bridge
    assert "Ten are best: <strong>not run</strong>" in bridge
    assert "<em>Claimed there:</em>" not in section(page, "fig-7")


def test_the_first_page_counts_them_and_the_gaps_list_them(built):
    first, gaps = ((built.parent / "site" / name).read_text() for name in ("index.html", "gaps.html"))
    assert "1 have a counterpart here, 1 have one in part, 1 aren’t built and 1 can’t be asked here" in first
    assert 'href="paper.html"' in first
    missing, unasked = (section(gaps, f"tables-and-figures-that-{what}") for what in ("aren-t-built",
                                                                                      "can-t-be-asked-here"))
    assert 'href="paper.html#fig-5"' in missing and "It is to be built." in missing and "#fig-7" not in missing
    assert all(f'href="paper.html#{name}"' in unasked for name in ("table-1", "fig-5", "fig-7"))
    assert "#fig-3" not in missing + unasked


def test_a_picture_that_no_notebook_draws_is_left_out(built, tmp_path):
    results = built.parent
    for wanted in ({"page": "00_tour", "alt": "four"}, {"page": "00_tour", "alt": "green squares"}):
        assert picture_tag(wanted, results, tmp_path / "static" / "x.png") == ""
    assert not (tmp_path / "static").exists()
