"""kdlib.compendium.inputs: what isn't published is made where it is missing; what is published stays to the byte."""

import os
import sys

import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell

from kdlib.compendium import inputs
from kdlib.compendium.inputs import main, make_inputs, missing_inputs
from kdlib.compendium.notebook import write_notebook
from kdlib.params import STAGE_RUN

CODE = """
import numpy as np
from kdlib.files import write_json
from kdlib.params import output_folder, stage_folder

out = output_folder(preset, "small")
assert (stage_folder(preset, "trained") / "model").is_dir()
out.mkdir(parents=True, exist_ok=True)
np.save(out / "numbers.npy", np.arange(size))
np.save(out / "figure.npy", np.zeros(3))
write_json(out / "metrics.json", {"made": "again"})
"""
NOTEBOOKS = {
    "01_trained": ("pass", "stage: trained\npart: Toys\nwrites: [model]"),
    "02_small": (CODE, "stage: small\npart: Toys\nreads: [trained/model]\nwrites: [metrics.json]\n"
                       "unpublished: [numbers.npy, figure.npy]"),
    "03_variant": ("raise SystemExit", "stage: variant\npart: Toys\nunpublished: [numbers.npy]\nmatrix: {size: [1]}"),
    "04_reader": ("pass", "stage: reader\npart: Toys\nreads: [small/numbers.npy, variant/numbers.npy]"),
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A compendium of four notebooks whose published results are here: a model, and metrics that nobody may touch."""
    (tmp_path / "params.yaml").write_text("compendium: kdlib\ntoy: {size: 7, trained: {}, small: {}, reader: {}}\n")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    for name, (code, told) in NOTEBOOKS.items():
        parameters = new_code_cell('preset: str = "quick"\nsize: int = 0', metadata={"tags": ["parameters"]})
        write_notebook(new_notebook(cells=[new_markdown_cell("# T"), parameters, new_code_cell(code),
                                           new_raw_cell(told, metadata={"tags": ["stage"]})]),
                       tmp_path / "notebooks" / f"{name}.ipynb")
    for folder in ("trained/model", "small"):
        (tmp_path / "reports" / "toy" / folder).mkdir(parents=True)
    (tmp_path / "reports" / "toy" / "small" / "metrics.json").write_text("published")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_only_trainings_read_is_made_when_it_is_asked_for(root, monkeypatch):
    monkeypatch.setattr(inputs, "FOR_TRAINING", ("small",))
    monkeypatch.setattr(sys, "argv", ["inputs", "toy"])
    small = root / "reports" / "toy" / "small" / "numbers.npy"
    assert main() == 0 and not small.exists()
    monkeypatch.setattr(sys, "argv", ["inputs", "toy", "--training"])
    assert main() == 0 and small.exists()


def test_what_came_meanwhile_stays(root, monkeypatch):
    small = root / "reports" / "toy" / "small" / "numbers.npy"
    run = inputs.run_by_hand
    monkeypatch.setattr(inputs, "run_by_hand", lambda *given: [run(*given), small.write_text("somebody else's")])
    make_inputs("toy", root)
    assert small.read_text() == "somebody else's"


def test_what_a_notebook_reads_and_nobody_published_is_made_once(root, monkeypatch, capsys):
    monkeypatch.setenv(STAGE_RUN, "1")  # as from within a stage: what is run by hand writes to scratch all the same
    assert missing_inputs("toy", root) == {"small": ["numbers.npy"]}, "nobody reads the figure; a variant trains"
    make_inputs("toy", root)
    small = root / "reports" / "toy" / "small"
    assert np.load(small / "numbers.npy").tolist() == [0, 1, 2, 3, 4, 5, 6], "with the preset's parameters"
    assert (small / "metrics.json").read_text() == "published" and not (small / "figure.npy").exists()
    assert "1 of 1: numbers.npy of small" in capsys.readouterr().out
    assert os.environ[STAGE_RUN] == "1" and missing_inputs("toy", root) == {}
    monkeypatch.setattr(inputs, "run_by_hand", None)
    assert make_inputs("toy", root) == {}


def test_without_published_results_it_says_how_to_get_them(root, monkeypatch, capsys):
    (root / "reports" / "toy" / "trained" / "model").rmdir()
    monkeypatch.setattr(sys, "argv", ["inputs", "toy"])
    assert main() == 1
    assert "trained/model is not there, which 02_small reads; fetch published results" in capsys.readouterr().err
    assert not (root / "reports" / "toy" / "small" / "numbers.npy").exists()


def test_a_preset_that_there_is_not(root, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["inputs", "best"])
    assert main() == 1 and "no preset 'best'" in capsys.readouterr().err
