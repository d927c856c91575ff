"""The five conditionings of section 6.3, the null condition, and the denoiser as a folder."""

import json
from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.models.condition import Condition
from kdlib.models.conditioning import CONDITIONERS, drop_condition, make_conditioner
from kdlib.models.discrete.denoiser import PAPER_SIZES, ConditionedDenoiser, DenoiserConfig
from kdlib.models.discrete.process import Schedule, predict_x0, sample_ancestral, training_loss

SETS = ["ours", "self_attention", "cross_attention"]  # treat the neighbours as a set


def condition(batch=3, k=5, dim=7, seed=0) -> Condition:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.nn.functional.normalize(torch.randn(batch, k + 1, dim, generator=generator), dim=-1)
    return Condition(vectors[:, 0], vectors[:, 1:])


def denoiser(conditioning="ours", **changes) -> ConditionedDenoiser:
    """A small denoiser with open gates, as after training."""
    torch.manual_seed(0)
    sizes = dict(num_codes=11, num_positions=9, width=6, num_blocks=2, num_heads=3, context_dim=8, embedding_dim=7, k=5,
                 schedule=Schedule(100).to_dict(), encoder_id="an encoder", tokenizer_id="a tokenizer")
    model = ConditionedDenoiser(DenoiserConfig(conditioning=conditioning, **(sizes | changes)))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


CODES = torch.arange(27).view(3, 9) % 12
TIMES = torch.tensor([1, 50, 100])


@pytest.mark.parametrize("name, tokens", [("ours", 6), ("self_attention", 6), ("cross_attention", 1), ("concat", 2),
                                          ("no_knn", 1)])
def test_number_of_tokens(name, tokens):
    assert make_conditioner(name, 7, 8, 5)(condition()).shape == (3, tokens, 8)


def test_an_unknown_conditioning_is_named_with_the_choice():
    with pytest.raises(ValueError, match="'pooled'.*ours, self_attention"):
        make_conditioner("pooled", 7, 8, 5)


def test_ours_keeps_the_query_apart_from_its_neighbours():
    module = make_conditioner("ours", 7, 8, 5)
    y = condition(k=1)
    swapped = Condition(y.neighbours[:, 0], y.query[:, None])
    assert not torch.allclose(module(y).sum(1), module(swapped).sum(1))


def test_features_have_about_unit_variance_at_the_start():
    tokens = make_conditioner("ours", 512, 256, 10)(condition(batch=5, k=10, dim=512))
    assert 0.3 < tokens.std() < 1.5


def test_cross_attention_pools_by_the_formula():
    torch.manual_seed(0)
    module, y = make_conditioner("cross_attention", 7, 8, 5).double(), condition().to(torch.float64)
    query = module.embed.query(y.query * 7 ** 0.5)
    near = module.embed.neighbours(y.neighbours * 7 ** 0.5)
    key, value = module.attention.kv(near).chunk(2, -1)
    rms = lambda x: x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    weights = (torch.einsum("bw,bkw->bk", rms(module.attention.q(query)), rms(key)) / 8 ** 0.5).softmax(-1)
    pooled = query + module.attention.out(torch.einsum("bk,bkw->bw", weights, value))
    torch.testing.assert_close(module(y)[:, 0], pooled)


@pytest.mark.parametrize("name", SETS)
@settings(max_examples=5, deadline=None)
@given(order=st.permutations(range(5)))
def test_order_of_neighbours_does_nothing(name, order):
    model, y = denoiser(name), condition()
    shuffled = Condition(y.query, y.neighbours[:, order])
    torch.testing.assert_close(model(CODES, TIMES, y), model(CODES, TIMES, shuffled))


def test_order_of_neighbours_matters_to_concat_and_none_to_no_knn():
    y = condition()
    shuffled = Condition(y.query, y.neighbours.flip(1))
    assert not torch.allclose(denoiser("concat")(CODES, TIMES, y), denoiser("concat")(CODES, TIMES, shuffled))
    others = Condition(y.query, condition(seed=1).neighbours)
    assert torch.equal(denoiser("no_knn")(CODES, TIMES, y), denoiser("no_knn")(CODES, TIMES, others))


@pytest.mark.parametrize("name", [*SETS, "no_knn"])
@pytest.mark.parametrize("k", [0, 1, 20, 1000])
def test_any_number_of_neighbours_after_training_with_five(name, k):
    logits = denoiser(name)(CODES, TIMES, condition(k=k))
    assert logits.shape == (3, 9, 11) and logits.isfinite().all()


def test_concat_takes_exactly_its_k():
    with pytest.raises(ValueError, match="exactly 5 neighbours and got 3"):
        denoiser("concat")(CODES, TIMES, condition(k=3))


@pytest.mark.parametrize("name", CONDITIONERS)
@pytest.mark.parametrize("qk_norm", [False, True])
def test_null_condition_equals_no_cross_attention(name, qk_norm):
    model, y = denoiser(name, qk_norm=qk_norm), condition()
    assert not model.conditioner(y.null()).any()
    null = model(CODES, TIMES, y.null())
    assert not torch.equal(null, model(CODES, TIMES, y))
    for block in model.transformer.blocks:
        block.cross_attention.forward = lambda x, context: torch.zeros_like(x)
    assert torch.equal(null, model(CODES, TIMES, y))


def test_guidance_scale_1_is_the_plain_prediction_and_0_the_null_one():
    model, y, where = denoiser(), condition(), CODES == 11
    plain = model(CODES, TIMES, y)[where].log_softmax(-1)
    null = model(CODES, TIMES, y.null())[where].log_softmax(-1)
    assert torch.equal(predict_x0(model, CODES, TIMES, y, where, guidance_scale=1.0), plain)
    torch.testing.assert_close(predict_x0(model, CODES, TIMES, y, where, guidance_scale=0.0), null)


def test_drop_condition_nulls_whole_rows_as_often_as_asked():
    y = condition(batch=5000)
    dropped = drop_condition(y, 0.2, torch.Generator().manual_seed(0))
    gone = (dropped.query == 0).all(1)
    assert torch.equal(gone, (dropped.neighbours == 0).all(2).all(1))
    assert torch.equal(dropped.query[~gone], y.query[~gone])
    assert torch.equal(dropped.neighbours[~gone], y.neighbours[~gone])
    assert abs(gone.float().mean() - 0.2) < 0.03
    assert torch.equal(drop_condition(y, 0.0).query, y.query) and not drop_condition(y, 1.0).neighbours.any()


@pytest.mark.parametrize("name", CONDITIONERS)
def test_a_few_steps_of_training_lower_the_loss(name):
    torch.manual_seed(0)
    config = DenoiserConfig(num_codes=7, num_positions=9, width=24, num_blocks=1, num_heads=3, embedding_dim=5, k=2,
                            schedule=Schedule(20).to_dict(), conditioning=name)
    model, generator = ConditionedDenoiser(config), torch.Generator().manual_seed(0)
    y, codes = condition(batch=11, k=2, dim=5), torch.randint(0, 7, (11, 9), generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    losses = []
    for _ in range(150):
        loss = training_loss(model.schedule, model, codes, y, 7, generator=generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])
    made = sample_ancestral(model, model.schedule, y, 7, 9, 20, generator=generator)
    assert (made == codes).float().mean() > 0.5  # it has learned which picture goes with which condition


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 0), (torch.float16, 2e-2)])
def test_saved_and_loaded_it_predicts_the_same(tmp_path, dtype, tolerance):
    model, y = denoiser("self_attention", qk_norm=True), condition()
    model.save(tmp_path / "model", dtype)
    loaded = ConditionedDenoiser.load(tmp_path / "model")
    assert loaded.config == model.config and loaded.schedule == model.schedule and not loaded.training
    assert next(loaded.parameters()).dtype == torch.float32
    torch.testing.assert_close(loaded(CODES, TIMES, y), model(CODES, TIMES, y), atol=tolerance, rtol=tolerance)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config == {"kind": "discrete-denoiser", **asdict(model.config)}


def test_a_foreign_folder_is_refused(tmp_path):
    denoiser().save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"kind": "unet"}))
    with pytest.raises(ValueError, match="'unet', not a 'discrete-denoiser'"):
        ConditionedDenoiser.load(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"width": 12}))
    with pytest.raises(ValueError, match="does not fit"):
        ConditionedDenoiser.load(tmp_path / "model")


def test_paper_denoiser_is_400_million_within_2_percent():
    with torch.device("meta"):
        model = ConditionedDenoiser(DenoiserConfig(**PAPER_SIZES, schedule=Schedule(1000).to_dict()))
        logits = model(torch.zeros(2, 1024, dtype=torch.long), torch.ones(2), Condition(torch.zeros(2, 512),
                                                                                        torch.zeros(2, 10, 512)))
    assert logits.shape == (2, 1024, 2887)
    assert abs(sum(p.numel() for p in model.parameters()) / 400e6 - 1) < 0.02
