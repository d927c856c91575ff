"""kdlib.models.edit.pairs: a known warp is undone, outside of M nothing changes, M is as large as told; seeds."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.models.edit.pairs import (
    AREA,
    MIN_CORRELATION,
    SHAPES,
    align,
    correlation,
    drawing_area,
    first_aligned,
    local_area,
    make_pair,
    pair_generator,
    shape_sizes,
)

SIZE = 48


def blots(seed=0, matrix=((1, 0), (0, 1)), shift=(0, 0)):
    """Coloured Gaussian blots on white, seen through x -> matrix x + shift around the middle: an exact warp."""
    random = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), -1) - SIZE / 2
    places = places @ np.transpose(matrix) + shift
    picture = np.full((SIZE, SIZE, 3), 255.0)
    for centre, width, colour in zip(random.uniform(-11, 11, (6, 2)), random.uniform(2.5, 5, 6),
                                     random.uniform(60, 200, (6, 3)), strict=True):
        picture -= np.exp(-((places - centre) ** 2).sum(-1) / (2 * width ** 2))[..., None] * colour
    return picture.clip(0, 255).round().astype(np.uint8)


def disc(radius=15, colour=(200, 30, 30), at=(24, 24)):
    picture = np.full((SIZE, SIZE, 3), 255, np.uint8)
    return cv2.circle(picture, at, radius, colour, -1)


@pytest.mark.parametrize("matrix, shift", [(((1, 0), (0, 1)), (2.3, -1.6)),
                                           (((1.08, 0.06), (-0.05, 0.94)), (0.7, 1.4))])
def test_a_known_affine_warp_is_undone_to_sub_pixels(matrix, shift):
    picture, warped = blots(), blots(matrix=matrix, shift=shift)
    aligned = align(warped, picture)
    assert aligned.before == pytest.approx(np.corrcoef(picture.ravel(), warped.ravel())[0, 1], abs=1e-9)
    assert aligned.after == pytest.approx(np.corrcoef(picture.ravel(), aligned.picture.ravel())[0, 1], abs=1e-9)
    off_by_half_a_pixel = blots(shift=(0.5, 0))
    error = lambda other: np.abs(other.astype(float) - picture).mean()
    assert error(aligned.picture) < 0.5 * error(off_by_half_a_pixel) < 0.5 * error(warped)


def test_what_does_not_fit_is_no_alignment():
    assert align(np.full((SIZE, SIZE, 3), 255, np.uint8), blots()) is None  # nothing to climb along
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    assert align(noise, blots()) is None and correlation(noise, blots()) < MIN_CORRELATION


def test_white_inside_of_a_drawing_is_of_it():
    picture = disc()
    cv2.circle(picture, (24, 24), 6, (255, 255, 255), -1)
    np.testing.assert_array_equal(drawing_area(picture), drawing_area(disc()))
    cv2.rectangle(picture, (23, 0), (25, 47), (255, 255, 255), -1)  # a way in from the edge
    assert not drawing_area(picture)[24, 24]
    full = np.zeros((SIZE, SIZE, 3), np.uint8)
    assert drawing_area(full).all()


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(4, 20))
def test_the_area_covers_a_tenth_to_six_tenths_of_the_drawing(seed, radius):
    picture = disc(radius)
    area, drawing = local_area(picture, np.random.default_rng(seed)), (picture < 250).any(-1)
    assert AREA[0] <= (area & drawing).sum() / drawing.sum() <= AREA[1]


def test_all_three_shapes_occur_and_shares_spread_over_the_whole_range():
    areas = [local_area(disc(), np.random.default_rng(seed)) for seed in range(200)]
    inside = disc()[..., 1] < 250
    shares = np.array([(area & inside).sum() / inside.sum() for area in areas])
    assert shares.min() < 0.15 and shares.max() > 0.55 and abs(shares.mean() - np.mean(AREA)) < 0.03
    boxes = sum(area.sum() == area.any(1).sum() * area.any(0).sum() for area in areas)
    assert 200 / len(SHAPES) / 2 < boxes < 200 / len(SHAPES) * 1.5


def test_a_shape_grows_without_holes():
    for seed in range(9):
        sizes = shape_sizes((SIZE, SIZE), np.array([20.3, 27.1]), np.random.default_rng(seed))
        for size in np.quantile(sizes, [0.05, 0.2, 0.4]):
            assert cv2.connectedComponents((sizes <= size).astype(np.uint8), connectivity=4)[0] == 2


def test_outside_of_the_area_nothing_changes():
    picture, aligned = blots(), blots(shift=(2, 1), matrix=((1.05, 0), (0, 1)))
    pair = make_pair(picture, aligned, np.random.default_rng(3))
    outside = ~pair.area
    np.testing.assert_array_equal(pair.manipulated[outside], picture[outside])
    np.testing.assert_array_equal(pair.manipulated[pair.area], aligned[pair.area])
    np.testing.assert_array_equal(pair.local[pair.area], picture[pair.area])
    assert (pair.local[outside] == 255).all() and (pair.manipulated[pair.area] != picture[pair.area]).any()


def test_the_first_neighbour_that_can_be_aligned_is_taken():
    picture, white = blots(), np.full((SIZE, SIZE, 3), 255, np.uint8)
    found = first_aligned([white, white, blots(shift=(1, 1)), picture], picture)
    assert found.place == 2
    np.testing.assert_array_equal(found.picture, align(blots(shift=(1, 1)), picture).picture)
    assert first_aligned([white], picture) is None


def test_the_same_seed_and_id_give_the_same_pair():
    pair = lambda *key: make_pair(blots(), blots(shift=(1, 1)), pair_generator(*key)).manipulated.tobytes()
    assert pair(0, "a:b", 1) == pair(0, "a:b", 1)
    assert len({pair(0, "a:b"), pair(0, "a:b", 1), pair(1, "a:b"), pair(0, "a:c")}) == 4


def test_a_picture_without_a_drawing_is_refused():
    with pytest.raises(ValueError, match="all white"):
        make_pair(np.full((SIZE, SIZE, 3), 255, np.uint8), blots(), np.random.default_rng(0))
    dot = np.full((SIZE, SIZE, 3), 255, np.uint8)
    dot[3, 3] = 0
    with pytest.raises(ValueError, match="covers 1 pixels, too few"):
        local_area(dot, np.random.default_rng(0))
