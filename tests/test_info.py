"""kdlib.info: what `kd info` says of presets, weights, identities and licences."""

import json

import pytest
import torch
from typer.testing import CliRunner

from kdlib.cli import app
from kdlib.info import complete_backbones, model_facts, num_parameters
from kdlib.pipeline import load_pipeline
from kdlib.weights import save_tensors
from tests.test_pipeline import make_root, parts_are_colours, sticker_table

SIZES = {"encoder": 6, "tokenizer": 20}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The compendium of tests/test_pipeline.py, whose pictures are under two licences."""
    make_root(tmp_path)
    table = sticker_table()
    table.loc[table["id"] == "b:blue", "licence"] = "CC0-1.0"
    table.to_parquet(tmp_path / "data" / "stickers.parquet")
    for name, size in SIZES.items():
        save_tensors(tmp_path / "reports" / "quick" / name / "model" / "model.safetensors",
                     {"a": torch.zeros(size // 2, 2)})
    parts_are_colours(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_preset_is_described(root):
    told = model_facts("quick", root)["model"]
    denoiser = load_pipeline("quick", root).backbone.denoiser
    assert told == {
        "preset": "quick", "k": 2, "index": {"pictures": 4, "dim": 5, "licences": {"MIT": 3, "CC0-1.0": 1}},
        "encoder": {"identity": "colours", "parameters": 6},
        "generators": [{"backbone": "discrete", "parameters": sum(p.numel() for p in denoiser.state_dict().values()),
                        "tokenizer": {"identity": "greys", "parameters": 20}}]}


def test_presets_have_weights_if_all_parts_are_here(root):
    assert model_facts(None, root)["presets"] == [{"name": "quick", "weights": ["discrete"]},
                                                  {"name": "cpu", "weights": []}]
    (root / "reports" / "quick" / "tokenizer" / "model").rename(root / "moved")
    assert complete_backbones("quick", root) == []
    (root / "reports" / "quick" / "unet" / "model").mkdir(parents=True)
    assert complete_backbones("quick", root) == ["continuous"], "it has no tokenizer"


def test_where_nothing_is_here_the_presets_are_listed_all_the_same(root):
    (root / "reports").rename(root / "gone")
    assert model_facts(None, root)["model"] is None
    result = CliRunner().invoke(app, ["info"])
    assert result.exit_code == 0 and [line.split()[0] for line in result.stdout.splitlines()] == [
        "preset", "quick", "cpu"]
    assert "make reproduce PRESET=cpu" in result.stdout
    with pytest.raises(FileNotFoundError, match="quick has no encoder, index"):
        model_facts("quick", root)


def test_cpu_comes_first_where_it_is_here(root):
    assert model_facts(None, root)["model"]["preset"] == "quick"
    (root / "reports" / "cpu").symlink_to("quick")
    assert model_facts(None, root)["model"]["preset"] == "cpu"


def test_a_saved_pipeline_is_described_by_its_own_settings(root, monkeypatch):
    load_pipeline("quick", root).save_pretrained(root / "saved")
    for name, size in SIZES.items():
        save_tensors(root / "saved" / name / "model.safetensors", {"a": torch.zeros(size)})
    told = model_facts("saved", root)["model"]
    assert told["preset"] == "saved" and told | {"preset": "quick"} == model_facts("quick", root)["model"]


def test_the_text_and_the_json_say_the_same(root):
    text = CliRunner().invoke(app, ["info"]).stdout
    assert json.loads(CliRunner().invoke(app, ["info", "--json"]).stdout) == model_facts(None, root)
    for words in ("quick   discrete", "index      4 pictures, 5 wide", "k          2",
                  "encoder    colours, 6 parameters", "tokenizer  greys, 20 parameters", "licence    MIT: 3 pictures",
                  "licence    CC0-1.0: 1 pictures"):
        assert words in text, text


def test_a_damaged_part_is_named(root):
    path = root / "reports" / "quick" / "encoder" / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="encoder/model/model.safetensors is not a whole safetensors file"):
        num_parameters(path.parent)
    result = CliRunner().invoke(app, ["info"])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and result.stdout == ""
