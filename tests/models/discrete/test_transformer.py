"""The discrete network: sizes, AdaLN at zero, null context, any number of context tokens."""

import pytest
import torch

from kdlib.models.attention import Attention, attend
from kdlib.models.discrete.transformer import Transformer, timestep_features


def small(**changes) -> Transformer:
    torch.manual_seed(0)
    sizes = dict(num_codes=11, num_positions=9, width=10, num_blocks=2, num_heads=5, context_dim=6) | changes
    return Transformer(**sizes)


def opened(**changes) -> Transformer:
    """A transformer as after training: gates open."""
    model = small(**changes)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def inputs(batch=3, tokens=4):
    torch.manual_seed(1)
    return torch.randint(0, 12, (batch, 9)), torch.randint(1, 100, (batch,)), torch.randn(batch, tokens, 6)


def test_paper_size_is_400_million_within_2_percent():
    with torch.device("meta"):
        model = Transformer(num_codes=2887, num_positions=1024, width=1024, num_blocks=24, num_heads=16,
                            context_dim=512)
    assert len(model.blocks) == 24
    assert abs(sum(p.numel() for p in model.parameters()) / 400e6 - 1) < 0.02


def test_logits_have_a_column_per_code_and_none_for_the_mask():
    assert small()(*inputs()).shape == (3, 9, 11)


def test_blocks_start_as_identity():
    model = small()
    codes, t, context = inputs()
    by_hand = model.head(model.last_norm(model.codes(codes) + (model.rows + model.columns).flatten(0, 1)))
    torch.testing.assert_close(model(codes, t, context), by_hand)


def test_every_parameter_learns_after_the_gates_have_opened():
    model = small(qk_norm=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(*inputs()).square().sum().backward()
        optimizer.step()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("qk_norm", [False, True])
def test_zero_context_contributes_exactly_nothing(qk_norm):
    model = opened(qk_norm=qk_norm).eval()
    codes, t, context = inputs()
    with_null = model(codes, t, torch.zeros_like(context))
    assert not torch.equal(with_null, model(codes, t, context))
    for block in model.blocks:
        block.cross_attention.forward = lambda x, context: torch.zeros_like(x)
    assert torch.equal(with_null, model(codes, t, context))


def test_context_order_does_not_matter_and_any_number_of_tokens_goes():
    model = opened()
    codes, t, context = inputs(tokens=7)
    torch.testing.assert_close(model(codes, t, context), model(codes, t, context.flip(1)))
    assert model(codes, t, context[:, :1]).shape == model(codes, t, context.repeat(1, 143, 1)).shape


def test_timestep_position_and_codes_matter_and_rows_do_not_mix():
    model = opened()
    codes, t, context = inputs()
    logits = model(codes, t, context)
    assert not torch.allclose(logits, model(codes, t + 1, context))
    assert not torch.allclose(logits, model(codes.flip(1), t, context).flip(1))
    torch.testing.assert_close(logits[1:2], model(codes[1:2], t[1:2], context[1:2]))


@pytest.mark.parametrize("context_width", [None, 6])
def test_attention_equals_the_formula(context_width):
    torch.manual_seed(0)
    layer = Attention(10, num_heads=5, context_width=context_width).double()
    x, context = torch.randn(3, 7, 10).double(), torch.randn(3, 4, 6).double()
    if context_width is None:
        q, k, v = (x @ w.T for w in layer.qkv.weight.chunk(3))
        ours = layer(x)
    else:
        q, k, v = x @ layer.q.weight.T, *(context @ w.T for w in layer.kv.weight.chunk(2))
        ours = layer(x, context)
    heads = []
    for h in range(5):
        part = slice(2 * h, 2 * h + 2)
        heads.append((q[..., part] @ k[..., part].mT / 2 ** 0.5).softmax(-1) @ v[..., part])
    torch.testing.assert_close(ours, torch.cat(heads, -1) @ layer.out.weight.T)


def test_training_and_inference_attend_alike():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 5, 8), torch.randn(3, 2, 7, 8), torch.randn(3, 2, 7, 8)
    q, k, v = (x.bfloat16() for x in (q, k, v))
    with torch.no_grad():
        fused = attend(q, k, v)
    torch.testing.assert_close(attend(q, k, v), fused, atol=0.02, rtol=0.02)


def test_no_dropout_and_no_state_that_evaluation_would_change():
    model = opened()
    assert torch.equal(model.train()(*inputs()), model.eval()(*inputs()))


def test_bfloat16_autocast_stays_near_float32():
    model = opened().eval()
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(*inputs())
    exact = model(*inputs())
    assert (rough - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_timestep_features_tell_every_step_apart():
    features = timestep_features(torch.arange(1, 1001))
    assert features.shape == (1000, 256)
    assert torch.pdist(features).min() > 0.1


@pytest.mark.parametrize("changes, message", [({"num_positions": 7}, "square"), ({"num_heads": 3}, "divide")])
def test_sizes_that_do_not_fit_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)
