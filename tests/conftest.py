"""Shapes and types of every kdlib signature are checked while the tests run."""

import sys

import hypothesis
import jaxtyping
import pytest
import torch

_hook = jaxtyping.install_import_hook("kdlib", "beartype.beartype")
torch.set_num_threads(1)
hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one is no error
hypothesis.settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    """Whatever trains or draws in a test does so in float32, on every machine."""
    for module in ("kdlib.training.loop", "kdlib.models.precision"):
        if module in sys.modules:
            monkeypatch.setattr(f"{module}.native_precision", lambda: "fp32")


@pytest.fixture
def kd(tmp_path, monkeypatch):
    """Runs `kd` inside a compendium with the preset quick, made of tiny parts."""
    from typer.testing import CliRunner

    from kdlib.cli import app
    from tests.test_pipeline import make_root, parts_are_colours

    make_root(tmp_path)
    monkeypatch.chdir(tmp_path)
    parts_are_colours(monkeypatch)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The index.html of a report of toy results."""
    from kdlib.compendium.report.site import build_report
    from tests.compendium.report.toy_report import toy_results

    root = tmp_path_factory.mktemp("compendium")
    toy_results(root)
    return build_report("toy", root)
