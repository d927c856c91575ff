"""kdlib.experiments.databases: which pictures are in a part, what an engine's finds become, what counts as in style."""

import numpy as np
import pytest
from PIL import Image

from kdlib.experiments.databases import best_and_worst, beyond, found_by_engine, in_one_of
from kdlib.pipeline import Pipeline
from kdlib.retrieval import Index
from kdlib.retrieval.engines import FoundPicture
from kdlib.types import Embeddings
from tests.experiments.test_swap import ToyJudge, greys
from tests.test_pipeline import ColourEncoder


def test_the_fifths_by_score():
    vectors = np.eye(10, dtype=np.float32)
    index = Index(Embeddings(vectors, np.array([f"p{n}" for n in range(10)]), "e"))
    scores = np.array([3.0, 9, 1, 7, 0, 5, 2, 8, 4, 6])
    parts = best_and_worst(index, scores)
    assert set(index.ids[parts["highest"].allowed]) == {"p1", "p7"}
    assert set(index.ids[parts["lowest"].allowed]) == {"p4", "p2"}


class ColourPipeline(Pipeline):
    def __init__(self, k):
        self.encoder, self.settings = ColourEncoder(), {"k": k}


class Shop:
    """Has pictures of some colours for every text, and none of a unicorn."""

    def __init__(self, *colours):
        self.colours = colours

    def search_images(self, text, n):
        return [] if text == "unicorn" else [
            FoundPicture(colour, Image.new("RGB", (6, 6), colour), colour, "an author", "MIT", "a shop")
            for colour in self.colours[:n]]


def test_what_an_engine_finds_conditions_nearest_first():
    pipe = ColourPipeline(3)
    nearest, condition = found_by_engine(pipe, ["red", "blue"], Shop("blue", "lime", "red", "black"))
    assert [picture.getpixel((0, 0)) for picture in nearest] == [(255, 0, 0), (0, 0, 255)]
    assert condition.query.numpy() == pytest.approx(pipe.encoder.encode_texts(["red", "blue"]))
    embed = lambda *colours: pipe.encoder.encode_images([Image.new("RGB", (6, 6), colour) for colour in colours])
    assert condition.neighbours[0].numpy() == pytest.approx(embed("red", "blue", "lime"))
    assert condition.neighbours[1].numpy() == pytest.approx(embed("blue", "lime", "red"))


def test_fewer_finds_are_repeated_and_none_are_an_error():
    pipe = ColourPipeline(5)
    _, condition = found_by_engine(pipe, ["red"], Shop("blue", "red"))
    near = condition.neighbours[0].numpy()
    assert (near[0] == near[2]).all() and (near[1] == near[3]).all() and (near[0] == near[4]).all()
    assert not np.allclose(near[0], near[1])
    with pytest.raises(ValueError, match="Shop found no picture for 'unicorn'"):
        found_by_engine(pipe, ["red", "unicorn"], Shop("red"))


def test_what_is_in_style():
    judge = ToyJudge("noto", "openmoji", "fxemoji")
    assert in_one_of(judge, ["noto", "fxemoji"])(greys([2, 1, 0])).tolist() == [True, False, True]
    level = lambda pictures: pictures[:, 0, 0].astype(float)
    assert beyond(level, 5.0, 1)(greys([4, 5, 6])).tolist() == [False, False, True]
    assert beyond(level, 5.0, -1)(greys([4, 5, 6])).tolist() == [True, False, False]
