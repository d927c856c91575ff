"""kdlib.models.discrete.tokenizer: look-up against exhaustive search in NumPy, round trips, errors, files, pixels."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.data.pixels import to_pil
from kdlib.models.discrete.tokenizer import Tokenizer, TokenizerConfig

CONFIG = TokenizerConfig(size_px=16, num_codes=11, code_dim=5, width=3, num_downsamplings=2)


def make_tokenizer(seed=0, config=CONFIG):
    torch.manual_seed(seed)
    return Tokenizer(config).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="module")
def images():
    return torch.rand(7, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def random_codes(seed, batch=3):
    return torch.randint(CONFIG.num_codes, (batch, 16), generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 99), batch=st.integers(0, 3), length=st.sampled_from([0.1, 1.0, 30.0]))
@settings(max_examples=30, deadline=None)
def test_nearest_is_the_largest_cosine(tokenizer, seed, batch, length):
    latents = np.random.default_rng(seed).standard_normal((batch, 5, 4, 4)) * length
    codes = tokenizer.nearest(torch.tensor(latents, dtype=torch.float32))
    book = tokenizer.network.quantize.embedding.weight.detach().double().numpy()
    assert codes.shape == (batch, 16) and codes.dtype == torch.int64
    for picture, own in zip(latents, codes.numpy(), strict=True):
        for position, code in enumerate(own):  # row by row
            spot = picture[:, position // 4, position % 4]
            cosines = [spot @ word / np.linalg.norm(spot) / np.linalg.norm(word) for word in book]
            assert code == np.argmax(cosines)


def test_nearest_is_float32_under_autocast():
    tokenizer = make_tokenizer(config=TokenizerConfig(16, 997, 3, 3, 2))  # so many codes that bfloat16 would miss some
    latents = torch.nn.functional.normalize(torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    with torch.autocast("cpu", torch.bfloat16):
        codes = tokenizer.nearest(latents)
    assert torch.equal(codes, tokenizer.nearest(latents))


@given(seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_a_code_is_the_nearest_to_its_own_vector(tokenizer, seed):
    codes = random_codes(seed)
    vectors = tokenizer.look_up(codes)
    assert vectors.shape == (3, 5, 4, 4)
    np.testing.assert_allclose(vectors.norm(dim=1).detach(), 1, atol=1e-5)
    assert torch.equal(tokenizer.nearest(vectors), codes)
    assert torch.equal(tokenizer.nearest(3 * vectors), codes)


def test_look_up_puts_codes_row_by_row(tokenizer):
    codes = random_codes(1)
    vectors, book = tokenizer.look_up(codes), tokenizer.codebook()
    for position in range(16):
        assert torch.equal(vectors[:, :, position // 4, position % 4], book[codes[:, position]])


def test_sizes(tokenizer):
    assert (tokenizer.size_px, tokenizer.grid, tokenizer.num_positions, tokenizer.num_codes) == (16, 4, 16, 11)
    assert make_tokenizer(config=TokenizerConfig(24, 7, 3, 4, 3)).grid == 3


def test_encode_and_decode(tokenizer, images):
    codes = tokenizer.encode(images)
    assert codes.shape == (7, 16) and codes.dtype == torch.int64
    assert codes.min() >= 0 and codes.max() < 11
    copies = tokenizer.decode(codes)
    assert copies.shape == images.shape and copies.dtype == torch.float32 and not copies.requires_grad
    assert copies.abs().max() <= 1
    np.testing.assert_allclose(tokenizer.decode(codes[[4, 2]]), copies[[4, 2]], atol=1e-5)
    assert torch.equal(tokenizer.encode(images[[5]]), codes[[5]])


def test_latents_are_unit_vectors(tokenizer, images):
    latents = tokenizer.latents(images)
    assert latents.shape == (7, 5, 4, 4)
    np.testing.assert_allclose(latents.norm(dim=1).detach(), 1, atol=1e-5)


def test_a_code_changes_the_picture_where_it_lies():
    tokenizer = make_tokenizer(config=TokenizerConfig(64, 11, 5, 3, 2))
    tokenizer.network.decoder.mid_block.attentions = torch.nn.ModuleList([torch.nn.Identity()])
    norms = [m for m in tokenizer.modules() if isinstance(m, torch.nn.GroupNorm)]
    for norm in norms:  # attention and group norms see everything; without them, a change stays near its place
        norm.forward = lambda x: x
    codes = torch.zeros(1, 256, dtype=torch.int64)
    other = codes.clone()
    other[0, 3 * 16 + 12] = 5  # row 3, column 12 of the grid of 16 x 16
    with torch.no_grad():
        change = (tokenizer.reconstruct(tokenizer.look_up(other)) - tokenizer.reconstruct(tokenizer.look_up(codes)))[0]
    down, right = divmod(change.abs().sum(0).argmax().item(), 64)
    assert abs(down - 3.5 * 4) < 16 and abs(right - 12.5 * 4) < 16


@pytest.mark.parametrize("shape", [(2, 3, 16, 8), (2, 3, 32, 32)])
def test_pictures_of_another_size_are_refused(tokenizer, shape):
    with pytest.raises(ValueError, match="resize them to 16 x 16"):
        tokenizer.encode(torch.zeros(shape))


@pytest.mark.parametrize("bad", [-1, 11])
def test_codes_that_do_not_exist_are_refused(tokenizer, bad):
    codes = random_codes(0)
    codes[1, 3] = bad
    with pytest.raises(ValueError, match=f"{bad}.*this tokenizer has 0 .. 10"):
        tokenizer.decode(codes)


@pytest.mark.parametrize("size, halvings", [(18, 2), (16, 0), (15, 1)])
def test_sizes_that_do_not_divide_are_refused(size, halvings):
    with pytest.raises(ValueError, match=f"size_px = {size} can't be halved {halvings} times"):
        Tokenizer(TokenizerConfig(size, 7, 3, 4, halvings))


# --- files ---------------------------------------------------------------------------------------------------------

def test_files(tokenizer, images, tmp_path):
    tokenizer.save(tmp_path / "first")
    first = Tokenizer.load(tmp_path / "first")
    first.save(tmp_path / "second")
    second = Tokenizer.load(tmp_path / "second")
    assert first.config == CONFIG and first.identity == second.identity
    original = tokenizer.state_dict()
    for name, tensor in first.state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, original[name].half().float()), name
    codes = first.encode(images)
    assert torch.equal(second.encode(images), codes) and torch.equal(second.decode(codes), first.decode(codes))
    assert not first.training and not any(p.requires_grad for p in first.parameters())


def test_identity_tells_weights_apart(tokenizer):
    assert make_tokenizer(0).identity == tokenizer.identity != make_tokenizer(1).identity


def test_foreign_files_are_refused(tokenizer, tmp_path):
    with pytest.raises(FileNotFoundError, match="no saved tokenizer"):
        Tokenizer.load(tmp_path)
    tokenizer.save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "kind": "sticker-encoder"}))
    with pytest.raises(ValueError, match="'sticker-encoder', not a 'tokenizer'"):
        Tokenizer.load(tmp_path / "model")


# --- pixels --------------------------------------------------------------------------------------------------------

def test_to_pil_exact_values():
    levels = torch.arange(256, dtype=torch.float32).reshape(1, 1, 16, 16)
    images = torch.cat([levels, 255 - levels, torch.zeros_like(levels)], 1) / 127.5 - 1
    (picture,) = to_pil(images)
    pixels = np.asarray(picture)
    assert picture.mode == "RGB" and picture.size == (16, 16)
    assert np.array_equal(pixels[..., 0].ravel(), np.arange(256))
    assert np.array_equal(pixels[..., 1].ravel(), np.arange(256)[::-1]) and (pixels[..., 2] == 0).all()


def test_to_pil_clips_and_keeps_sides_apart():
    images = torch.zeros(2, 3, 5, 7)
    images[0, 0], images[0, 1], images[1] = 1.7, -3.0, 0.5
    first, second = to_pil(images)
    assert first.size == (7, 5)  # PIL says width first
    assert first.getpixel((6, 4)) == (255, 0, 128) and second.getpixel((0, 0)) == (191, 191, 191)
