"""benchmarks.accessibility: it runs the pinned axe-core alone, and what it finds decides."""

import sys

import pytest

from benchmarks import accessibility
from benchmarks.accessibility import PAGES, SHA256, main, read_axe, violations
from tests.compendium.report.test_site_browser import browser  # noqa: F401
from tests.test_compendium import DECLARED

# ruff: noqa: F811  (a fixture has the name of an argument)
AXE = "window.axe = {run: async () => ({violations: [{id: document.title, impact: 'IMPACT', help: 'h', nodes: []}]})}"
PAGE = "data:text/html,<title>a page</title>"


class NoBrowser:
    def quit(self):
        pass


def test_another_script_is_refused(tmp_path):
    (tmp_path / "axe.min.js").write_text("window.axe = {}")
    with pytest.raises(ValueError, match="is not axe.min.js of axe-core 4.14.1"):
        read_axe(tmp_path / "axe.min.js")
    assert len(SHA256) == 64


def test_it_runs_on_the_page_that_is_open_and_failures_are_told(browser):
    assert [found["id"] for found in violations(browser, PAGE, AXE)] == ["a page"]
    with pytest.raises(RuntimeError, match="axe failed on data:.*no such rule"):
        violations(browser, PAGE, "window.axe = {run: async () => { throw 'no such rule' }}")


@pytest.mark.parametrize("impact, status", [("critical", 1), ("serious", 1), ("moderate", 0), ("minor", 0)])
def test_serious_violations_decide(monkeypatch, capsys, impact, status):
    found = [{"id": "contrast", "impact": impact, "help": "be seen", "nodes": [{"target": ["#a"]}]}]
    for name, value in {"read_axe": lambda path: "", "open_browser": NoBrowser, "show": lambda *_: None,
                        "violations": lambda *_: found}.items():
        monkeypatch.setattr(accessibility, name, value)
    monkeypatch.setattr(sys, "argv", ["accessibility", "axe.min.js", "site", "index"])
    assert main() == status
    assert f"{impact}: contrast (be seen), 1 elements of index.html at 1280 px, light: #a" in capsys.readouterr().out


def test_the_pages_are_those_of_the_report():
    own = {"index", "paper", "explorer", "gaps"}
    assert set(PAGES) - own <= {stage.notebook for stage in DECLARED.values()} and len(PAGES) == 6
