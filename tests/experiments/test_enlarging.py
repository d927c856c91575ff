"""kdlib.experiments.enlarging: methods against Pillow, tiles against loops, distances against what they are made of."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from kdlib.evaluation.judge import Judge
from kdlib.experiments.enlarging import compare, enlarge_each_way, mean_statistics, tiles
from kdlib.models.superres import Upsampler, UpsamplerConfig

# Nothing is to be clipped: Pillow clips between its two passes, PyTorch at the end.
PICTURES = np.random.default_rng(0).integers(90, 170, (3, 6, 6, 3)).astype(np.uint8)


class Mean(Judge):
    """A judge whose features are a picture's mean colour."""

    def __init__(self):
        torch.nn.Module.__init__(self)

    def features(self, pictures):
        return np.asarray(pictures, np.float32).mean((1, 2))


def test_each_way_enlarges_all_pictures():
    torch.manual_seed(0)
    upsampler = Upsampler(UpsamplerConfig(scale=3, width=4, num_blocks=1)).eval()
    made = enlarge_each_way(upsampler, PICTURES)
    assert list(made) == ["bicubic", "Lanczos", "upsampler"]
    for name, of in made.items():
        assert of.shape == (3, 18, 18, 3) and of.dtype == np.uint8, name
    wanted = np.asarray(Image.fromarray(PICTURES[1]).resize((18, 18), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(made["Lanczos"][1], wanted)
    assert np.abs(made["upsampler"].astype(int) - made["bicubic"]).max() <= 1, "untrained, it is the bicubic one"


def test_tiles_are_cut_row_by_row():
    cut = tiles(PICTURES, 2)
    assert cut.shape == (27, 2, 2, 3)
    for number, (picture, row, column) in enumerate(np.ndindex(3, 3, 3)):
        np.testing.assert_array_equal(cut[number], PICTURES[picture, 2 * row:2 * row + 2, 2 * column:2 * column + 2])
    with pytest.raises(ValueError, match="tile_px = 4 must divide 6"):
        tiles(PICTURES, 4)


def test_distances_of_pictures_and_of_their_tiles():
    """One tile of nine is 90 brighter in red: so is the picture, by 10; a picture compared with itself is at 0."""
    true = np.full((2, 6, 6, 3), 100, np.uint8)
    copies = true.copy()
    copies[1, 2:4, 4:6, 0] += 90
    found = compare(Mean(), copies, true, 2)
    assert found.feature_distance.tolist() == pytest.approx([0, 10], abs=1e-4)
    assert found.detail_distance.tolist() == pytest.approx([0, 10], abs=1e-4)
    assert found.psnr_db[1] == pytest.approx(10 * np.log10(255 ** 2 / (90 ** 2 / 27)))
    copies[1, 0:2, 0:2, 0] -= 90  # the means are equal again, the tiles are not
    found = compare(Mean(), copies, true, 2)
    assert found.feature_distance[1] == pytest.approx(0, abs=1e-4) and found.detail_distance[1] == pytest.approx(20)


def test_statistics_are_means_over_the_rows_that_are_drawn():
    of = mean_statistics(pd.DataFrame({"a": [1, 2, 6], "b": [True, False, False]}))
    assert of["a"](np.array([0, 2, 2])) == pytest.approx(13 / 3) and of["b"](np.array([0, 1])) == 0.5
