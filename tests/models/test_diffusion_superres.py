"""kdlib.models.diffusion_superres: what the network is shown, what a perfect one draws, saving, bad input."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from kdlib.models.continuous.process import Process
from kdlib.models.diffusion_superres import DiffusionUpsampler, DiffusionUpsamplerConfig, shown_small
from tests.test_pipeline import pixels

PICTURES = [Image.fromarray(picture) for picture in
            np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3)).astype(np.uint8)]


def make(**changes):
    torch.manual_seed(0)
    upsampler = DiffusionUpsampler(DiffusionUpsamplerConfig(**{
        "scale": 3, "widths": (8, 16), "num_blocks": 1,
        "process": asdict(Process(20, prediction="x0", zero_terminal_snr=True)), **changes})).eval()
    torch.nn.init.normal_(upsampler.unet.conv_out.weight, std=0.3)
    return upsampler


class Stub(torch.nn.Module):
    """In the U-Net's place: keeps what it is shown, and says what it is told to say of it."""

    def __init__(self, says):
        super().__init__()
        self.says, self.shown = says, []

    def forward(self, x, t):
        self.shown.append(x)
        return type("Output", (), {"sample": self.says(x)})


def test_the_network_sees_the_folded_large_picture_and_the_small_one_beside_it():
    upsampler, x_t, small = make(), torch.randn(2, 3, 12, 18), torch.randn(2, 3, 4, 6)
    upsampler.unet = stub = Stub(lambda x: x[:, :27])
    said = upsampler(x_t, torch.tensor([3, 7]), shown_small(small))
    assert torch.equal(said, x_t), "folded and unfolded, it is as it was"
    assert stub.shown[0].shape == (2, 30, 4, 6) and torch.equal(stub.shown[0][:, 27:], small)
    for row, column in np.ndindex(3, 3):  # channel c of a pixel's square, row by row
        assert torch.equal(stub.shown[0][:, 3 * row + column:27:9], x_t[:, :, row::3, column::3])


def test_one_that_sees_the_truth_in_the_small_picture_draws_it_in_any_number_of_steps():
    """Its x_0 is the small picture with each pixel as a square, which is what comes out."""
    upsampler = make()
    upsampler.unet = Stub(lambda x: x[:, 27:].repeat_interleave(9, 1))
    wanted = np.repeat(np.repeat(pixels(PICTURES), 3, 1), 3, 2)
    for num_steps in (1, 5):
        np.testing.assert_array_equal(pixels(upsampler.upsample(PICTURES, num_steps, 0, batch_size=2)), wanted)


def test_the_seed_decides_and_so_do_the_pictures():
    upsampler = make()
    draw = lambda pictures, seed: pixels(upsampler.upsample(pictures, 3, seed))
    one, again, other = (draw(PICTURES, seed) for seed in (1, 1, 2))
    assert one.shape == (3, 12, 18, 3) and (one == again).all() and (one != other).any()
    assert (draw(PICTURES[::-1], 1) != one).any()


def test_an_untrained_one_predicts_zero():
    upsampler = DiffusionUpsampler(DiffusionUpsamplerConfig(2, [8], 1, asdict(Process(20))))
    assert not upsampler(torch.randn(2, 3, 8, 8), torch.tensor([3, 7]), shown_small(torch.randn(2, 3, 4, 4))).any()


def test_what_is_saved_is_what_is_loaded(tmp_path):
    upsampler = make().half().float()
    upsampler.save(tmp_path / "model")
    loaded = DiffusionUpsampler.load(tmp_path / "model")
    assert loaded.config == upsampler.config and not loaded.training
    assert (pixels(loaded.upsample(PICTURES, 2, 0)) == pixels(upsampler.upsample(PICTURES, 2, 0))).all()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="scale = 0, num_blocks = 1"):
        make(scale=0)
    with pytest.raises(ValueError, match=r"pictures are of the sizes \[\(2, 2\), \(6, 4\)\]"):
        make().upsample([PICTURES[0], Image.new("RGB", (2, 2))], 2, 0)
    with pytest.raises(ValueError, match=r"pictures of \(3, 4\) pixels; the sides must be multiples of 2"):
        make().upsample([Image.new("RGB", (4, 3))], 2, 0)


def test_squares_are_those_of_pytorch():
    """That pixel_unshuffle puts a square's pixels of one channel side by side is what the tests above build on."""
    folded = F.pixel_unshuffle(torch.arange(16.0).view(1, 1, 4, 4), 2)
    assert folded[0, :, 0, 0].tolist() == [0, 1, 4, 5]
