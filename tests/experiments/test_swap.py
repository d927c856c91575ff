"""kdlib.experiments.swap: which pictures an index of a style holds, and what counts as following it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from kdlib.data.dataset import DataSet
from kdlib.evaluation.judge import Judge
from kdlib.experiments.session import Session
from kdlib.experiments.swap import followed, named_styles, style_indexes
from kdlib.pipeline import Pipeline
from kdlib.retrieval import Index, open_embeddings, save_embeddings
from kdlib.types import Embeddings

# three drawings of openmoji that may be in its index, and five that may not; fxemoji has two
DRAWINGS = [("openmoji:a", "openmoji", "train", ""), ("openmoji:b", "openmoji", "train", ""),
            ("openmoji:c", "openmoji", "train", ""), ("openmoji:c-dark", "openmoji", "train", "dark"),
            ("openmoji:d", "openmoji", "test", ""), ("noto:a", "noto", "train", ""),
            ("fxemoji:a", "fxemoji", "train", ""), ("fxemoji:b", "fxemoji", "train", ""),
            ("noto:d", "noto", "test", "")]


class ToySession(Session):
    prompts = ["one", "two", "three"]

    def __init__(self, folder, stickers):
        self.folder, self.stickers = lambda stage: folder / stage, stickers


class ToyJudge(Judge):
    """Finds in a picture the style whose number is its grey."""

    def __init__(self, *styles):
        self.styles, self.style = list(styles), lambda features: torch.eye(len(styles))[features[:, 0].long()]

    def features(self, pictures):
        return np.array([[np.asarray(picture)[0, 0]] for picture in pictures], np.float32)


class ToyPipeline(Pipeline):
    """Draws greys: those that are told for the index."""

    def __init__(self, own, drawn):
        self.encoder, self.settings = SimpleNamespace(identity="e"), {"k": 2}
        self.index, self.drawn, self.asked = own, drawn, []

    def retrieve(self, prompts, k=None, index=None):
        return None, "own" if index is self.index else index.ids[index.allowed][0].partition(":")[0]

    def generate(self, condition, num_steps=None, guidance_scale=None, seed=0):
        self.asked.append((condition, num_steps, seed))
        return greys(self.drawn[condition])


def greys(levels):
    return [Image.new("L", (2, 2), level) for level in levels]


@pytest.fixture
def session(tmp_path):
    """Its pictures lie in another order than the embeddings."""
    table = pd.DataFrame(DRAWINGS[::-1], columns=["id", "style", "split", "skin_tone"])
    vectors = np.random.default_rng(0).normal(size=(len(DRAWINGS), 5))
    save_embeddings(tmp_path / "index" / "embeddings", Embeddings(
        (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32),
        np.array([id for id, *_ in DRAWINGS]), "e"))
    return ToySession(tmp_path, DataSet(table, np.zeros((len(table), 2, 2, 3), np.uint8)))


@pytest.mark.parametrize("k, wanted", [
    (2, {"openmoji": {"openmoji:a", "openmoji:b", "openmoji:c"}, "fxemoji": {"fxemoji:a", "fxemoji:b"}}),
    (3, {"openmoji": {"openmoji:a", "openmoji:b", "openmoji:c"}}), (4, {})])
def test_an_index_of_a_style_holds_its_drawings_of_training_concepts_in_one_tone(k, wanted, session):
    indexes = style_indexes(session, "e", k)
    assert {style: set(index.ids[index.allowed]) for style, index in indexes.items()} == wanted


def test_styles_are_named_by_the_judge():
    assert named_styles(ToyJudge("noto", "openmoji", "fxemoji"), greys([2, 0, 1, 1])).tolist() == [
        "fxemoji", "noto", "openmoji", "openmoji"]


def test_a_drawing_follows_if_it_is_in_the_style_of_the_index_that_it_comes_from(session):
    """From openmoji's index 1, 1, 0 are drawn, from fxemoji's 2, 0, 2, from the own one 1, 2, 2."""
    drawn = {"openmoji": [1, 1, 0], "fxemoji": [2, 0, 2], "own": [1, 2, 2]}
    session.judge = ToyJudge("noto", "openmoji", "fxemoji")
    pipe = ToyPipeline(Index(open_embeddings(session.folder("index") / "embeddings")), drawn)
    in_style, by_chance = followed(session, pipe, 7, 11)
    rows = {style: row for row, style in enumerate(style_indexes(session, "e", 2))}
    assert in_style[rows["openmoji"]].tolist() == [True, True, False]
    assert in_style[rows["fxemoji"]].tolist() == [True, False, True]
    assert by_chance[rows["openmoji"]].tolist() == [True, False, False]
    assert by_chance[rows["fxemoji"]].tolist() == [False, True, True]
    assert {(steps, seed) for _, steps, seed in pipe.asked} == {(7, 11)}
    assert {name for name, *_ in pipe.asked} == set(drawn)
