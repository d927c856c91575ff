"""kdlib.evaluation.geometry: closed cases, exhaustive sums, estimates that don't grow with noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.evaluation.geometry import angles, modality_gap, pixel_distances, told_apart
from kdlib.evaluation.metrics import bootstrap

seeds = st.integers(0, 999)


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


# --- angles --------------------------------------------------------------------------------------------------------

def test_angles_are_those_of_the_clock():
    hours = np.radians([0, 30, 90, 180])
    hands = np.stack([np.sin(hours), np.cos(hours)], axis=1)
    np.testing.assert_allclose(angles(np.broadcast_to(hands[0], hands.shape), hands), [0, 30, 90, 180], atol=1e-6)
    assert angles(hands.astype(np.float32) * np.float32(1.0000001), hands.astype(np.float32)).max() < 0.05


@given(seed=seeds)
def test_angles_on_a_sphere_obey_the_triangle(seed):
    a, b, c = (rows / np.linalg.norm(rows, axis=-1, keepdims=True) for rows in draw(seed, 3, 5, 7, 3))
    assert angles(a, b).shape == (5, 7)
    assert (angles(a, c) <= angles(a, b) + angles(b, c) + 1e-6).all()


# --- the gap -------------------------------------------------------------------------------------------------------

@given(seed=seeds, rows=st.lists(st.integers(0, 4), min_size=2, max_size=9))
@settings(deadline=None)
def test_the_gap_is_the_sum_over_pairs_of_two_different_rows(seed, rows):
    first, second = draw(seed, 2, 5, 3)
    first = first + 1
    pairs = [(first[i] - second[i]) @ (first[j] - second[j]) for i in rows for j in rows if i != j]
    expected = np.sqrt(max(np.mean(pairs), 0)) if pairs else 0
    assert modality_gap(first, second)(np.array(rows)) == pytest.approx(expected, abs=1e-6)


def test_the_gap_of_a_shifted_cloud_is_the_shift_and_noise_adds_nothing():
    cloud = draw(0, 11, 7)
    assert modality_gap(cloud + 3 * np.eye(7)[2], cloud)(np.arange(11)) == pytest.approx(3)
    squares = [modality_gap(draw(seed, 11, 7) + 1, draw(seed + 1000, 11, 7))(np.arange(11)) ** 2 for seed in range(300)]
    plain = [((draw(seed, 11, 7) + 1 - draw(seed + 1000, 11, 7)).mean(0) ** 2).sum() for seed in range(300)]
    assert np.mean(squares) == pytest.approx(7, abs=0.4) and np.mean(plain) > 8


def test_the_gap_s_bootstrap_lies_around_it():
    """Rows that are drawn twice would pull a plain mean's length up."""
    found = bootstrap(modality_gap(draw(3, 40, 200) / 5 + 0.1, draw(4, 40, 200) / 5), 40, 100, seed=0)
    assert found.low < found.value < found.high
    with pytest.raises(ValueError, match="1 pictures are too few"):
        modality_gap(draw(0, 1, 3), draw(1, 1, 3))


# --- telling apart -------------------------------------------------------------------------------------------------

def test_clouds_that_a_plane_parts_are_told_apart_and_equal_ones_are_guessed():
    cloud, other = draw(0, 2, 50, 7)
    assert told_apart(cloud + 10 * np.eye(7)[1], other).mean() == 1
    np.testing.assert_array_equal(told_apart(cloud, cloud), 0.5)
    assert told_apart(*draw(1, 2, 500, 3)).mean() == pytest.approx(0.5, abs=0.06)


def test_one_shifted_coordinate_is_told_apart_as_often_as_normals_are():
    """Two normals whose means are 2 apart: the best plane is right 84.1% of the time."""
    first, second = draw(2, 2, 2000, 3)
    assert told_apart(first + 2 * np.eye(3)[0], second).mean() == pytest.approx(0.841, abs=0.02)


def test_a_pair_is_never_learned_from_when_it_is_judged():
    """More numbers than pairs: anything could be learned by heart, and nothing is known."""
    assert told_apart(*draw(5, 2, 60, 500)).mean() == pytest.approx(0.5, abs=0.15)
    with pytest.raises(ValueError, match="3 pictures are too few for this; it takes at least 5"):
        told_apart(*draw(0, 2, 3, 7))


# --- pixels --------------------------------------------------------------------------------------------------------

def dots(size, *places):
    """White pictures with one black dot each."""
    pictures = np.full((len(places), size, size, 3), 255, np.uint8)
    for picture, (row, column) in zip(pictures, places, strict=True):
        picture[row, column] = 0
    return pictures


def test_pixel_distances_by_hand():
    found = pixel_distances(dots(11, (3, 3), (5, 5), (7, 2)), dots(11, (3, 3), (4, 4), (5, 3), (7, 2), (0, 0)), 1, 11)
    two_dots = np.sqrt(2 / 121)
    expected = np.full((3, 5), two_dots)
    expected[0, [0, 1]] = expected[1, 1] = expected[2, 3] = 0
    np.testing.assert_allclose(found, expected, atol=2e-3)


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_pixel_distances_equal_numpy_s_without_a_shift(seed):
    random = np.random.default_rng(seed)
    first, second = (random.integers(0, 256, (n, 7, 7, 3)).astype(np.uint8) for n in (3, 5))
    expected = np.sqrt(((first[:, None] / 255 - second[None] / 255) ** 2).mean((2, 3, 4)))
    np.testing.assert_allclose(pixel_distances(first, second, 0, 7), expected, atol=2e-3)
    assert (pixel_distances(first, second, 1, 7) <= expected + 2e-3).all()


def test_pixel_distances_shrink_by_means():
    small = np.random.default_rng(0).integers(0, 256, (3, 5, 5, 3)).astype(np.uint8)
    large = small.repeat(3, axis=1).repeat(3, axis=2)
    np.testing.assert_allclose(np.diag(pixel_distances(large, small, 0, 5)), 0, atol=2e-3)
    black, white = np.zeros((1, 7, 7, 3), np.uint8), np.full((1, 7, 7, 3), 255, np.uint8)
    assert pixel_distances(black, white, 0, 7).item() == pytest.approx(1)
