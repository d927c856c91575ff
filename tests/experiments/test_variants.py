"""kdlib.experiments.variants: what training pictures are shown with, what an ablation may change, what is drawn."""

import inspect
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.data.dataset import DataSet
from kdlib.experiments import variants
from kdlib.experiments.variants import (
    SAMPLING,
    ablation_settings,
    draw_variant,
    left_out_of_neighbours,
    plain_settings,
    train_variant,
    training_settings,
)
from kdlib.models.discrete.backbone import DiscreteBackbone
from kdlib.params import load_params
from kdlib.pipeline import Pipeline
from kdlib.retrieval import Index, save_embeddings
from kdlib.training.denoiser import train_denoiser
from kdlib.training.views import Views
from kdlib.types import Embeddings
from tests.test_pipeline import ColourEncoder, ColourTokenizer, make_denoiser, parts_are_colours, sticker_embeddings

ROOT = Path(__file__).resolve().parents[2]
CONCEPTS = ["apple", "bee", "apple", "cat", "bee", "apple", "dog", "cat", "emu", "elk", "fox"]


def toy_index(seed: int) -> Index:
    """Eleven pictures of seven concepts, ids not in the order of the rows."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(len(CONCEPTS), 5))
    ids = np.array([f"set:{number:02d}" for number in random.permutation(len(CONCEPTS))])
    return Index(Embeddings((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), ids, "e"))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 99), k=st.integers(1, 8), exclude=st.sampled_from(["self", "concept"]))
def test_the_neighbours_of_a_picture_are_the_nearest_of_what_is_left(seed, k, exclude):
    index = toy_index(seed)
    ids, vectors = index.embeddings.ids, index.embeddings.vectors.astype(np.float64)
    expected = []
    for row in range(len(ids)):
        own = {row} if exclude == "self" else {other for other, name in enumerate(CONCEPTS) if name == CONCEPTS[row]}
        left = set(range(len(ids))) - own
        expected.append([ids[other] for other in sorted(left, key=lambda other: -vectors[row] @ vectors[other])[:k]])
    left_out = left_out_of_neighbours(ids, CONCEPTS, exclude)
    assert index.search(vectors, k, exclude=left_out).ids.tolist() == expected


def test_only_these_two_can_be_left_out():
    with pytest.raises(ValueError, match="exclude = 'style' must be 'self' or 'concept'"):
        left_out_of_neighbours(toy_index(0).embeddings.ids, CONCEPTS, "style")


@pytest.fixture
def root(tmp_path):
    table = {"presets": ["toy"], "ablations": {"mine": {"k": 3, "exclude": "concept"}},
             "toy": {"seed": 4, "k": 7, "variant": {"num_steps": 5, "learning_rate": 0.1, "num_prompts": 2,
                                                    "num_seeds": 1, "num_draws": 9, "guidance_scale": 2.0}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(table))
    return tmp_path


def test_an_ablation_is_ours_with_its_changes(root):
    plain = plain_settings("toy", root)
    training = {"exclude": "self", "lessons": "plain", "k": 7, "seed": 4, "conditioning": "ours", "num_steps": 5,
                "learning_rate": 0.1}
    assert plain == {**training, "num_prompts": 2, "num_seeds": 1, "num_draws": 9, "guidance_scale": 2.0}
    assert ablation_settings("toy", "mine", root) == {**plain, "k": 3, "exclude": "concept"}
    assert training_settings(plain) == training


@pytest.mark.parametrize("changes, message", [
    ({"kk": 3}, "changes 'kk'; it can change exclude, lessons, k, seed, conditioning, guidance_scale, learning_rate, "
                "num_steps"),
    ({"num_prompts": 1}, "changes 'num_prompts'"), ({"learning_rate": "1e-4"}, r"'1e-4'; it takes the type of 0.1"),
    ({"k": True}, "k is True"), ({"k": 3.0}, "k is 3.0"), (None, "is None; write what it changes"), ({}, "is {}")])
def test_what_an_ablation_cannot_be_is_said(root, changes, message):
    table = load_params(root)
    table["ablations"]["mine"] = changes
    (root / "params.yaml").write_text(yaml.safe_dump(table))
    with pytest.raises(ValueError, match=f"ablations.mine.*{message}"):
        ablation_settings("toy", "mine", root)


def test_an_unknown_ablation_lists_the_known(root):
    with pytest.raises(ValueError, match="no 'yours' among its ablations: mine"):
        ablation_settings("toy", "yours", root)


def test_the_real_ablations_are_what_the_training_and_the_sampling_take():
    told = inspect.signature(train_denoiser).parameters.values()
    takes = {one.name for one in told if one.kind is one.KEYWORD_ONLY} - {"num_codes", "tokenizer_id"}
    takes |= {"k", "exclude", "lessons"}  # for the neighbours
    table = load_params(ROOT)
    for preset in table["presets"]:
        for name in table["ablations"]:
            settings = ablation_settings(preset, name, ROOT)
            assert settings != plain_settings(preset, ROOT), f"{name} changes nothing at preset {preset}"
            assert set(training_settings(settings)) == takes and set(SAMPLING) < set(settings)


def test_a_variant_draws_with_the_preset_s_other_parts_and_a_seed_for_each_draw(tmp_path, monkeypatch):
    """Beside a pipeline whose denoiser is the variant's."""
    parts_are_colours(monkeypatch)
    settings = {"k": 2, "num_steps": 4, "guidance_scale": 2.0}
    encoder, index, denoiser = ColourEncoder(), Index(sticker_embeddings()), make_denoiser()
    backbone = DiscreteBackbone(denoiser, ColourTokenizer())
    Pipeline(encoder, index, backbone, settings).save_pretrained(tmp_path / "saved")
    for parameter in denoiser.parameters():
        parameter.data.neg_()
    denoiser.save(tmp_path / "mine" / "model")
    drawn = draw_variant(str(tmp_path / "saved"), ["red", "green frog"], tmp_path / "mine", tmp_path, k=2, num_seeds=3,
                         sampling_steps=4, guidance_scale=2.0, seed=5)
    pipe = Pipeline(encoder, index, DiscreteBackbone(denoiser, ColourTokenizer()), settings)
    _, condition = pipe.retrieve(["red", "green frog"])
    for number, pictures in enumerate(drawn):
        for picture, other in zip(pictures, pipe.generate(condition, seed=5 + number), strict=True):
            np.testing.assert_array_equal(picture, other)
    assert len(drawn) == 3 and any(a.tobytes() != b.tobytes() for a, b in zip(drawn[0], drawn[1], strict=True))


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """A root in which all that a variant needs was made, with k = 2, and what its training is given.

    a and b are near each other and of one concept, c and d, too; a and c are of one style, b and d of another.
    """
    reports, found = tmp_path / "reports" / "toy", SimpleNamespace(root=tmp_path)
    parts_are_colours(monkeypatch)
    monkeypatch.setattr(ColourTokenizer, "num_codes", 7, raising=False)
    monkeypatch.setattr(variants, "train_denoiser", lambda *given, **named: pd.DataFrame([vars(found).update(
        given=given, named=named)]))
    table = pd.DataFrame({"id": list("cbda"), "concept": ["cat", "apple", "cat", "apple"],
                          "style": ["noto", "twemoji", "twemoji", "noto"]})  # in another order than the embeddings
    monkeypatch.setattr(variants, "training_set", lambda preset, root: DataSet(table, np.zeros((4, 5, 7, 3), np.uint8)))
    (tmp_path / "params.yaml").write_text("toy: {k: 2}\n")
    (reports / "tokenizer" / "model").mkdir(parents=True)
    on_circle = lambda degrees: np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], 1)
    vectors = np.stack([on_circle(of) for of in ([0, 10, 40, 55], [-5, 12, 38, 60], [3, 9, 41, 52], [1, 8, 44, 57])])
    found.views = Views(np.arange(48).reshape(4, 4, 3), vectors.astype(np.float16))
    found.views.save(reports / "views" / "views")
    found.neighbours = np.random.default_rng(0).integers(0, 4, (4, 4, 2)).astype(np.int32)
    np.save(reports / "views" / "neighbours.npy", found.neighbours)
    embeddings = Embeddings(vectors[0].astype(np.float32), np.array(list("abcd")), "e")
    save_embeddings(reports / "views" / "training_set", embeddings)
    return found


def test_a_variant_is_trained_on_the_preset_s_views_and_the_neighbours_that_were_found_for_them(stages, monkeypatch):
    monkeypatch.setattr(variants, "training_set", None)  # not even looked at
    train_variant("toy", stages.root / "mine", stages.root, k=2, exclude="self", lessons="style", width=16, seed=3)
    views, embeddings, neighbours, folder = stages.given
    np.testing.assert_array_equal(views.codes, stages.views.codes)
    np.testing.assert_array_equal(views.vectors, stages.views.vectors)
    np.testing.assert_array_equal(neighbours, stages.neighbours)
    assert embeddings.ids.tolist() == list("abcd") and folder == stages.root / "mine"
    assert stages.named == {"num_codes": 7, "tokenizer_id": "greys", "width": 16, "seed": 3}


@pytest.mark.parametrize("preset_k, exclude, among_all", [(2, "self", [[1], [0], [3], [2]]),
                                                          (2, "concept", [[2], [2], [1], [1]]),
                                                          (1, "concept", [[2], [2], [1], [1]])])
def test_neighbours_that_were_not_found_yet_are_found_for_either_half(stages, preset_k, exclude, among_all):
    (stages.root / "params.yaml").write_text(f"toy: {{k: {preset_k}}}\n")
    train_variant("toy", stages.root / "mine", stages.root, k=1, exclude=exclude, lessons="style")
    in_style = [[2], [3], [0], [1]]
    assert stages.given[2].tolist() == [among_all, among_all, in_style, in_style]


@pytest.mark.parametrize("k", [2, 1])
def test_plain_lessons_are_the_first_half(stages, k):
    train_variant("toy", stages.root / "mine", stages.root, k=k, exclude="self")
    views, _, neighbours, _ = stages.given
    np.testing.assert_array_equal(views.codes, stages.views.codes[:2])
    np.testing.assert_array_equal(views.vectors, stages.views.vectors[:2])
    assert neighbours.tolist() == (stages.neighbours[:2] if k == 2 else np.array([[[1], [0], [3], [2]]] * 2)).tolist()


def test_other_lessons_are_refused(stages):
    with pytest.raises(ValueError, match="lessons = 'sideways' must be"):
        train_variant("toy", stages.root / "mine", stages.root, k=2, exclude="self", lessons="sideways")
    assert not hasattr(stages, "given")
