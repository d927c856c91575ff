"""kdlib.models.discrete.vqgan against diffusers' VQModel: names, first weights, outputs and gradients, to the byte."""

import pytest
import torch
from diffusers import VQModel

from kdlib.models.discrete.vqgan import VQGAN

NUM_CODES, CODE_DIM = 11, 5
SIZES = pytest.mark.parametrize("levels, width", [(2, 16), (3, 16), (2, 48), (3, 3)])


def make_pair(levels, width, training=True):
    """Both from the same seed."""
    widths, groups = [width * (i + 1) for i in range(levels)], min(16, width)
    torch.manual_seed(0)
    own = VQGAN(12, widths, groups, NUM_CODES, CODE_DIM).train(training)
    torch.manual_seed(0)
    theirs = VQModel(in_channels=12, out_channels=12, block_out_channels=tuple(widths), layers_per_block=1,
                     latent_channels=widths[-1], down_block_types=("DownEncoderBlock2D",) * levels,
                     up_block_types=("UpDecoderBlock2D",) * levels, num_vq_embeddings=NUM_CODES,
                     vq_embed_dim=CODE_DIM, norm_num_groups=groups, mid_block_add_attention=True).train(training)
    return own, theirs


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@SIZES
def test_names_their_order_and_first_weights(levels, width):
    own, theirs = (dict(network.named_parameters()) for network in make_pair(levels, width))
    assert list(own) == list(theirs) and len(own) > 50  # the order in which optimisers and norms go through them
    for name, weight in own.items():
        assert torch.equal(weight, theirs[name]), name
    assert not list(make_pair(levels, width)[0].buffers())
    assert "quantize.embedding.weight" in own


def check_equal(own, theirs, batch, side, dtype=None):
    """Outputs of both halves, joined as in training, and all gradients."""
    images, results = draw(batch, 12, side, side), []
    for network in (own, theirs):
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            if network is own:
                latents = own.encode(images)
                copies = own.decode(torch.nn.functional.normalize(latents.float(), dim=1))
            else:
                latents = theirs.encode(images).latents
                vectors = torch.nn.functional.normalize(latents.float(), dim=1)
                copies = theirs.decode(vectors, force_not_quantize=True).sample
        (copies.float() - images).square().mean().backward()
        results.append((latents, copies))
    for mine, other in zip(*results, strict=True):
        assert mine.dtype == other.dtype and mine.stride() == other.stride() and torch.equal(mine, other)
    gradients = {name: weight.grad for name, weight in theirs.named_parameters()}
    for name, weight in own.named_parameters():
        if name != "quantize.embedding.weight":  # the look-up is the tokenizer's
            assert weight.grad.abs().sum() > 0 and torch.equal(weight.grad, gradients[name]), name


@pytest.mark.parametrize("training", [True, False])
@SIZES
def test_outputs_and_gradients(levels, width, training):
    check_equal(*make_pair(levels, width, training), batch=3, side=8)


@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_gradients_of_a_large_batch(training):
    check_equal(*make_pair(2, 16, training), batch=64, side=4)


@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_gradients_under_autocast(training):
    check_equal(*make_pair(2, 16, training), batch=3, side=8, dtype=torch.bfloat16)


def test_outputs_without_gradients():
    own, theirs = make_pair(3, 16, training=False)
    with torch.no_grad():
        latents = own.encode(draw(3, 12, 8, 8))
        assert torch.equal(latents, theirs.encode(draw(3, 12, 8, 8)).latents)
        assert torch.equal(own.decode(latents), theirs.decode(latents, force_not_quantize=True).sample)
