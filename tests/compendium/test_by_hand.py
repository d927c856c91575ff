"""A notebook writes to reports/ only where it is run as a stage; by hand it writes to scratch/ and says so."""

import hashlib
import shutil
from pathlib import Path

import nbformat
import pytest

from kdlib import params
from kdlib.params import STAGE_RUN, output_folder

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def contents(folder: Path) -> dict[str, str]:
    """Every file of a folder with its hash."""
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def code_of(notebook: Path) -> str:
    return "\n".join(cell.source for cell in nbformat.read(notebook, 4).cells if cell.cell_type == "code")


@pytest.fixture
def compendium(tmp_path):
    """What notebook 24 reads, and published results of it."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks", ignore=shutil.ignore_patterns("*.py"))
    published = tmp_path / "reports" / "cpu" / "choices" / "metrics.json"
    published.parent.mkdir(parents=True)
    published.write_text("published")
    return tmp_path


@pytest.fixture
def run(compendium, monkeypatch, capsys):
    """Runs notebook 24 as a plain program; returns what it prints."""
    def run_program() -> str:
        params._say_scratch.cache_clear()  # it speaks once in a process
        exec(compile(code_of(ROOT / "notebooks" / "24_choices.ipynb"), "24_choices", "exec"), {})
        return capsys.readouterr().out
    monkeypatch.chdir(compendium)
    return run_program


def test_by_hand_reports_stays_as_it_is_to_the_byte(compendium, run, monkeypatch):
    monkeypatch.delenv(STAGE_RUN, raising=False)
    before = contents(compendium / "reports")
    said = run()
    assert contents(compendium / "reports") == before
    assert list(contents(compendium / "scratch")) == ["cpu/choices/metrics.json"]
    assert said.count("scratch/cpu") == 1


def test_as_a_stage_it_writes_to_reports_and_says_nothing_of_scratch(compendium, run, monkeypatch):
    monkeypatch.setenv(STAGE_RUN, "1")
    assert "scratch" not in run()
    assert (compendium / "reports" / "cpu" / "choices" / "metrics.json").read_text() != "published"
    assert not (compendium / "scratch").exists()


def test_the_folder_is_said_once(compendium, monkeypatch, capsys):
    monkeypatch.delenv(STAGE_RUN, raising=False)
    for stage in ("mine", "yours/too"):
        assert output_folder("once", stage, compendium) == compendium / "scratch" / "once" / stage
    assert capsys.readouterr().out.count("scratch/once") == 1


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.stem != "00_tour"], ids=lambda path: path.stem)
def test_every_notebook_that_writes_asks_where(path):
    assert "output_folder(preset, " in code_of(path) or "Session(preset, " in code_of(path)
