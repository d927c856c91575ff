"""kdlib.models.superres: untrained it is the bicubic enlargement; sizes, seeds, files, bad input."""

import numpy as np
import pytest
import torch
from PIL import Image

from kdlib.models.superres import Upsampler, UpsamplerConfig, enlarge


@pytest.fixture
def upsampler():
    """Scale 3, with weights that do something."""
    torch.manual_seed(0)
    model = Upsampler(UpsamplerConfig(scale=3, width=5, num_blocks=2))
    torch.nn.init.normal_(model.last.weight, std=0.05)
    return model.eval()


def test_a_straight_line_of_brightness_stays_one():
    ramp = torch.linspace(-1, 1, 12).expand(1, 3, 7, 12)
    large = enlarge(ramp, 4)
    centres = (torch.arange(48) + 0.5) / 4 - 0.5  # of the new pixels, in old ones
    truth = -1 + 2 * centres / 11
    assert large.shape == (1, 3, 28, 48)
    torch.testing.assert_close(large[0, 0, 14, 12:36], truth[12:36], atol=1e-5, rtol=0)  # the border repeats pixels


def test_the_enlargement_is_pillows():
    picture = Image.fromarray(np.random.default_rng(0).integers(90, 166, (7, 11, 3), dtype=np.uint8))
    large = Upsampler(UpsamplerConfig(3, 5, 2)).upsample([picture])[0]
    difference = np.asarray(large, int) - np.asarray(picture.resize((33, 21), Image.Resampling.BICUBIC), int)
    assert np.abs(difference).max() <= 1


def test_untrained_it_adds_nothing():
    torch.manual_seed(0)
    images = torch.rand(2, 3, 7, 11)
    torch.testing.assert_close(Upsampler(UpsamplerConfig(3, 5, 2))(images), enlarge(images, 3), atol=0, rtol=0)


def test_where_it_looks_from_is_where_it_draws(upsampler):
    """Another pixel changes the picture around its own place only: 3 + 2 x 2 x 1 pixels away, and bicubic's 2."""
    images = torch.zeros(1, 3, 21, 33)
    other = images.clone()
    other[0, :, 10, 16] = 1
    changed = (upsampler(other) - upsampler(images)).abs().amax((0, 1)) > 1e-7
    rows, columns = (torch.nonzero(changed.any(side)).flatten() for side in (1, 0))
    assert changed[31, 49] and rows.min() >= 3 * (10 - 6) and rows.max() < 3 * (10 + 7)
    assert columns.min() >= 3 * (16 - 6) and columns.max() < 3 * (16 + 7)


def test_pictures_in_pictures_out(upsampler):
    random = np.random.default_rng(0)
    pictures = [Image.fromarray(random.integers(0, 256, (7, 11, 3), dtype=np.uint8)) for _ in range(5)]
    large = upsampler.upsample(pictures, batch_size=2)
    assert [picture.size for picture in large] == [(33, 21)] * 5
    alone = np.asarray(upsampler.upsample(pictures[3:4])[0], int)
    assert np.abs(alone - np.asarray(large[3], int)).max() <= 1  # rounding may differ by the batch


def test_what_is_saved_is_what_is_loaded(upsampler, tmp_path):
    upsampler.save(tmp_path / "model")
    loaded, images = Upsampler.load(tmp_path / "model"), torch.rand(1, 3, 7, 11)
    assert not loaded.training and loaded.config == upsampler.config
    torch.testing.assert_close(loaded(images), upsampler(images), atol=5e-3, rtol=0)  # float16 on disk


def test_bad_input_is_named(upsampler, tmp_path):
    with pytest.raises(ValueError, match="num_blocks = 0"):
        UpsamplerConfig(4, 8, 0)
    with pytest.raises(ValueError, match=r"sizes \[\(2, 2\), \(3, 2\)\]"):
        upsampler.upsample([Image.new("RGB", (2, 2)), Image.new("RGB", (3, 2))])
    with pytest.raises(FileNotFoundError, match="no config.json"):
        Upsampler.load(tmp_path)
