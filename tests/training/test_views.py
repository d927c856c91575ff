"""kdlib.training.views: a changed picture, codes and embeddings of a view; style and neighbours against NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.data.augment import change
from kdlib.models.discrete.tokenizer import Tokenizer, TokenizerConfig, encode_view
from kdlib.retrieval import Index
from kdlib.training.loop import step_generator
from kdlib.training.views import (
    Views,
    lesson_neighbours,
    make_views,
    style_neighbours,
    view_neighbours,
    view_pictures,
    with_style_lessons,
    without_style,
)
from kdlib.types import Embeddings
from tests.test_pipeline import ColourEncoder

SIZE = 16


def blot(colour):
    """A square of a colour in the middle of white ground."""
    picture = np.full((SIZE, SIZE, 3), 255, np.uint8)
    picture[5:11, 5:11] = colour
    return picture


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 99))
def test_a_changed_picture_is_the_drawing_elsewhere_on_white_in_its_colours_or_their_order(seed):
    shown = np.stack([blot((200, 120, 40))] * 40)
    changed = change(shown, step_generator(seed, 0))
    assert changed.shape == shown.shape and changed.dtype == np.uint8
    np.testing.assert_array_equal(changed, change(shown, step_generator(seed, 0)))
    assert (changed[:, 0, 0] == 255).all() and (changed[:, -1, -1] == 255).all()
    inks = (255 - changed.astype(int)).sum((1, 2))
    plain = (255 - shown[0].astype(int)).sum((0, 1))
    for ink in inks:
        size = ink.sum() / plain.sum()
        assert 1.12 ** -2 - 0.06 < size < 0.9 ** -2 + 0.06
        np.testing.assert_allclose(np.sort(ink) / ink.sum(), np.sort(plain) / plain.sum(), atol=0.02)
    recoloured = (inks.argsort(1) != plain.argsort()).any(1).mean()
    assert 0.05 < recoloured < 0.7  # two fifths, of which a sixth keeps its order
    centres = (255 - changed.astype(float)).sum(3)
    across = (centres.sum(1) * np.arange(SIZE)).sum(1) / centres.sum((1, 2)) - (SIZE - 1) / 2
    assert np.abs(across).max() <= 0.1 * SIZE / 2 / 0.9 + 0.1 and np.abs(across).max() > 0.2


def test_half_are_mirrored():
    half = np.full((200, SIZE, SIZE, 3), 255, np.uint8)
    half[:, :, :8] = 0
    changed = change(half, step_generator(0, 0))
    left = changed[:, :, 2:5].mean((1, 2, 3)) < 128
    right = changed[:, :, -5:-2].mean((1, 2, 3)) < 128
    assert (left ^ right).all() and 0.4 < left.mean() < 0.6


def test_codes_and_vectors_are_of_the_same_view():
    pictures = np.stack([blot(colour) for colour in [(255, 0, 0), (0, 200, 0), (30, 60, 250)]])
    tokenizer = Tokenizer(TokenizerConfig(size_px=SIZE, num_codes=40, code_dim=4, width=4, num_downsamplings=2))
    views = make_views(tokenizer, ColourEncoder(), pictures, 2, seed=5)
    assert views.codes.shape == (4, 3, 16) and views.vectors.shape[:2] == (4, 3) and views.vectors.dtype == np.float16
    changed = [change(pictures, step_generator(5, number)) for number in (0, 1)]
    shown = [pictures, np.ascontiguousarray(pictures[:, :, ::-1]), *changed]
    for number, of in enumerate(shown):
        np.testing.assert_array_equal(views.vectors[number], ColourEncoder().encode_images(of).astype(np.float16))
        np.testing.assert_array_equal(views.codes[number], encode_view(tokenizer, of))


def test_saved_views_come_back(tmp_path):
    views = Views(np.arange(12).reshape(2, 3, 2), np.ones((2, 3, 4), np.float16))
    views.save(tmp_path / "views")
    again = Views.load(tmp_path / "views")
    np.testing.assert_array_equal(again.codes, views.codes)
    np.testing.assert_array_equal(again.vectors, views.vectors)
    with pytest.raises(FileNotFoundError):
        Views.load(tmp_path)


def test_codes_and_vectors_of_different_views_are_refused():
    with pytest.raises(ValueError, match=r"codes \(2, 3, 2\) and vectors \(1, 3, 4\) are not of the same views"):
        Views(np.zeros((2, 3, 2), int), np.ones((1, 3, 4), np.float16))


def test_the_pictures_of_views_are_plain_mirrored_and_changed_each_in_its_own_way():
    shown = np.stack([blot((200, 120, 40))] * 7)
    shown[:, :, :3] = 0  # a left side that is no right side
    plain, mirrored, *changed = view_pictures(shown, 2, 5)
    np.testing.assert_array_equal(plain, shown)
    np.testing.assert_array_equal(mirrored[:, :, ::-1], shown)
    for number, view in enumerate(changed):
        np.testing.assert_array_equal(view, change(shown, step_generator(5, number)))
    assert (changed[0] != changed[1]).any()


# --- neighbours, and lessons in following a style ------------------------------------------------------------------

NUM_VIEWS, NUM_PICTURES, DIM, POSITIONS, K = 3, 17, 5, 7, 2
STYLES = list("abacbabcabcacbaca")  # 7, 5 and 5


def toy(seed: int) -> tuple[Views, Index, list]:
    """Views, an index of the first of them with ids in no order, and what each picture leaves out: it and another."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((NUM_VIEWS, NUM_PICTURES, DIM)) + 0.5
    vectors = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float16)
    ids = np.array([f"set:{number:02d}" for number in random.permutation(NUM_PICTURES)])
    views = Views(random.integers(0, 99, (NUM_VIEWS, NUM_PICTURES, POSITIONS)).astype(np.uint16), vectors)
    return views, Index(Embeddings(vectors[0], ids, "e")), [{id, random.choice(ids)} for id in ids]


def nearest(index: Index, queries: np.ndarray, left_out: list, own_style: bool) -> list:
    """The rows of the K greatest cosines, of those that a picture doesn't leave out, found by looking at all."""
    unit = lambda x: x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=-1, keepdims=True)
    cosines, found = unit(queries) @ unit(index.embeddings.vectors).T, []
    for of_view in cosines:
        found.append([sorted((row for row in range(NUM_PICTURES) if index.ids[row] not in left_out[picture]
                              and (STYLES[row] == STYLES[picture] or not own_style)), key=lambda row: -of[row])[:K]
                     for picture, of in enumerate(of_view)])
    return found


@settings(max_examples=10)
@given(seed=st.integers(0, 99))
def test_neighbours_are_the_nearest_rows_of_what_is_left_over_all_or_of_the_own_style(seed):
    views, index, left_out = toy(seed)
    found = view_neighbours(index, views.vectors, K, left_out)
    assert found.dtype == np.int32 and found.tolist() == nearest(index, views.vectors, left_out, own_style=False)
    found = style_neighbours(index, views.vectors, K, left_out, STYLES)
    assert found.dtype == np.int32 and found.tolist() == nearest(index, views.vectors, left_out, own_style=True)
    assert (np.array(STYLES)[found] == np.array(STYLES)[:, None]).all()


@settings(max_examples=10)
@given(seed=st.integers(0, 99))
def test_without_its_style_every_style_has_the_mean_of_all(seed):
    vectors = toy(seed)[0].vectors.astype(np.float32)
    mean_of = lambda rows: np.mean([vectors[view, row] for view in range(NUM_VIEWS) for row in rows], 0, dtype=float)
    rows_of = {style: [row for row in range(NUM_PICTURES) if STYLES[row] == style] for style in "abc"}
    shift = {style: mean_of(range(NUM_PICTURES)) - mean_of(rows) for style, rows in rows_of.items()}
    moved = np.array([[vectors[view, row] + shift[STYLES[row]] for row in range(NUM_PICTURES)]
                      for view in range(NUM_VIEWS)])
    for rows in rows_of.values():
        np.testing.assert_allclose(moved[:, rows].mean((0, 1)), vectors.mean((0, 1)), atol=1e-6)
    found = without_style(vectors, np.array(STYLES))
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(found, moved / np.linalg.norm(moved, axis=-1, keepdims=True), atol=1e-5)


def test_lessons_are_the_views_and_again_without_their_style_and_with_neighbours_of_it():
    views, index, left_out = toy(0)
    lessons = with_style_lessons(views, STYLES)
    assert lessons.codes.tolist() == views.codes.tolist() * 2 and lessons.codes.dtype == np.uint16
    assert lessons.vectors.dtype == np.float16 and lessons.vectors.shape == (6, NUM_PICTURES, DIM)
    np.testing.assert_array_equal(lessons.vectors[:NUM_VIEWS], views.vectors)
    bare = without_style(views.vectors.astype(np.float32), STYLES)
    np.testing.assert_allclose(lessons.vectors[NUM_VIEWS:], bare, atol=1e-3)
    neighbours = lesson_neighbours(index, lessons, K, left_out, STYLES)
    assert neighbours[:NUM_VIEWS].tolist() == nearest(index, views.vectors, left_out, own_style=False)
    assert neighbours[NUM_VIEWS:].tolist() == nearest(index, lessons.vectors[NUM_VIEWS:], left_out, own_style=True)
