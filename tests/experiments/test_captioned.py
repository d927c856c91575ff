"""kdlib.experiments.captioned: whose pictures teach the captioner, and what the decoder is told."""

import numpy as np
import pandas as pd

from kdlib.baselines.captions import Captioner
from kdlib.data.dataset import DataSet
from kdlib.experiments import captioned as module
from kdlib.experiments.captioned import caption_views, captioned_pictures, has_concept, train_on_captions
from kdlib.retrieval import save_embeddings
from kdlib.training.views import Views
from kdlib.types import Embeddings
from tests.test_pipeline import ColourEncoder

COLUMNS = ["id", "title", "keywords", "concept", "style", "split"]


def data_set(rows, **more):
    table = pd.DataFrame(rows, columns=COLUMNS).assign(**more)
    return DataSet(table, np.arange(len(rows) * 12, dtype=np.uint8).reshape(len(rows), 2, 2, 3))


def test_a_caption_has_the_concept_where_one_of_its_names_is_in_it():
    table = pd.DataFrame({"title": ["red apple", "cat", "car", "two hearts"],
                          "keywords": ["red apple, apple", "cat, kitten", "car", "hearts, two hearts"]})
    captions = ["green apple", "kitten", "scarf", "hearts two"]
    assert has_concept(captions, table).tolist() == [True, True, False, True]
    assert has_concept(["red", "cats", "a car", "heart"], table).tolist() == [False, False, True, False]


def test_the_captioner_learns_from_other_artists_and_training_concepts(tmp_path, monkeypatch):
    stickers = data_set([("a", "cat", "cat", "cat", "openmoji", "train"),       # kept
                         ("b", "dog", "dog", "dog", "openmoji", "test"),        # held out
                         ("c", "cat", "cat", "cat", "noto", "train"),           # the generator's style
                         ("d", "boy", "boy", "boy", "fxemoji", "train")],       # a skin tone
                        skin_tone=["", "", "", "dark"])
    world = data_set([("e", "car", "car", "car", "flat-ui", "train"),           # the generator's
                      ("f", "bus", "bus", "bus", "emojione-monotone", "train"),   # kept
                      ("g", "bee", "bee", "bee", "flat-ui", "test")], colour=True)  # held out
    monkeypatch.setattr(module, "load", lambda name, preset, root: {"stickers": stickers, "world": world}[name])
    monkeypatch.setattr(module, "training_set", lambda preset, root: data_set([
        ("c", "cat", "cat", "cat", "noto", "train"), ("e", "car", "car", "car", "flat-ui", "train")]))
    found = captioned_pictures("toy", tmp_path)
    assert found.ids.tolist() == ["a", "f"]
    np.testing.assert_array_equal(found.pictures, np.stack([stickers.pictures[0], world.pictures[1]]))


def save_views(root):
    """A root with views of three pictures: two views, and lessons in style."""
    random = np.random.default_rng(0)
    vectors = random.standard_normal((4, 3, 5)).astype(np.float16)
    stage = root / "reports" / "toy" / "views"
    Views(np.arange(24).reshape(4, 3, 2), vectors).save(stage / "views")
    np.save(stage / "neighbours.npy", random.integers(0, 3, (4, 3, 2)).astype(np.int32))
    unit = random.standard_normal((3, 5)).astype(np.float32)
    save_embeddings(stage / "training_set", Embeddings(unit / np.linalg.norm(unit, axis=1, keepdims=True),
                                                       np.array(list("xyz")), "colours"))
    (root / "params.yaml").write_text("toy: {seed: 3, views: {num_changed: 0}}\n")
    return root


def learned(ids):
    return data_set([(id, "cat", "cat", "cat", "noto", "train") for id in ids])


def test_the_decoder_is_told_the_captions_of_its_own_views(tmp_path, monkeypatch):
    root, given = save_views(tmp_path), {}
    monkeypatch.setattr(module, "Tokenizer", type("Toy", (), {"load": classmethod(lambda cls, folder: cls()),
                                                              "num_codes": 24, "identity": "greys"}))
    monkeypatch.setattr(module, "train_denoiser", lambda *told, **named: given.update(told=told, named=named) or
                        pd.DataFrame())
    captions = np.array([["red apple", "green frog", "red frog"], ["blue sea", "red apple", "sea"]])
    encoder = ColourEncoder()
    train_on_captions("toy", captions, encoder, root / "mine", root, width=8, seed=1)
    views, embeddings, neighbours, folder = given["told"]
    saved = Views.load(root / "reports/toy/views/views")
    np.testing.assert_array_equal(views.codes, saved.codes[:2])
    for view, row in np.ndindex(2, 3):
        expected = encoder.encode_texts([str(captions[view, row])])[0].astype(np.float16)
        np.testing.assert_array_equal(views.vectors[view, row], expected)
    np.testing.assert_array_equal(neighbours, np.load(root / "reports/toy/views/neighbours.npy")[:2])
    assert folder == root / "mine" and embeddings.ids.tolist() == list("xyz")
    assert given["named"] == {"num_codes": 24, "tokenizer_id": "greys", "conditioning": "no_knn", "width": 8, "seed": 1}


def test_each_view_has_its_own_caption():
    class Reader(Captioner):
        def __init__(self):
            pass

        def caption(self, embeddings):
            return [f"{value:.0f}" for value in embeddings[:, 0]]

    found = caption_views(Reader(), np.arange(12, dtype=np.float32).reshape(2, 3, 2))
    assert found.tolist() == [["0", "2", "4"], ["6", "8", "10"]]
