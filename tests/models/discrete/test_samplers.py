"""kdlib.models.discrete.samplers: which positions a step unmasks, and what stays of the schedule."""

import numpy as np
import pytest
import torch

from kdlib.models.discrete.process import Schedule
from kdlib.models.discrete.samplers import (
    halton_order,
    remasking_probabilities,
    sample_by_halton,
    sample_by_purity,
    sample_remasking,
)
from tests.models.discrete.test_process import Watcher, assert_drawn_from, no_condition, rng

SAMPLERS = [sample_by_halton, sample_by_purity, sample_remasking]


@pytest.mark.parametrize("num_positions, num_steps", [(49, 7), (49, 100), (529, 11), (3, 5)])
def test_purity_unmasks_the_scheduled_number_of_positions(num_positions, num_steps):
    schedule, watcher = Schedule(100), Watcher()
    sample_by_purity(watcher, schedule, no_condition(3), 2, num_positions, num_steps, generator=rng())
    for t, share in watcher.seen:
        assert share == round(num_positions * float(schedule.mask[t] / schedule.mask[-1])) / num_positions


def test_purity_draws_positions_by_purity_and_sharpens_their_codes():
    certain = torch.tensor([0.5, 0.7, 0.9])  # purity of three positions
    logits, first = torch.stack([certain, 1 - certain], -1).log(), []

    def network(x_t, t, condition):
        first.append(x_t.clone())
        return logits.expand(len(x_t), -1, -1)

    codes = sample_by_purity(network, Schedule(3), no_condition(20_000), 2, 3, 3, purity_weight=2.0, generator=rng())
    picked = torch.bincount((first[1] < 2).nonzero()[:, 1], minlength=3)
    assert_drawn_from(certain, picked)
    power = 1 + 2.0 * certain
    sharp = certain ** power / (certain ** power + (1 - certain) ** power)
    np.testing.assert_allclose((codes == 0).double().mean(0), sharp, atol=0.015)


def radical_inverse(number: int, base: int) -> float:
    """The digits of a number, mirrored at the point."""
    value, share = 0.0, 1 / base
    while number:
        value, number, share = value + number % base * share, number // base, share / base
    return value


def test_the_order_is_that_of_the_halton_sequence():
    side, seen = 5, []
    for number in range(2000):
        place = int(radical_inverse(number, 2) * side), int(radical_inverse(number, 3) * side)
        if place not in seen:
            seen.append(place)
    order = halton_order(side ** 2)
    assert [order[place].item() for place in seen] == list(range(side ** 2))


def test_a_step_of_halton_takes_the_next_places_and_every_picture_its_own_shift():
    watched, order = [], halton_order(49)

    def network(x_t, t, condition):
        watched.append(x_t == 2)
        return torch.zeros(*x_t.shape, 2)

    sample_by_halton(network, Schedule(100), no_condition(11), 2, 49, 7, generator=rng())
    firsts = set()
    for picture in range(11):
        gone = [(~masks[picture]).nonzero()[:, 0].tolist() for masks in watched]
        shifts = [(down, right) for down in range(7) for right in range(7) if all(
            sorted((order.roll((down, right), (0, 1)).flatten() < len(places)).nonzero()[:, 0].tolist()) == places
            for places in gone)]
        assert len(shifts) == 1
        firsts.add(shifts[0])
    assert len(firsts) > 5


def test_halton_wants_a_square():
    with pytest.raises(ValueError, match="50 positions are no square grid"):
        halton_order(50)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_remasking_leaves_the_schedule_s_share_of_masks(eta):
    """Masks of step s are those of t that stay and codes that are masked again: mask_t (1 - u) + (1 - mask_t) sigma."""
    schedule = Schedule(100)
    for t, s in [(100, 96), (96, 40), (40, 39), (39, 0)]:
        mask_t, mask_s = (float(schedule.mask[time]) for time in (t, s))
        sigma, unmask = remasking_probabilities(schedule, s, t, eta)
        assert 0 <= sigma <= 1 and 0 <= unmask <= 1 + 1e-9
        assert mask_t * (1 - unmask) + (1 - mask_t) * sigma == pytest.approx(mask_s, abs=1e-9)
    watcher = Watcher()
    codes = sample_remasking(watcher, schedule, no_condition(3), 2, 4000, 10, remasking=eta, generator=rng())
    for t, share in watcher.seen:
        assert share == pytest.approx(float(schedule.mask[t]), abs=0.05)
    assert (codes < 2).all()


def test_remasking_masks_codes_again_and_none_without_it():
    for eta, again in [(0.0, False), (0.5, True)]:
        seen = []

        def network(x_t, t, condition, seen=seen):
            seen.append(x_t == 2)
            return torch.zeros(*x_t.shape, 2)

        sample_remasking(network, Schedule(100), no_condition(3), 2, 400, 10, remasking=eta, generator=rng())
        assert any((after & ~before).any() for before, after in zip(seen, seen[1:], strict=False)) == again


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_decides_the_codes_and_the_bar_goes_to_stderr(sampler, capsys):
    draw = lambda seed, **how: sampler(Watcher(), Schedule(8), no_condition(30), 2, 9, 4, generator=rng(seed), **how)
    silent = draw(1)
    assert capsys.readouterr().err == "" and (silent < 2).all()
    assert torch.equal(silent, draw(1, progress=True)) and not torch.equal(silent, draw(2))
    captured = capsys.readouterr()
    assert captured.out == "" and "100%" in captured.err
    assert np.isin(draw(3, guidance_scale=3.0), [0, 1]).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_uniform_share_is_refused(sampler):
    with pytest.raises(ValueError, match="uniform_share is 0.1; use sample_ancestral"):
        sampler(Watcher(), Schedule(8, uniform_share=0.1), no_condition(3), 2, 4, 4)
