"""kdlib.training.encoder: the loss against NumPy, the augmentation, recall by brute force, a tiny run."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from kdlib.data.augment import augment
from kdlib.data.pixels import normalise_pixels
from kdlib.encoder import Encoder
from kdlib.encoder.encoder import build_sticker_clip
from kdlib.evaluation.metrics import retrieval_recall
from kdlib.training.encoder import (
    EncoderObjective,
    fit_text_map,
    mean_directions,
    soft_targets,
    train_encoder,
)
from kdlib.training.loop import step_generator

SIZE = 32
CAPTIONS = [["apple", "red apple"], ["cat"], ["dog"], ["cat"], ["flag", "green flag", "banner"]]
GROUPS = [np.array([0]), np.array([1, 3]), np.array([2]), np.array([4])]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_sticker_clip("resnet10t", SIZE)


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)


# --- the loss ------------------------------------------------------------------------------------------------------

def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


@given(seed=st.integers(0, 99), batch=st.integers(1, 5), temperature=st.sampled_from([0.05, 0.1, 1.0]))
@settings(max_examples=20, deadline=None)
def test_soft_targets_are_distributions(seed, batch, temperature):
    random = np.random.default_rng(seed)
    texts = random.standard_normal((7, 3))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    belongs = random.random((batch, 7)) < 0.3
    belongs[:, 2] |= ~belongs.any(1)
    targets = soft_targets(torch.tensor(texts).float(), torch.tensor(belongs), temperature).numpy()
    truth = softmax(np.stack([(texts[own] @ texts.T).mean(0) for own in belongs]) / temperature)
    np.testing.assert_allclose(targets, truth, atol=1e-6)
    np.testing.assert_allclose(targets.sum(-1), 1, atol=1e-6)


def test_the_loss_is_what_the_docstring_says(model, pictures):
    """-log of the probability of any own caption, and the soft version, written out; in evaluation mode."""
    objective = EncoderObjective(model, pictures, [*GROUPS[:1], *GROUPS[2:]], CAPTIONS).eval()  # one picture each
    rows = torch.tensor([2, 0, 1])
    told = objective(rows, step_generator(0, 0))
    replay = step_generator(0, 0)
    torch.rand(len(rows), generator=replay)  # the draw of the pictures
    chosen = [4, 0, 2]
    with torch.no_grad():
        images = augment(normalise_pixels(torch.from_numpy(pictures[chosen])), replay)
        vectors, texts = objective.visual(images).double().numpy(), model.text.proj(objective.texts).double().numpy()
    vectors, texts = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (vectors, texts))
    p = softmax(20 * vectors @ texts.T)
    bank = sorted({"apple", "red apple", "cat", "dog", "flag", "green flag", "banner"})
    own = np.array([[caption in CAPTIONS[picture] for caption in bank] for picture in chosen])
    hard = -np.log((p * own).sum(1)).mean()
    pooled = objective.texts.double().numpy()
    soft = softmax(np.stack([(pooled[o] @ pooled.T).mean(0) for o in own]) / 0.1)
    soft = -(soft * np.log(p)).sum(1).mean()
    assert told["contrast"].item() == pytest.approx(hard, rel=1e-4)
    assert told["loss"].item() == pytest.approx((hard + soft) / 2, rel=1e-4)
    assert told["scale"].item() == pytest.approx(20, rel=1e-5)


def test_one_picture_of_a_group_is_drawn(model, pictures, monkeypatch):
    objective = EncoderObjective(model, pictures, GROUPS, CAPTIONS).eval()
    drawn = []
    monkeypatch.setattr("kdlib.training.encoder.augment", lambda images, generator: drawn.append(images) or images)
    objective(torch.tensor([1] * 20 + [2]), step_generator(0, 0))
    found = [int(np.flatnonzero([torch.equal(image, own) for own in normalise_pixels(objective.pictures)])[0])
             for image in drawn[0]]
    assert set(found[:20]) == {1, 3} and found[20] == 2


def test_only_the_image_tower_the_text_map_and_the_scale_learn(model, pictures):
    objective = EncoderObjective(model, pictures, GROUPS, CAPTIONS)
    objective(torch.arange(4), step_generator(0, 0))["loss"].backward()
    learning = {name.split(".")[0] for name, p in objective.named_parameters() if p.grad is not None}
    assert learning == {"visual", "text_map", "log_scale"}
    assert all(p.grad is None for p in model.text.transformer.parameters())
    model.zero_grad()


# --- augmentation --------------------------------------------------------------------------------------------------

def test_augment_keeps_shape_and_repeats_with_its_generator():
    images = torch.rand(7, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    first, again, other = (augment(images, step_generator(0, step)) for step in (0, 0, 1))
    assert first.shape == images.shape and first.dtype == torch.float32
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len({tuple(picture.flatten().tolist()) for picture in augment(images[:1].repeat(7, 1, 1, 1),
                                                                          step_generator(0, 0))}) == 7


def test_a_white_ground_stays_one_light_colour():
    white = augment(torch.ones(11, 3, 9, 9), step_generator(0, 0)).flatten(2)
    assert (white.amax(-1) - white.amin(-1)).max() < 1e-5  # what moves in from outside is as white as the ground
    assert white.min() > 0.7 - 1e-5 and white.max() < 1.3 + 1e-5


def test_a_drawing_stays_in_the_picture():
    images = torch.ones(50, 3, 32, 32)
    images[:, :, 14:18, 14:18] = -1
    dark = (augment(images, step_generator(0, 0)).mean(1) < 0).flatten(1).sum(1)
    assert (dark >= 16 / 1.25 ** 2 - 6).all() and (dark <= 16 / 0.8 ** 2 + 6).all()


# --- measuring -----------------------------------------------------------------------------------------------------

@given(seed=st.integers(0, 200))
@settings(max_examples=30, deadline=None)
def test_recall_equals_brute_force(seed):
    random = np.random.default_rng(seed)
    concepts = [f"c{n}" for n in random.integers(0, 5, 11)]
    vectors = random.integers(-2, 3, (11, 3)).astype(np.float16)  # many ties: the first row wins
    titles = pd.Series({f"c{n}": f"title {n}" for n in range(5)})
    texts = {title: random.integers(-2, 3, 3).astype(np.float32) for title in titles}
    queries, stickers = np.stack([texts[title] for title in titles]), pd.DataFrame({"concept": concepts})
    found = retrieval_recall(queries, titles, stickers, vectors, at=(1, 3))
    assert list(found.columns) == ["concept", "title", "recall@1", "recall@3"]
    assert found.concept.tolist() == list(titles.index) and found.title.tolist() == list(titles)
    for row in found.itertuples(index=False):
        scores = [float(sum(a * b for a, b in zip(texts[row.title], v, strict=True))) for v in vectors.tolist()]
        ranked = sorted(range(11), key=lambda n: (-scores[n], n))
        assert row[2:] == tuple(row.concept in [concepts[n] for n in ranked[:at]] for at in (1, 3))


def test_recall_by_hand():
    stickers = pd.DataFrame({"concept": ["cat", "dog", "cat", "cow"]})
    vectors = np.array([[1, 0], [0, 1], [0.9, 0.1], [0.5, 0.5]], np.float32)
    texts = {"a cat": np.array([1, 0], np.float32), "a cow": np.array([1, 0], np.float32)}
    titles = pd.Series({"cat": "a cat", "cow": "a cow"})
    found = retrieval_recall(np.stack([texts[title] for title in titles]), titles, stickers, vectors, at=(1, 2, 3))
    assert found[["recall@1", "recall@2", "recall@3"]].to_numpy().tolist() == [[True, True, True], [False, False, True]]


# --- a tiny run ----------------------------------------------------------------------------------------------------

NAMES = ["apple", "cat", "dog", "cat", "flag"]
TABLE = pd.DataFrame({"style": ["noto"] * 4 + ["openmoji"], "concept": NAMES, "title": NAMES,
                      "keywords": ["apple, red apple", "cat", "dog, hound", "cat", "flag"]})


def trained(table, pictures, folder, seed=0):
    """The weights after a tiny run, in which each batch has a picture of each concept."""
    history = train_encoder(table, pictures, folder, vision_model="resnet10t", batch_size=4, num_steps=3,
                            learning_rate=1e-3, num_text_steps=2, seed=seed)
    assert history.step.tolist() == [1, 2, 3] and np.isfinite(history.loss).all()
    return load_file(folder / "model" / "model.safetensors")


def differing(one, other):
    """Which of tower and text map have other weights."""
    names = {name for name in one if not torch.equal(one[name], other[name])}
    return {part for part in ("visual", "text.proj") if any(name.startswith(part) for name in names)}


def test_a_tiny_run_repeats_whatever_the_rows_are_numbered(pictures, tmp_path):
    found = trained(TABLE, pictures, tmp_path / "a")
    again = trained(TABLE.set_index(pd.Index([7, 5, 3, 11, 2])), pictures, tmp_path / "b")
    assert not differing(found, again) and found.keys() == again.keys()
    assert differing(found, trained(TABLE, pictures, tmp_path / "c", seed=1)) == {"visual", "text.proj"}
    encoder = Encoder.load(tmp_path / "a" / "model")
    assert isinstance(encoder.model.visual, nn.Module) and encoder.encode_images(pictures).shape == (5, encoder.dim)


def test_tower_and_text_map_learn_from_all_that_is_given(pictures, tmp_path):
    """The last picture and its name, too: what must not be seen is the caller's business, and no split is asked for."""
    changed, renamed = pictures.copy(), TABLE.copy()
    changed[4] = 0
    renamed.loc[4, ["title", "keywords"]] = "banner"
    found, *others = (trained(*given, tmp_path / name) for name, *given in [
        ("a", TABLE, pictures), ("b", TABLE, changed), ("c", renamed, pictures)])
    assert [differing(found, other) for other in others] == [{"visual", "text.proj"}] * 2


# --- from beside the pictures to among them ------------------------------------------------------------------------

def test_mean_directions_by_hand():
    bank, means = mean_directions([["dog"], ["cat", "a cat"], ["cat"]], np.array([[0, 2.0, 0], [1, 0, 0], [0, 0, 1]]))
    assert bank == ["a cat", "cat", "dog"]
    np.testing.assert_allclose(means.numpy(), [[1, 0, 0], [0.5 ** 0.5, 0, 0.5 ** 0.5], [0, 1, 0]], atol=1e-6)


@pytest.fixture(scope="module")
def clusters():
    """Directions in the plane for texts that lie in four clusters of 16 dimensions: no linear map gives them all."""
    random = np.random.default_rng(0)
    centres = np.linalg.qr(random.standard_normal((16, 2)))[0].T
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) / 2 ** 0.5
    texts = np.repeat(corners @ centres, 8, 0) + 0.02 * random.standard_normal((32, 16))
    targets = np.repeat([[1.0, 0], [0, 1], [0, 1], [1, 0]], 8, 0)  # exclusive or
    return torch.tensor(texts / np.linalg.norm(texts, axis=1, keepdims=True)).float(), torch.tensor(targets).float()


def test_texts_land_on_their_targets_where_no_linear_map_can_bring_them(clusters):
    texts, targets = clusters
    options = {"num_steps": 200, "batch_size": 32, "noise": 0.1}
    first, again, other = (fit_text_map(texts, targets, seed=seed, **options) for seed in (0, 0, 1))
    linear = torch.linalg.lstsq(texts, targets).solution
    assert F.cosine_similarity(texts @ linear, targets).mean() < 0.8
    assert F.cosine_similarity(first(texts), targets).min() > 0.98
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.out.weight, other.out.weight) and not first.out.weight.requires_grad
