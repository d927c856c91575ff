"""kdlib.evaluation.edits: closed forms and plain loops; what leaves all as it is, and what is the answer itself."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest

from kdlib.evaluation import edits as module
from kdlib.evaluation.edits import (
    SSIM_PX,
    SSIM_SIGMA,
    changed_area,
    directions,
    measure_edits,
    psnr_where,
    ssim_map,
    ssim_where,
    summarise,
)
from kdlib.evaluation.judge import Judge

SIZE = 24


def flat(*levels):
    return np.stack([np.full((SIZE, SIZE, 3), level, np.uint8) for level in levels])


def left_half(count):
    where = np.zeros((count, SIZE, SIZE), bool)
    where[:, :, :SIZE // 2] = True
    return where


def test_psnr_is_the_closed_form_over_the_pixels_told_and_blind_to_the_others():
    pictures, others = flat(100, 7, 7), flat(110, 7, 7)
    others[1, :, SIZE // 2:] = 255
    found = psnr_where(pictures, others, left_half(3))
    np.testing.assert_allclose(found[:2], [10 * np.log10(255 ** 2 / 100), 10 * np.log10(255 ** 2 / 1e-3)])
    assert psnr_where(pictures, others, ~left_half(3))[1] < 1
    assert np.isnan(psnr_where(pictures, others, np.zeros((3, SIZE, SIZE), bool))).all()


def test_ssim_of_flat_pictures_is_its_closed_form():
    c1 = (0.01 * 255) ** 2
    wanted = (2 * 100 * 130 + c1) / (100 ** 2 + 130 ** 2 + c1)
    np.testing.assert_allclose(ssim_map(flat(100)[0], flat(130)[0]), wanted, rtol=1e-9)


def test_ssim_is_a_plain_loop_over_the_window():
    random = np.random.default_rng(0)
    x, y = (np.repeat(random.integers(0, 256, (SIZE, SIZE, 1), dtype=np.uint8), 3, -1) for _ in range(2))
    reach = np.arange(SSIM_PX) - SSIM_PX // 2
    window = np.exp(-(reach[:, None] ** 2 + reach ** 2) / (2 * SSIM_SIGMA ** 2))
    window /= window.sum()
    cut = (slice(10 - 5, 10 + 6), slice(13 - 5, 13 + 6), 0)
    a, b = x[cut].astype(float), y[cut].astype(float)
    mean_a, mean_b = (window * a).sum(), (window * b).sum()
    var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
    both = (window * (a - mean_a) * (b - mean_b)).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    wanted = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a ** 2 + mean_b ** 2 + c1) * (var_a + var_b + c2))
    assert ssim_map(x, y)[10, 13] == pytest.approx(wanted, rel=1e-6)
    assert ssim_where(x[None], x[None], left_half(1))[0] == pytest.approx(1)


def test_the_changed_area_is_what_differs_and_a_pixel_around():
    sources, targets = flat(200), flat(200)
    targets[0, 5, 6, 1] = 150
    targets[0, 15, 15] = 190  # too little to count
    expected = np.zeros((SIZE, SIZE), bool)
    expected[4:7, 5:8] = True
    np.testing.assert_array_equal(changed_area(sources, targets)[0], expected)


def test_directions():
    source, target = np.zeros((4, 2)), np.array([[2.0, 0]] * 3 + [[0, 0]])
    edited = np.array([[1.0, 0], [0, 3], [0, 0], [1, 1]])
    np.testing.assert_allclose(directions(edited, source, target), [1, 0, 0, 0])
    assert directions(np.array([[-1.0, 1]]), source[:1], target[:1])[0] == pytest.approx(-1 / np.sqrt(2))


class MeanJudge(Judge):
    """Features are mean colours."""

    def __init__(self):
        torch.nn.Module.__init__(self)

    def features(self, pictures, batch_size=256):
        return pictures.mean((1, 2)).astype(np.float32)


@pytest.fixture
def judged(monkeypatch):
    """`measure_edits` with a judge of mean colours, on three edits from greys to others."""
    monkeypatch.setattr(module, "verdicts", lambda judge, found, concepts, texts: pd.DataFrame(
        {"top5": [concept == "known" for concept in concepts], "alignment": np.arange(len(texts)) / 10}))
    sources, targets = flat(200, 200, 200), flat(200, 200, 200)
    targets[:, :8, :8] = [[[[250]]], [[[150]]], [[[20]]]]
    told = ["known", "other", "known"], ["a", "b", "c"]
    call = lambda edited: measure_edits(MeanJudge(), edited, sources, targets, *told)
    return call, sources, targets


def test_the_picture_as_it_is_and_the_answer_itself(judged):
    call, sources, targets = judged
    as_it_is, answer = call(sources), call(targets)
    assert not as_it_is.nearer.any() and answer.nearer.all()
    assert (as_it_is.direction == 0).all() and np.allclose(answer.direction, 1)
    assert np.allclose(answer.distance, 0) and (as_it_is.distance > 0).all()
    assert np.allclose(as_it_is.psnr_kept, 10 * np.log10(255 ** 2 / 1e-3)) and np.allclose(answer.ssim_kept, 1)
    assert list(answer.top5) == [True, False, True]


def test_half_way_is_nearer_and_harm_elsewhere_shows(judged):
    call, sources, targets = judged
    half = ((sources.astype(int) + targets) // 2).astype(np.uint8)
    assert call(half).nearer.all()
    half[:, 12:, 12:] = 100
    harmed = call(half)
    assert (harmed.psnr_kept < 30).all() and (harmed.ssim_kept < 0.99).all()


def test_a_summary_has_exact_shares_and_leaves_out_what_is_no_number():
    table = pd.DataFrame({"nearer": [True, False, True, True], "psnr_kept": [10.0, np.nan, 20.0, 30.0],
                          "ssim_kept": [np.nan] * 4})
    found = summarise(table, 50, 0)
    exact = binomtest(3, 4).proportion_ci(0.95, method="exact")
    assert tuple(found["nearer"]) == pytest.approx((0.75, exact.low, exact.high))
    assert found["psnr_kept"].value == 20 and 10 <= found["psnr_kept"].low <= found["psnr_kept"].high <= 30
    assert "ssim_kept" not in found
