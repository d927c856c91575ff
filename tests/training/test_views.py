"""kdlib.training.views: a changed picture, codes and embeddings of the same view, neighbours by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.data.augment import change
from kdlib.data.pixels import normalise_pixels
from kdlib.models.discrete.tokenizer import Tokenizer
from kdlib.retrieval import Index
from kdlib.training.loop import step_generator
from kdlib.training.views import Views, make_views, view_neighbours, view_pictures
from kdlib.types import Embeddings
from tests.test_pipeline import ColourEncoder

SIZE = 16


def blot(colour):
    """A square of a colour in the middle of white ground."""
    picture = np.full((SIZE, SIZE, 3), 255, np.uint8)
    picture[5:11, 5:11] = colour
    return picture


class MeanTokenizer(Tokenizer):
    """One code: how red a picture is."""

    def __init__(self):
        pass

    def encode(self, images):
        return (images[:, 0].mean((1, 2), keepdim=True)[..., 0] * 100 + 100).long()


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
    given_codes = np.array([[[1], [2], [3]], [[4], [5], [6]]], np.uint16)
    views = make_views(MeanTokenizer(), ColourEncoder(), pictures, given_codes, 2, seed=5)
    assert views.codes.shape == (4, 3, 1) and views.vectors.shape[:2] == (4, 3) and views.vectors.dtype == np.float16
    np.testing.assert_array_equal(views.codes[:2], given_codes)
    changed = [change(pictures, step_generator(5, number)) for number in (0, 1)]
    shown = [pictures, np.ascontiguousarray(pictures[:, :, ::-1]), *changed]
    for number, of in enumerate(shown):
        np.testing.assert_array_equal(views.vectors[number], ColourEncoder().encode_images(of).astype(np.float16))
        if number >= 2:
            np.testing.assert_array_equal(views.codes[number], MeanTokenizer().encode(
                normalise_pixels(torch.from_numpy(of))))


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


def test_each_view_has_neighbours_of_its_own():
    on_circle = lambda degrees: np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], 1)
    index = Index(Embeddings(on_circle([0, 20, 100]).astype(np.float32), np.array(["a", "b", "c"]), "e"))
    vectors = np.stack([on_circle([0, 20, 100]), on_circle([90, 25, 5])]).astype(np.float16)
    views = Views(np.zeros((2, 3, 1), int), vectors)
    found = view_neighbours(index, views, 1, ["a", "b", "c"])
    assert found.tolist() == [[["b"], ["a"], ["b"]], [["c"], ["a"], ["a"]]]


def test_the_pictures_of_views_are_plain_mirrored_and_changed_each_in_its_own_way():
    shown = np.stack([blot((200, 120, 40))] * 7)
    shown[:, :, :3] = 0  # a left side that is no right side
    plain, mirrored, *changed = view_pictures(shown, 2, 5)
    np.testing.assert_array_equal(plain, shown)
    np.testing.assert_array_equal(mirrored[:, :, ::-1], shown)
    for number, view in enumerate(changed):
        np.testing.assert_array_equal(view, change(shown, step_generator(5, number)))
    assert (changed[0] != changed[1]).any()
