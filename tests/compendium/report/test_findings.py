"""kdlib.compendium.report.findings: sentences with live numbers, and what is wrong with their file."""

import copy

import pytest
import yaml

from kdlib.compendium.declared import read_stages
from kdlib.compendium.report.findings import finding_list, in_words, load_findings
from kdlib.params import find_root
from tests.compendium.report.toy_report import FINDINGS

METRICS = {"variant/blue": {"recall": {"at_10": {"value": 0.612, "low": 0.5, "high": 0.7}}},
           "index": {"num_pictures": 12345}}
PAGES = {"10_variant": "10_variant-blue"}


def test_a_sentence_has_its_numbers_and_a_link():
    assert finding_list(FINDINGS[:1], METRICS, PAGES) == (
        "- It finds **61%** (50 to 70%) of **12,345**. [More](10_variant-blue.ipynb)")


def test_what_has_no_number_or_no_page_is_left_out():
    assert finding_list(FINDINGS, METRICS, PAGES).count("\n") == 0
    assert finding_list(FINDINGS, METRICS, {}) == finding_list(FINDINGS, {}, PAGES) == ""


@pytest.mark.parametrize("value, form, said", [
    ({"value": 0.305, "low": 0.236, "high": 0.374}, ".0%", "**30%** (24 to 37%)"),
    ({"value": 0.8124, "low": 0.7558, "high": 0.8775}, ".2f", "**0.81** (0.76 to 0.88)"), (7124, ",", "**7,124**")])
def test_numbers_are_told_with_their_intervals(value, form, said):
    assert in_words(value, form) == said


def test_the_page_shows_them(built):
    first = (built.parent / "site" / "index.html").read_text()
    assert "It finds <strong>61%</strong> of <strong>12,345</strong>." in first and "An older one" not in first


@pytest.mark.parametrize("damage", [
    lambda row: row.pop("page"), lambda row: row.update(more=1), lambda row: row.update(says="It finds {share}."),
    lambda row: row.update(says="It finds {share} of {all} in {time}."),
    lambda row: row["numbers"]["all"].pop("format"), lambda row: row["numbers"]["all"].update(unit="%")])
def test_a_row_with_too_little_or_too_much_is_named(damage, tmp_path):
    rows = copy.deepcopy(FINDINGS)
    damage(rows[0])
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "findings.yaml").write_text(yaml.safe_dump(rows))
    with pytest.raises(ValueError, match="findings.yaml: 'It finds .* needs says, page, and numbers"):
        load_findings(tmp_path)


def test_the_findings_of_the_compendium_are_of_its_stages():
    findings, stages = load_findings(find_root()), read_stages(find_root())
    assert len(findings) == 3
    for row in findings:
        assert row["page"] in {stage.notebook for stage in stages.values()}
        assert {number["stage"] for number in row["numbers"].values()} <= stages.keys()
