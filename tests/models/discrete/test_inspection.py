"""Looking inside changes nothing, and shows what the network itself computes."""

import numpy as np
import pytest
import torch

from kdlib.models.condition import Condition
from kdlib.models.discrete.denoiser import ConditionedDenoiser, DenoiserConfig
from kdlib.models.discrete.inspection import (
    attention_map,
    attention_maps,
    great_circle,
    influence,
    look_at,
    watch_sampling,
    without_neighbour,
)
from kdlib.models.discrete.process import Schedule, sample_ancestral

V, POSITIONS, K = 7, 9, 4


def trained(uniform_share=1e-6, **changes) -> ConditionedDenoiser:
    """A denoiser as after training: gates open."""
    torch.manual_seed(0)
    config = DenoiserConfig(V, POSITIONS, width=10, num_blocks=3, num_heads=5, embedding_dim=6, k=K, context_dim=8,
                            schedule=Schedule(20, uniform_share=uniform_share).to_dict(), **changes)
    model = ConditionedDenoiser(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


@pytest.fixture(params=[False, True], ids=["plain", "qk_norm"])
def denoiser(request):
    return trained(qk_norm=request.param)


def condition(batch=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    unit = lambda *shape: torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)
    return Condition(unit(batch, 6), unit(batch, K, 6))


def dice(seed=3):
    return torch.Generator().manual_seed(seed)


# --- beliefs -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_watching_draws_the_same_picture_and_the_last_belief_is_it(denoiser, scale):
    looks = watch_sampling(denoiser, condition(), 5, scale, dice())
    drawn = sample_ancestral(denoiser, denoiser.schedule, condition(), V, POSITIONS, 5, guidance_scale=scale,
                             generator=dice())[0]
    assert [look.t for look in looks] == [20, 16, 12, 8, 4, 0]
    assert torch.equal(looks[-1].codes, drawn) and torch.equal(looks[-1].best_guess, drawn)
    assert looks[0].masked.all() and not looks[-1].masked.any() and not looks[-1].entropy.any()
    for look, after in zip(looks, looks[1:], strict=False):
        assert torch.equal(look.codes[~look.masked], after.codes[~look.masked]), "a code that is there stays"
        assert not look.entropy[~look.masked].any() and torch.equal(look.best_guess[~look.masked],
                                                                    look.codes[~look.masked])


def test_a_belief_is_what_the_network_says_guided(denoiser):
    codes, y = torch.tensor([V, 2, V, 5, V, V, 0, V, V]), condition()
    t = torch.tensor([11])
    given, null = (denoiser(codes[None], t, one)[0].log_softmax(-1) for one in (y, y.null()))
    expected = (null + 3 * (given - null)).log_softmax(-1)
    look = look_at(denoiser, codes, 11, y, guidance_scale=3.0)
    masked = codes == V
    torch.testing.assert_close(look.log_p[masked], expected[masked])
    p = look.log_p[masked].exp().double().detach().numpy()
    np.testing.assert_allclose(look.entropy[masked], -(p * np.log(p)).sum(1), rtol=1e-5)
    assert look.log_p[1].exp().tolist() == [0, 0, 1, 0, 0, 0, 0]


def test_what_can_not_be_watched_is_said():
    with pytest.raises(ValueError, match="uniform_share is 0.1"):
        watch_sampling(trained(uniform_share=0.1), condition(), 3)
    with pytest.raises(ValueError, match="there are 2 conditions; watch one"):
        watch_sampling(trained(), condition(2), 3)


# --- attention -----------------------------------------------------------------------------------------------------

def test_rows_of_attention_sum_to_one_and_leave_no_hook(denoiser):
    codes = torch.randint(0, V + 1, (2, POSITIONS), generator=dice())
    before = denoiser(codes, torch.tensor([3, 9]), condition(2))
    maps = attention_maps(denoiser, codes, torch.tensor([3, 9]), condition(2))
    assert maps.shape == (3, 2, 5, POSITIONS, K + 1) and (maps >= 0).all()
    torch.testing.assert_close(maps.sum(-1), torch.ones(3, 2, 5, POSITIONS))
    assert not any(block.cross_attention._forward_pre_hooks for block in denoiser.transformer.blocks)
    assert torch.equal(denoiser(codes, torch.tensor([3, 9]), condition(2)), before)


def test_the_maps_make_the_layers_own_output(denoiser):
    """Each block's map times its values, through its last projection, is what the layer returned in the pass."""
    codes, t = torch.randint(0, V + 1, (2, POSITIONS), generator=dice()), torch.tensor([3, 9])
    outputs, contexts = [], []
    hook = lambda layer, given, output: outputs.append(output) or contexts.append(given[1])
    for block in denoiser.transformer.blocks:
        block.cross_attention.register_forward_hook(hook)
    maps = attention_maps(denoiser, codes, t, condition(2))
    for block, weights, output, context in zip(denoiser.transformer.blocks, maps, outputs, contexts, strict=True):
        layer = block.cross_attention
        values = (context @ layer.kv.weight[10:].T).view(2, K + 1, 5, 2)  # the second half of kv, cut into heads
        by_hand = torch.einsum("bhpt,bthw->bphw", weights, values).flatten(2) @ layer.out.weight.T
        torch.testing.assert_close(by_hand, output)


def test_a_null_condition_is_looked_at_evenly(denoiser):
    codes = torch.full((1, POSITIONS), V)
    maps = attention_maps(denoiser, codes, torch.tensor([20]), condition().null())
    torch.testing.assert_close(maps, torch.full_like(maps, 1 / (K + 1)))


def test_hooks_go_also_where_the_pass_fails(denoiser):
    with pytest.raises(Exception):  # noqa: B017  (whatever torch says of a code that there isn't)
        attention_maps(denoiser, torch.full((1, POSITIONS), 99), torch.tensor([20]), condition())
    assert not any(block.cross_attention._forward_pre_hooks for block in denoiser.transformer.blocks)


def test_a_map_in_bfloat16_is_float32():
    layer = trained().transformer.blocks[0].cross_attention.bfloat16()
    weights = attention_map(layer, torch.randn(1, 3, 10).bfloat16(), torch.randn(1, 2, 8).bfloat16())
    assert weights.dtype == torch.float32 and weights.shape == (1, 5, 3, 2)


# --- the condition, changed ----------------------------------------------------------------------------------------

def test_one_neighbour_less():
    y = condition()
    less = without_neighbour(y, 1)
    assert torch.equal(less.neighbours[0], y.neighbours[0, [0, 2, 3]]) and torch.equal(less.query, y.query)
    for number in (-1, K):
        with pytest.raises(IndexError, match=f"no neighbour {number}; the condition has 0 .. 3"):
            without_neighbour(y, number)


def test_influence_is_the_divergence_of_two_passes(denoiser):
    codes, y, t = torch.randint(0, V + 1, (POSITIONS,), generator=dice()), condition(), torch.tensor([13])
    moved = influence(denoiser, codes, 13, y)
    assert moved.shape == (K, POSITIONS) and moved.max() > 1e-3
    for number in range(K):
        p, q = (denoiser(codes[None], t, one)[0].double().softmax(-1).detach().numpy()
                for one in (y, without_neighbour(y, number)))
        np.testing.assert_allclose(moved[number], (p * np.log(p / q)).sum(1), atol=1e-5)


def test_a_network_that_looks_at_the_query_only_is_moved_by_none():
    model = trained(conditioning="no_knn")
    assert influence(model, torch.full((POSITIONS,), V), 20, condition()).abs().max() < 1e-6


def test_a_way_between_two_vectors_has_equal_angles_and_the_vectors_as_its_ends():
    first, second = condition().neighbours[0, :2].numpy()
    way = great_circle(first, second, 5)
    assert way.dtype == np.float32 and np.array_equal(way[0], first) and np.array_equal(way[-1], second)
    np.testing.assert_allclose(np.linalg.norm(way, axis=1), 1, atol=1e-6)
    angles = np.arccos(np.clip((way[:-1] * way[1:]).sum(1), -1, 1))
    np.testing.assert_allclose(angles, np.arccos(first @ second) / 4, atol=1e-4)
    rank = np.linalg.matrix_rank(way.astype(float), tol=1e-5)
    assert rank == 2, "it does not leave the plane of the two"
    assert np.array_equal(great_circle(first, first, 3), np.stack([first] * 3))


@pytest.mark.parametrize("second, num, words", [(-1, 5, "opposite"), (1, 1, "its 2 ends")])
def test_where_there_is_no_way_it_is_said(second, num, words):
    first = np.array([1.0, 0, 0], np.float32)
    with pytest.raises(ValueError, match=words):
        great_circle(first, second * first, num)
