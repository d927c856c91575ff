"""benchmarks.frequent_codes: the choice against a loop in NumPy; weight 0 is the nearest code."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.frequent_codes import FrequentCodes, choose_codes, log_shares, settle
from kdlib.data.pixels import normalise_pixels
from kdlib.models.discrete.tokenizer import Tokenizer, TokenizerConfig


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return Tokenizer(TokenizerConfig(size_px=16, num_codes=11, code_dim=5, width=3, num_downsamplings=2)).eval()


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)


def unit(rng, *shape):
    vectors = rng.standard_normal(shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 99), weight=st.sampled_from([0.0, 0.01, 0.3, 5.0]))
def test_the_choice_weighs_cosine_against_surprise(seed, weight):
    rng = np.random.default_rng(seed)
    latents, codebook, shares = unit(rng, 3, 7, 5), unit(rng, 11, 5), rng.dirichlet(np.ones(11))
    chosen = choose_codes(*(torch.tensor(a, dtype=torch.float64) for a in (latents, codebook, np.log(shares))), weight)
    best = [[max(range(11), key=lambda v, x=x: x @ codebook[v] + weight * np.log(shares[v])) for x in row]
            for row in latents]
    assert chosen.tolist() == best


def test_shares_are_counted_and_a_code_that_is_not_used_keeps_a_finite_price():
    shares = log_shares(torch.tensor([[0, 0, 2], [2, 0, 4]]), 5).exp().numpy()
    np.testing.assert_allclose(shares, np.array([3, 0.5, 2, 0.5, 1]) / 7, rtol=1e-6)


def test_weight_0_is_the_tokenizers_own_choice(tokenizer, pictures):
    own = tokenizer.encode(normalise_pixels(torch.from_numpy(pictures)))
    np.testing.assert_array_equal(FrequentCodes(tokenizer, pictures, 0.0).encode(pictures), own)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 99), weight=st.sampled_from([0.01, 0.05, 0.2]))
def test_a_round_never_raises_what_is_paid(seed, weight):
    """Choosing is best for the shares, and counting is best for the choice, so the sum of both costs only falls."""
    rng = np.random.default_rng(seed)
    latents, codebook = torch.tensor(unit(rng, 40, 3, 4)), torch.tensor(unit(rng, 9, 4))
    paid = []
    for rounds in range(5):
        shares = settle(latents, codebook, weight, rounds).double()
        chosen = choose_codes(latents, codebook, shares, weight)
        counted = torch.bincount(chosen.flatten(), minlength=9) / chosen.numel()
        entropy = -(counted[counted > 0] * counted[counted > 0].log()).sum()
        paid.append(float(1 - (latents * codebook[chosen]).sum(-1).mean() + weight * entropy))
    assert all(later <= earlier + weight * 0.02 for earlier, later in zip(paid, paid[1:], strict=False))
    assert paid[-1] <= paid[0]


def test_a_negative_weight_is_refused(tokenizer, pictures):
    with pytest.raises(ValueError, match="rate_weight = -0.1"):
        FrequentCodes(tokenizer, pictures, -0.1)
