"""The continuous generator in the pipeline, as a preset, in a saved folder and in the command."""

import shutil
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from kdlib import artifacts, pipeline
from kdlib.cli import app
from kdlib.data.pixels import to_pil
from kdlib.files import read_json, write_json
from kdlib.models.backbone import Backbone, load_backbone
from kdlib.models.condition import Condition
from kdlib.models.continuous.backbone import ContinuousBackbone
from kdlib.models.continuous.process import Process, sample
from kdlib.models.continuous.unet import ConditionedUnet, UnetConfig
from kdlib.models.discrete.backbone import DiscreteBackbone
from kdlib.pipeline import Pipeline, load_pipeline
from tests.test_pipeline import make_pipe, make_root, parts_are_colours, pixels


def make_unet(encoder_id="colours"):
    torch.manual_seed(0)
    unet = ConditionedUnet(UnetConfig(
        size_px=8, widths=(8, 8), num_blocks=1, num_attending=1, embedding_dim=5, k=3, folding=2, encoder_id=encoder_id,
        process=asdict(Process(20, prediction="v"))))
    torch.nn.init.normal_(unet.unet.conv_out.weight, std=0.5)  # closed, no condition could be seen
    return unet


def make_continuous_pipe():
    pipe = make_pipe()
    return Pipeline(pipe.encoder, pipe.index, ContinuousBackbone(make_unet()), pipe.settings, pipe.catalogue)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A compendium whose preset `quick` has both generators."""
    parts_are_colours(monkeypatch)
    make_root(tmp_path)
    make_unet().save(tmp_path / "reports" / "quick" / "unet" / "model")
    return tmp_path


def test_it_is_a_backbone_that_draws_what_the_process_samples():
    backbone = ContinuousBackbone(make_unet())
    assert isinstance(backbone, Backbone)
    assert (backbone.kind, backbone.encoder_id, backbone.size_px) == ("continuous", "colours", 8)
    y = Condition(torch.eye(5)[:3], torch.eye(5)[None, 1:3].expand(3, -1, -1))
    drawn = backbone.draw(y, 4, 2.5, torch.Generator().manual_seed(6))
    x = sample(Process(20, prediction="v"), backbone.denoiser, y, (3, 8, 8), 4, guidance_scale=2.5,
               generator=torch.Generator().manual_seed(6))
    assert pixels(drawn).shape == (3, 8, 8, 3) and (pixels(drawn) == pixels(to_pil(x))).all()


def test_sampler_and_interval_are_the_samplers():
    y, unet = Condition(torch.eye(5)[:1], torch.eye(5)[None, 1:3]), make_unet()
    draw = lambda *told: pixels(ContinuousBackbone(unet, *told).draw(y, 6, 3.0, torch.Generator().manual_seed(0)))
    plain = draw()
    assert (draw("dpm") == plain).all() and (draw("ddpm") != plain).any()
    assert (draw("dpm", (0.2, 0.4)) != plain).any()


def test_a_call_works_alike_and_the_seed_decides():
    pipe = make_continuous_pipe()
    out, again, other = (pipe("a red thing", num_images=2, num_candidates=3, seed=seed) for seed in (7, 7, 8))
    assert pixels(out.images).shape == (2, 8, 8, 3) and out.neighbours[0].id == "a:red"
    assert (pixels(out.images) == pixels(again.images)).all() and (pixels(out.images) != pixels(other.images)).any()
    with pytest.raises(ValueError, match="num_steps is 21; it must lie in 1 .. 20"):
        pipe("red", num_steps=21)


def test_another_encoders_generator_is_refused():
    pipe = make_pipe()
    with pytest.raises(ValueError, match="trained with encoder other, but this is encoder colours"):
        Pipeline(pipe.encoder, pipe.index, ContinuousBackbone(make_unet("other")), pipe.settings)


def test_saved_and_loaded_it_draws_the_same_and_the_folder_says_its_kind(tmp_path, monkeypatch):
    parts_are_colours(monkeypatch)
    pipe = make_continuous_pipe()
    pipe.save_pretrained(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {"encoder", "index", "denoiser", "pipeline.json"}
    assert read_json(tmp_path / "saved" / "pipeline.json")["backbone"] == "continuous"
    for backbone in (None, "continuous"):
        loaded = load_pipeline(tmp_path / "saved", backbone=backbone)
        assert (pixels(loaded("red", seed=3).images) == pixels(pipe("red", seed=3).images)).all()
    with pytest.raises(ValueError, match="saved was saved with the continuous backbone; it has no discrete one"):
        load_pipeline(tmp_path / "saved", backbone="discrete")


def test_a_folder_that_names_no_backbone_is_a_discrete_one(tmp_path, monkeypatch):
    parts_are_colours(monkeypatch)
    make_pipe().save_pretrained(tmp_path / "saved")
    told = read_json(tmp_path / "saved" / "pipeline.json")
    assert told.pop("backbone") == "discrete"
    write_json(tmp_path / "saved" / "pipeline.json", told)
    assert load_pipeline(tmp_path / "saved").backbone.kind == "discrete"
    write_json(tmp_path / "saved" / "pipeline.json", told | {"backbone": "gan"})
    with pytest.raises(ValueError, match="there is no backbone 'gan'; choose one of discrete, continuous"):
        load_pipeline(tmp_path / "saved")


def test_a_preset_has_one_of_each(root):
    discrete, continuous = load_pipeline("quick", root), load_pipeline("quick", root, "continuous")
    assert isinstance(discrete.backbone, DiscreteBackbone) and isinstance(continuous.backbone, ContinuousBackbone)
    assert discrete.settings == continuous.settings
    assert continuous("red").images[0].size == (8, 8) and discrete("red").images[0].size == (12, 12)


def test_what_is_not_there_is_named(root):
    with pytest.raises(ValueError, match="there is no backbone 'gan'; choose one of discrete, continuous"):
        load_pipeline("quick", root, "gan")
    assert artifacts.default_preset(root, "continuous") == "quick"
    shutil.rmtree(root / "reports" / "quick" / "unet")
    with pytest.raises(FileNotFoundError, match="preset quick has no continuous model .* `dvc repro unet@quick`"):
        load_pipeline("quick", root, "continuous")
    assert artifacts.default_preset(root, "continuous") == "cpu" and artifacts.default_preset(root) == "quick"
    shutil.rmtree(root / "reports" / "quick" / "encoder")
    with pytest.raises(FileNotFoundError, match="quick has no encoder, denoiser .*PRESET=quick"):
        load_pipeline("quick", root, "continuous")


def test_a_u_net_of_no_known_kind_is_refused(root):
    config = root / "reports" / "quick" / "unet" / "model" / "config.json"
    write_json(config, read_json(config) | {"kind": "teapot"})
    with pytest.raises(ValueError, match="'teapot'; .* is one of discrete-denoiser, continuous-denoiser"):
        load_backbone({"denoiser": config.parent})


def test_the_command_draws_with_the_backbone_that_is_asked_for(root, monkeypatch):
    monkeypatch.chdir(root)
    kd = lambda *words: CliRunner().invoke(app, ["generate", "red", "--out", "a.png", *words])
    result = kd("--backbone", "continuous", "--seed", "5")
    assert result.exit_code == 0, result.output
    wanted = pipeline.load_pipeline("quick", backbone="continuous")("red", seed=5).images[0]
    assert (np.asarray(Image.open(root / "a.png")) == np.asarray(wanted)).all()
    result = kd("--backbone", "gan")
    assert result.exit_code == 2 and "no backbone 'gan'; choose one of discrete, continuous" in result.output
