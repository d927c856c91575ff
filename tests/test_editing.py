"""`kd edit`: what it writes and says, and how it fails."""

import json

import numpy as np
import pytest
from PIL import Image

from kdlib.models.edit.sampler import EditSettings
from kdlib.pipeline import load_pipeline
from tests.models.edit.test_editor import GreyTokenizer, make_editor, square


@pytest.fixture
def edit(kd, tmp_path, monkeypatch):
    """Runs `kd edit` where the preset quick has an editor, and the file in.png a red square."""
    monkeypatch.setattr("kdlib.models.discrete.tokenizer.Tokenizer.load", lambda folder: GreyTokenizer())
    make_editor().denoiser.save(tmp_path / "reports" / "quick" / "edits" / "model")
    square((30, 30)).save(tmp_path / "in.png")
    return lambda *words: kd("edit", *words)


def test_it_writes_the_pipelines_edit_and_says_how_the_picture_was_read(edit, tmp_path):
    result = edit("in.png", "a blue thing", "--out", "out.png", "--strength", 0.5, "--seed", 3, "--k", 2)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == ["written: out.png (preset quick, seed 3)",
                                          "note: 30 x 30 px are answered at 12 x 12, the model's size"]
    wanted = load_pipeline("quick").edit(square((30, 30)), "a blue thing", seed=3, strength=0.5, k=2)
    assert (np.asarray(Image.open(tmp_path / "out.png")) == np.asarray(wanted.image)).all()


def test_json(edit):
    told = json.loads(edit("in.png", "blue", "--out", "out.png", "--json", "--text-scale", 2, "--k", 1).stdout)
    assert told["settings"] == {"preset": "quick", "seed": 0, "k": 1, "minus": 0.0, "text_scale": 2.0,
                                "strength": EditSettings().strength, "num_steps": EditSettings().num_steps,
                                "picture_scale": EditSettings().picture_scale}
    assert told["files"] == ["out.png"] and told["text"] == "blue" and len(told["notes"]) == 1
    assert [one["id"] for one in told["neighbours"]] == ["b:blue"] and told["neighbours"][0]["licence"] == "MIT"


@pytest.mark.parametrize("words, message", [
    (("none.png", "blue"), "none.png can't be read"),
    (("params.yaml", "blue"), "params.yaml can't be read: no picture"),
    (("in.png", " "), "say in words"), (("in.png", "blue", "--strength", 3), "--strength = 3.0 must be a number"),
    (("in.png", "blue", "--num-steps", 0), "--num-steps = 0 must be a whole number"),
    (("in.png", "blue", "--index", "nowhere"), "nowhere is no index"), (("dot.png", "blue"), "1 x 1 px")])
def test_bad_requests_are_one_line(edit, tmp_path, words, message):
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    result = edit(*words, "--out", "out.png")
    assert result.exit_code == 2 and message in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out.png").exists()


def test_without_an_editor_it_says_so(kd, tmp_path):
    square().save(tmp_path / "in.png")
    result = kd("edit", "in.png", "blue", "--out", "out.png")
    assert result.exit_code == 2 and "it has no editor" in result.stderr
