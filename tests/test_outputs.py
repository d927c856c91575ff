"""kdlib.outputs: pictures made larger, and traced, before they are written."""

import io

import numpy as np
import pytest
import resvg_py
import torch
from PIL import Image, ImageDraw

from kdlib.models.superres import Upsampler, UpsamplerConfig
from kdlib.outputs import find_enlarging, save_images
from tests.test_pipeline import pixels


@pytest.fixture
def upsampler():
    torch.manual_seed(0)
    network = Upsampler(UpsamplerConfig(scale=4, width=3, num_blocks=1))
    torch.nn.init.normal_(network.last.weight, std=0.1)
    return network.eval()


def test_a_traced_picture_looks_like_it_when_another_program_draws_it(tmp_path):
    picture = Image.new("RGB", (64, 64), "white")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((8, 8, 40, 44), "red")
    draw.rectangle((30, 36, 60, 60), "navy")
    (path,) = save_images([picture], tmp_path / "a.svg")
    svg = path.read_text()
    assert svg.count("<path") >= 3
    drawn = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=64, height=64)))).convert("RGB")
    assert np.abs(np.asarray(drawn, float) - np.asarray(picture, float)).mean() < 6
    names = [path.name for path in save_images([picture, picture], tmp_path / "b.svg")]
    assert names == ["b-1.svg", "b-2.svg"]


def test_the_command_enlarges_by_the_preset_s_upsampler(kd, tmp_path, upsampler):
    """The fixture's generator draws 12 px."""
    missing = kd("generate", "red", "--out", "a.png", "--size", 48)
    assert missing.exit_code == 2 and "--size 48 can't be had: this generator draws 12 px" in missing.output
    upsampler.save(tmp_path / "reports" / "quick" / "superres" / "model")
    wrong = kd("generate", "red", "--out", "a.png", "--size", 40)
    assert wrong.exit_code == 2 and "--size 40 can't be had; choose 12 or 48 or 192" in wrong.output
    assert kd("generate", "red", "--out", "small.png", "--size", 12).exit_code == 0
    assert kd("generate", "red", "--out", "plain.png").exit_code == 0
    assert kd("generate", "red", "--out", "large.png", "--size", 48).exit_code == 0
    assert kd("generate", "red", "--out", "huge.png", "--size", 192).exit_code == 0
    small, plain, large, huge = (Image.open(tmp_path / f"{name}.png") for name in ("small", "plain", "large", "huge"))
    enlarge = Upsampler.load(tmp_path / "reports" / "quick" / "superres" / "model").upsample
    assert small.size == (12, 12) and (pixels([large]) == pixels(enlarge([small]))).all() and large.size == (48, 48)
    assert plain.tobytes() == large.tobytes(), "where there is an upsampler, one pass is the default"
    assert (pixels([huge]) == pixels(enlarge([large]))).all() and huge.size == (192, 192)


def test_nothing_is_loaded_for_the_size_that_is_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no compendium: looking for an upsampler would fail
    assert find_enlarging("cpu", 64, 64)([1, 2]) == [1, 2]
