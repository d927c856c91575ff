"""The discrete process against exact rational Bayes, enumerated chains and chi-square tests."""

import itertools
import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr
from scipy.stats import chisquare

from kdlib.models.condition import Condition
from kdlib.models.discrete import process as discrete
from kdlib.models.discrete.process import (
    Schedule,
    loss_terms,
    posterior,
    predict_x0,
    prior_sample,
    q_sample,
    sample_ancestral,
    sample_categorical,
    sampling_times,
    training_loss,
    truncate,
)

SHARES = [0.0, 1e-6, 0.1]


def no_condition(batch: int) -> Condition:
    return Condition(torch.zeros(batch, 5), torch.zeros(batch, 2, 5))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_drawn_from(p, counts) -> None:
    """Chi-square of counts against probabilities (renormalised); nothing may lie where p is 0."""
    p, counts = np.asarray(p, dtype=float), np.asarray(counts, dtype=float)
    assert not counts[p == 0].any()
    expected = p[p > 0] / p.sum() * counts.sum()
    assert chisquare(counts[p > 0], expected).pvalue > 0.003


# ---------------------------------------------------------- the truth: transition matrices over V codes and the mask


def matrix(schedule: Schedule, s: int, t: int, num_codes: int) -> list[list[Fraction]]:
    """q(x_t | x_s) exactly: the one matrix of the family keep, replace, mask with Qbar_s Q_ts = Qbar_t."""
    keep_s, keep_t, uniform_s, uniform_t = (Fraction(float(p[i])) for p in (schedule.keep, schedule.uniform)
                                            for i in (s, t))
    keep = keep_t / keep_s
    uniform = (keep_t + uniform_t) / (keep_s + uniform_s) - keep
    rows = [[keep * (i == j) + uniform / num_codes for j in range(num_codes)] + [1 - keep - uniform]
            for i in range(num_codes)]
    return [*rows, [Fraction(0)] * num_codes + [Fraction(1)]]


def bayes(schedule: Schedule, s: int, t: int, x_t: int, x_0: int, num_codes: int) -> list[Fraction]:
    """q(x_s | x_t, x_0) by Bayes' rule over all states; a code that x_0 cannot have become stays where it is."""
    to_s, to_t = matrix(schedule, 0, s, num_codes), matrix(schedule, s, t, num_codes)
    joint = [to_s[x_0][k] * to_t[k][x_t] for k in range(num_codes + 1)]
    if sum(joint) == 0:
        return [Fraction(k == x_t) for k in range(num_codes + 1)]
    return [value / sum(joint) for value in joint]


def times_matrix(a, b):
    return [[sum(x * y for x, y in zip(row, column, strict=True)) for column in zip(*b, strict=True)] for row in a]


def row(*values: int) -> torch.Tensor:
    return torch.tensor(values)


# ------------------------------------------------------------------------------------------------------- schedule


def test_default_is_the_published_schedule():
    schedule = Schedule(100)
    assert schedule.keep.dtype == torch.float64
    for values, first, last in ((schedule.keep, 0.99999, 9e-6), (schedule.mask, 9e-6, 0.99999),
                                (schedule.uniform, 1e-6, 1e-6)):
        np.testing.assert_allclose([values[1], values[100]], [first, last], rtol=1e-9)
        np.testing.assert_allclose(values[1:].diff(), (last - first) / 99, atol=1e-12)
    assert [float(p[0]) for p in (schedule.keep, schedule.mask, schedule.uniform)] == [1, 0, 0]
    assert schedule.pure_masking and not Schedule(100, uniform_share=0.1).pure_masking


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("share", [*SHARES, 0.5])
def test_every_step_is_a_transition_matrix_and_products_are_cumulative(kind, share):
    schedule = Schedule(7, kind, share)
    np.testing.assert_allclose(schedule.keep + schedule.mask + schedule.uniform, 1, atol=1e-15)
    assert (schedule.keep.diff() < 0).all() and (schedule.mask.diff() > 0).all()
    product = matrix(schedule, 0, 0, 3)
    for t in range(1, 8):
        step = matrix(schedule, t - 1, t, 3)
        assert all(sum(r) == 1 for r in step) and min(min(r) for r in step) >= -1e-17
        product = times_matrix(product, step)
        expected = torch.eye(3) * schedule.keep[t] + schedule.uniform[t] / 3
        np.testing.assert_allclose(np.array(product, float)[:3, :3], expected, atol=1e-15)
        np.testing.assert_allclose(np.array(product, float)[:3, 3], schedule.mask[t], atol=1e-15)


def test_schedule_survives_json():
    schedule = Schedule(50, "cosine", 0.1)
    assert Schedule(**json.loads(json.dumps(schedule.to_dict()))) == schedule


@pytest.mark.parametrize("bad", [dict(num_timesteps=1), dict(num_timesteps=9, kind="square"),
                                 dict(num_timesteps=9, uniform_share=1.0)])
def test_bad_schedules_are_refused(bad):
    with pytest.raises(ValueError, match=str(list(bad.values())[-1])):
        Schedule(**bad)


# ----------------------------------------------------------------------------------------- forward and posterior


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_forward_marginals(share):
    schedule, x_0 = Schedule(10, uniform_share=share), torch.full((4000, 5), 2)
    x_t = q_sample(schedule, x_0, torch.full((4000,), 6), 3, rng())
    expected = torch.stack([schedule.uniform[6] / 3] * 3 + [schedule.mask[6]])
    expected[2] += schedule.keep[6]
    counts = torch.bincount(x_t.flatten(), minlength=4)
    assert_drawn_from(expected, counts)
    assert x_t.dtype == x_0.dtype


def worst_posterior_error(schedule: Schedule, pairs, num_codes: int = 3) -> float:
    """Largest |closed form - exact| over pairs s < t, all x_t, every fixed x_0 and a mixed p(x_0)."""
    worst = 0.0
    mixed = torch.rand(num_codes, generator=rng(1), dtype=torch.float64)
    p = torch.cat([torch.eye(num_codes, dtype=torch.float64), (mixed / mixed.sum())[None]])
    x_t = torch.arange(num_codes + 1).repeat(len(p), 1)
    for s, t in pairs:
        s_row, t_row = torch.full((len(p),), s), torch.full((len(p),), t)
        ours = posterior(schedule, x_t, p[:, None].expand(-1, num_codes + 1, -1), s_row, t_row)
        for j in range(num_codes + 1):
            exact = np.array([bayes(schedule, s, t, j, i, num_codes) for i in range(num_codes)], dtype=float)
            worst = max(worst, np.abs(ours[:, j].numpy() - p.numpy() @ exact).max())
    return worst


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("share", [*SHARES, 0.5])
def test_posterior_equals_bayes_for_every_pair_of_times(kind, share):
    schedule = Schedule(7, kind, share)
    assert worst_posterior_error(schedule, itertools.combinations(range(8), 2)) < 1e-12


@pytest.mark.parametrize("share", SHARES)
def test_posterior_equals_bayes_at_a_thousand_steps(share):
    pairs = [(0, 1), (1, 2), (0, 1000), (999, 1000), (499, 500), (3, 997), (900, 1000), (980, 1000)]
    assert worst_posterior_error(Schedule(1000, uniform_share=share), pairs) < 1e-10


@pytest.mark.parametrize("share", SHARES)
def test_strided_posterior_is_the_composition_of_single_steps(share):
    schedule, num_codes = Schedule(9, uniform_share=share), 3
    for x_0, x_t in itertools.product(range(3), range(4)):
        if share == 0 and x_t not in (x_0, 3):
            continue
        p = torch.eye(3, dtype=torch.float64)[x_0].view(1, 1, 3)
        composed = torch.zeros(num_codes + 1, dtype=torch.float64)
        composed[x_t] = 1
        for t in range(8, 2, -1):
            steps = posterior(schedule, torch.arange(4)[None], p.expand(1, 4, 3), row(t - 1), row(t))[0]
            composed = composed @ steps
        direct = posterior(schedule, row(x_t)[None], p, row(2), row(8))[0, 0]
        np.testing.assert_allclose(composed, direct, atol=1e-13)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.sampled_from([*SHARES, 0.7]), st.sampled_from(["linear", "cosine"]), st.data())
def test_posterior_rows_are_distributions_and_s_0_gives_p_x0(num_timesteps, share, kind, data):
    schedule = Schedule(num_timesteps, kind, share)
    t = data.draw(st.integers(1, num_timesteps))
    s = data.draw(st.integers(0, t - 1))
    logits = 8 * torch.randn(3, 7, 5, generator=rng(t), dtype=torch.float64)
    x_t = torch.randint(0, 6, (3, 7), generator=rng(s))
    p = logits.softmax(-1)
    ours = posterior(schedule, x_t, p, row(s, s, s), row(t, t, t))
    assert (ours >= 0).all()
    np.testing.assert_allclose(ours.sum(-1), 1, atol=1e-10)
    if s == 0:
        free = torch.ones_like(x_t, dtype=torch.bool) if share else x_t == 5
        np.testing.assert_allclose(ours[..., :5][free], p[free], atol=1e-10)
        assert not ours[..., 5].any()
    single = posterior(schedule, x_t, p.float(), row(s, s, s), row(t, t, t))
    np.testing.assert_allclose(single, ours, atol=1e-5)


def test_posterior_takes_large_vocabularies():
    p = torch.randn(1, 3, 30_000, generator=rng()).softmax(-1)
    ours = posterior(Schedule(10, uniform_share=0.1), row(30_000, 5, 0)[None], p, row(4), row(7))
    np.testing.assert_allclose(ours.sum(-1), 1, atol=1e-4)


# ----------------------------------------------------------------------------- a tiny world: 2 tokens, 3 codes


V, STATES = 3, list(itertools.product(range(4), repeat=2))


class Table:
    """A made-up network: its logits depend on the step and on both tokens; remembers how it was called."""

    def __init__(self, num_timesteps: int, sharpness: float = 1.5):
        self.logits = sharpness * torch.randn(num_timesteps + 1, 16, 2, V, generator=rng(3), dtype=torch.float64)
        self.calls = []

    def __call__(self, x_t, t, condition):
        self.calls.append((x_t.clone(), t.clone()))
        return self.logits[t, 4 * x_t[:, 0] + x_t[:, 1]]

    def transitions(self, schedule: Schedule, s: int, t: int) -> np.ndarray:
        """p(x_s | x_t) over the 16 states of both tokens, by exact Bayes: rows x_t, columns x_s."""
        exact = np.array([[bayes(schedule, s, t, j, i, V) for i in range(V)] for j in range(V + 1)], dtype=float)
        p = self.logits[t].softmax(-1).numpy()
        single = [[p[n, position] @ exact[x[position]] for position in range(2)] for n, x in enumerate(STATES)]
        return np.stack([np.outer(a, b).ravel() for a, b in single])


def forward_rows(schedule: Schedule, s: int, t: int) -> np.ndarray:
    single = np.array(matrix(schedule, s, t, V), dtype=float)
    return np.kron(single, single)


def prior(schedule: Schedule) -> np.ndarray:
    single = np.array([(1 - float(schedule.mask[-1])) / V] * V + [float(schedule.mask[-1])])
    return np.kron(single, single)


def expected_terms(schedule: Schedule, table: Table, x_0: tuple[int, int]) -> list[float]:
    """E_q(x_t | x_0) of `loss_terms` at t = 1 .. N, nats per position, by enumerating the 16 states."""
    terms = []
    for t in range(1, schedule.num_timesteps + 1):
        q = torch.from_numpy(forward_rows(schedule, 0, t)[4 * x_0[0] + x_0[1]])
        x_t, times = torch.tensor(STATES), torch.full((16,), t)
        rows, _ = loss_terms(schedule, table(x_t, times, None), row(*x_0).expand(16, 2), x_t, times)
        terms.append(float(q @ rows))
    return terms


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_the_terms_and_the_prior_sum_to_the_bound_of_the_likelihood(share):
    """Equation 1, against all chains of two tokens in three steps."""
    schedule, table, x_0 = Schedule(3, uniform_share=share), Table(3), 4 * 1 + 2
    backward = [table.transitions(schedule, t - 1, t) for t in (1, 2, 3)]
    forward = [forward_rows(schedule, t - 1, t) for t in (1, 2, 3)]
    bound = likelihood = 0.0
    for x_1, x_2, x_3 in itertools.product(range(16), repeat=3):
        q = forward[0][x_0, x_1] * forward[1][x_1, x_2] * forward[2][x_2, x_3]
        p = prior(schedule)[x_3] * backward[2][x_3, x_2] * backward[1][x_2, x_1] * backward[0][x_1, x_0]
        likelihood += p
        bound += q * (np.log(q) - np.log(p)) if q > 0 else 0
    prior_term = rel_entr(forward_rows(schedule, 0, 3)[x_0], prior(schedule)).sum()
    assert abs(prior_term + 2 * sum(expected_terms(schedule, table, (1, 2))) - bound) < 1e-9
    assert bound > -np.log(likelihood)


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_the_training_loss_is_an_unbiased_estimate_of_the_sum_of_terms(share):
    schedule, table = Schedule(5, uniform_share=share), Table(5)
    loss = training_loss(schedule, table, row(1, 2).expand(40_000, 2), no_condition(40_000), V, 0.0, rng(1))
    assert abs(loss / sum(expected_terms(schedule, table, (1, 2))) - 1) < 0.03


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_algorithm_1_adds_the_auxiliary_loss_except_at_the_first_step(share):
    schedule, table, x_0 = Schedule(9, uniform_share=share), Table(9), row(1, 2).expand(50, 2)
    loss = training_loss(schedule, table, x_0, no_condition(50), V, 3.0, rng())
    x_t, t = table.calls[-1]
    assert set(t.tolist()) == set(range(1, 10))
    terms, x0_terms = loss_terms(schedule, table.logits[t, 4 * x_t[:, 0] + x_t[:, 1]], x_0, x_t, t)
    torch.testing.assert_close(loss, 9 * torch.where(t == 1, terms, terms + 3.0 * x0_terms).mean())


def test_pure_masking_terms_agree_with_the_general_ones(monkeypatch):
    schedule, x_0 = Schedule(9, uniform_share=0.0), torch.randint(0, 7, (11, 5), generator=rng())
    t = torch.arange(11) % 9 + 1
    x_t = q_sample(schedule, x_0, t, 7, rng())
    logits = torch.randn(11, 5, 7, generator=rng(), dtype=torch.float64, requires_grad=True)
    fast, _ = loss_terms(schedule, logits, x_0, x_t, t)
    monkeypatch.setattr(Schedule, "pure_masking", False)
    seen = torch.where((x_t < 7)[..., None], 40.0 * torch.nn.functional.one_hot(x_0, 7), logits)  # codes are known
    general, _ = loss_terms(schedule, seen, x_0, x_t, t)
    torch.testing.assert_close(fast, general, atol=1e-9, rtol=1e-9)
    assert torch.autograd.grad(general.sum(), logits)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("share", SHARES)
def test_loss_and_gradient_stay_finite_for_extreme_logits(share, dtype):
    schedule, x_0 = Schedule(100, uniform_share=share), torch.randint(0, 7, (13, 5), generator=rng())
    logits = (1000 * torch.randn(13, 5, 7, generator=rng())).to(dtype).requires_grad_()
    loss = training_loss(schedule, lambda *_: logits, x_0, no_condition(13), 7, generator=rng())
    assert loss.isfinite() and torch.autograd.grad(loss, logits)[0].isfinite().all()


# ------------------------------------------------------------------------- categorical, truncation, guidance


def test_categorical_passes_chi_square():
    p = torch.tensor([0.5, 0.0, 0.3, 0.15, 0.05, 0.0])
    counts = torch.bincount(sample_categorical(p.expand(50_000, -1), rng()), minlength=6)
    assert_drawn_from(p, counts)


def test_categorical_keeps_tails_and_never_draws_the_impossible(monkeypatch):
    p = torch.tensor([0.0, 1.0, 1e-14, 0.0]).repeat(4, 1)
    draws = torch.tensor([[0.0], [0.5], [1 - 1e-15], [1 - 2 ** -53]], dtype=torch.float64)
    monkeypatch.setattr(discrete, "random_uniform", lambda *_: draws)
    assert sample_categorical(p).tolist() == [1, 1, 2, 2]  # float32 Gumbel noise reaches no further than 1e-8
    monkeypatch.setattr(discrete, "random_uniform", lambda *_: draws[3:])
    for seed in range(100):
        weights = torch.rand(1, 7, generator=rng(seed))
        weights[0, 4:] = 0
        assert sample_categorical(weights).item() == 3


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-9, 1.0), st.integers(0, 10_000), st.sampled_from([0.1, 3.0, 100.0]))
def test_truncation_keeps_the_fewest_codes_that_reach_the_rate(rate, seed, sharpness):
    log_p = (sharpness * torch.randn(5, 7, generator=rng(seed), dtype=torch.float64)).log_softmax(-1)
    kept = truncate(log_p, rate)
    torch.testing.assert_close(kept.exp().sum(-1), torch.ones(5, dtype=torch.float64))
    for before, after in zip(log_p.exp().numpy(), kept.exp().numpy(), strict=True):
        ordered = np.sort(before)[::-1]
        fewest = 7 if rate == 1 else min(7, 1 + int((np.cumsum(ordered)[:-1] < rate).sum()))
        chosen = np.argsort(-before, kind="stable")[:fewest]
        np.testing.assert_allclose(after[chosen], before[chosen] / before[chosen].sum(), rtol=1e-9)
        assert after.sum() - after[chosen].sum() < 1e-12


def test_truncation_rate_1_changes_nothing_and_bad_rates_are_refused():
    log_p = torch.randn(3, 5, generator=rng()).log_softmax(-1)
    assert truncate(log_p, 1.0) is log_p
    for bad in (0.0, 1.5):
        with pytest.raises(ValueError, match=str(bad)):
            truncate(log_p, bad)


class Guided:
    """Logits that tell the null condition from a given one; remembers batch sizes."""

    def __init__(self):
        self.batches = []
        self.logits = torch.randn(2, 5, 7, generator=rng(), dtype=torch.float64)

    def __call__(self, x_t, t, condition):
        self.batches.append(len(x_t))
        return self.logits[condition.query.any(1).long()]


def test_guidance_extrapolates_log_p_x0_in_one_batch_and_renormalises():
    network, y = Guided(), Condition(torch.ones(3, 5), torch.ones(3, 2, 5))
    x_t, t, where = torch.full((3, 5), 7), row(4, 4, 4), torch.ones(3, 5, dtype=torch.bool)
    null, given = network.logits.log_softmax(-1)
    plain = predict_x0(network, x_t, t, y, where)
    torch.testing.assert_close(plain, given.repeat(3, 1))
    eight = predict_x0(network, x_t, t, y, where, guidance_scale=8.0)
    assert network.batches == [3, 6]
    expected = null.exp() * (given - null).exp() ** 8
    torch.testing.assert_close(eight.exp(), (expected / expected.sum(-1, keepdim=True)).repeat(3, 1))
    nearly = predict_x0(network, x_t, t, y, where, guidance_scale=1.0 + 1e-9)
    torch.testing.assert_close(nearly, plain, atol=1e-7, rtol=0)


# ---------------------------------------------------------------------------------------------------- samplers


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 1000), st.data())
def test_sampling_times_fall_strictly_from_n_to_0(num_timesteps, data):
    num_steps = data.draw(st.integers(1, num_timesteps))
    times = sampling_times(num_timesteps, num_steps)
    assert times[0] == num_timesteps and times[-1] == 0 and len(times) == num_steps + 1
    steps = -np.diff(times)
    assert steps.min() >= 1 and steps.max() - steps.min() <= 1


@pytest.mark.parametrize("num_steps", [0, 101])
def test_impossible_numbers_of_steps_are_refused(num_steps):
    with pytest.raises(ValueError, match=f"{num_steps}.*1 .. 100"):
        sampling_times(100, num_steps)


class Watcher:
    """Uniform logits over V = 2; keeps the share of masks that it sees at each time."""

    def __init__(self):
        self.seen = []

    def __call__(self, x_t, t, condition):
        self.seen += [(int(time), float(share)) for time, share in zip(t, (x_t == 2).double().mean(1), strict=True)]
        return torch.zeros(*x_t.shape, 2)


@pytest.mark.parametrize("num_steps", [1, 3, 10, 25, 99, 100])
def test_mask_count_follows_the_schedule_at_every_stride(num_steps):
    schedule, watcher = Schedule(100), Watcher()
    codes = sample_ancestral(watcher, schedule, no_condition(3), 2, 529, num_steps, generator=rng())
    assert codes.shape == (3, 529) and codes.dtype == torch.int64 and codes.max() < 2
    assert watcher.seen[0] == (100, 1.0)
    for t, share in watcher.seen:
        expected = float(schedule.mask[t] / schedule.mask[-1])
        assert abs(share - expected) < 5 * (expected * (1 - expected) / 529) ** 0.5 + 1 / 529
    assert {t for t, _ in watcher.seen} <= set(sampling_times(100, num_steps))


def expected_codes(schedule: Schedule, table: Table, num_steps: int) -> np.ndarray:
    """Distribution of the sampled pair of codes, by multiplying the chain's exact matrices."""
    state = np.eye(16)[15] if schedule.pure_masking else prior(schedule)
    times = sampling_times(schedule.num_timesteps, num_steps)
    for t, s in zip(times, times[1:], strict=False):
        state = state @ table.transitions(schedule, s, t)
    return state


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("num_steps", [1, 3, 8])
def test_samples_follow_the_enumerated_chain(share, num_steps):
    schedule, table = Schedule(8, uniform_share=share), Table(8)
    codes = sample_ancestral(table, schedule, no_condition(20_000), V, 2, num_steps, generator=rng(7))
    exact = Schedule(8, uniform_share=0.0 if share == 1e-6 else share)
    expected = expected_codes(exact, table, num_steps)
    np.testing.assert_allclose(expected.sum(), 1, atol=1e-9)
    assert_drawn_from(expected.clip(min=0), torch.bincount(4 * codes[:, 0] + codes[:, 1], minlength=16))


def test_guidance_does_not_change_the_unmasking_rate():
    schedule, seen = Schedule(100), []

    def network(x_t, t, condition):
        seen.append((x_t == 2).double().mean().item())
        return torch.randn(*x_t.shape, 2, generator=rng()) * condition.query.sum(1)[:, None, None]

    y = Condition(torch.ones(3, 5), torch.ones(3, 2, 5))
    sample_ancestral(network, schedule, y, 2, 400, 10, guidance_scale=8.0, generator=rng())
    np.testing.assert_allclose(seen, np.linspace(1, 0.1, 10), atol=0.06)


def test_a_seed_decides_the_codes_and_the_bar_goes_to_stderr(capsys):
    schedule, table = Schedule(8), Table(8)
    draw = lambda seed, **how: sample_ancestral(table, schedule, no_condition(30), V, 2, 4, generator=rng(seed), **how)
    silent = draw(1)
    assert capsys.readouterr().err == ""
    assert torch.equal(silent, draw(1, progress=True)) and not torch.equal(silent, draw(2))
    captured = capsys.readouterr()
    assert captured.out == "" and "100%" in captured.err
    draw(3, truncation=1e-9, guidance_scale=3.0)


@pytest.mark.parametrize("interval, guided", [((0.0, 1.0), 8), ((0.3, 0.8), 4), ((0.9, 1.0), 1)])
def test_guidance_is_left_out_of_steps_outside_of_its_interval(interval, guided):
    """Steps at t = 8, 7, .. 1 of 8; a guided one asks for twice the rows."""
    sizes = []

    def network(x_t, t, condition):
        sizes.append(len(x_t))
        return torch.zeros(*x_t.shape, 2)

    sample_ancestral(network, Schedule(8), no_condition(3), 2, 5, 8, guidance_scale=2.0, guidance_interval=interval,
                     generator=rng())
    assert [size == 6 for size in sizes] == [interval[0] <= t / 8 <= interval[1] for t in range(8, 0, -1)]
    assert sizes.count(6) == guided


def test_prior_is_all_masks_or_a_draw_from_p_x_n():
    assert (prior_sample(Schedule(10), 3, 5, 7) == 7).all()
    x = prior_sample(Schedule(10, uniform_share=0.3), 500, 50, 7, rng())
    assert abs((x == 7).double().mean() - 0.7) < 0.02 and x.unique().tolist() == list(range(8))
