"""kdlib.evaluation.metrics: closed forms of Gaussians, exhaustive oracles, invariants, what small samples do."""

import itertools
import math

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from kdlib.evaluation.metrics import (
    Gaussian,
    ball_radii,
    bootstrap,
    cmmd,
    distances,
    fit_gaussian,
    frechet_bias,
    frechet_distance,
    precision_recall,
    share_interval,
)

seeds = st.integers(0, 999)


def draw(seed, num_pictures, width, scale=1.0, shift=0.0):
    return np.random.default_rng(seed).standard_normal((num_pictures, width)) * scale + shift


def with_moments(seed, num_pictures, mean, covariance):
    """A sample whose mean and unbiased covariance are exactly these."""
    rows = draw(seed, num_pictures, len(mean))
    rows -= rows.mean(0)
    rows = np.linalg.solve(np.linalg.cholesky(np.cov(rows.T).reshape(len(mean), -1)), rows.T).T
    return rows @ np.linalg.cholesky(np.asarray(covariance, float)).T + mean


def frechet(first, second):
    return frechet_distance(fit_gaussian(first), fit_gaussian(second))


def frechet_by_matrix_root(first, second):
    """As published: a matrix root of the product of the covariances, by scipy."""
    c1, c2 = np.cov(first.T), np.cov(second.T)
    return ((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(c1 + c2 - 2 * scipy.linalg.sqrtm(c1 @ c2).real)


# --- Frechet distance ----------------------------------------------------------------------------------------------

@given(seed=seeds, m1=st.floats(-5, 5), m2=st.floats(-5, 5), s1=st.floats(0.1, 5), s2=st.floats(0.1, 5))
@settings(max_examples=50, deadline=None)
def test_frechet_of_one_feature_is_the_closed_form(seed, m1, m2, s1, s2):
    first, second = with_moments(seed, 7, [m1], [[s1 ** 2]]), with_moments(seed + 1, 11, [m2], [[s2 ** 2]])
    assert frechet(first, second) == pytest.approx((m1 - m2) ** 2 + (s1 - s2) ** 2, abs=1e-9)


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_frechet_of_axis_parallel_gaussians_is_the_closed_form(seed):
    random = np.random.default_rng(seed)
    (m1, m2), (s1, s2) = random.normal(size=(2, 5)), random.uniform(0.1, 3, (2, 5))
    first, second = with_moments(seed, 11, m1, np.diag(s1 ** 2)), with_moments(seed + 1, 13, m2, np.diag(s2 ** 2))
    assert frechet(first, second) == pytest.approx(((m1 - m2) ** 2).sum() + ((s1 - s2) ** 2).sum(), abs=1e-8)


@given(seed=seeds, length=st.floats(0, 100))
@settings(max_examples=30, deadline=None)
def test_frechet_of_a_translated_copy_is_the_squared_length(seed, length):
    rows, step = draw(seed, 7, 3), draw(seed + 1, 1, 3)
    step *= length / np.linalg.norm(step)
    assert frechet(rows, rows + step) == pytest.approx(length ** 2, abs=1e-8 * (1 + length ** 2))


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_frechet_equals_the_published_formula(seed):
    first, second = draw(seed, 30, 5) @ draw(seed + 1, 5, 5), draw(seed + 2, 23, 5, 2, 1) @ draw(seed + 3, 5, 5)
    assert frechet(first, second) == pytest.approx(frechet_by_matrix_root(first, second), rel=1e-5, abs=1e-5)


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_frechet_with_fewer_pictures_than_features_equals_the_eigenvalues(seed):
    first, second = draw(seed, 5, 11), draw(seed + 1, 7, 11, 2)
    roots = np.sqrt(np.clip(np.linalg.eigvals(np.cov(first.T) @ np.cov(second.T)).real, 0, None))
    truth = ((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(np.cov(first.T)) + np.trace(np.cov(second.T))
    assert frechet(first, second) == pytest.approx(truth - 2 * roots.sum(), abs=1e-4)


@given(seed=seeds, num_pictures=st.integers(2, 15))
@settings(max_examples=50, deadline=None)
def test_frechet_invariants(seed, num_pictures):
    first, second = draw(seed, num_pictures, 7), draw(seed + 1, 11, 7, 2, 1)
    value = frechet(first, second)
    assert value >= 0 and frechet(second, first) == pytest.approx(value, abs=1e-9)
    assert frechet(first, first) == pytest.approx(0, abs=1e-9)
    shuffled = np.random.default_rng(seed).permutation(first)
    turned, _ = np.linalg.qr(draw(seed + 2, 7, 7))
    assert frechet(shuffled, second) == pytest.approx(value, abs=1e-9)
    assert frechet(first @ turned + 3, second @ turned + 3) == pytest.approx(value, rel=1e-9, abs=1e-8)
    assert frechet(3 * first, 3 * second) == pytest.approx(9 * value, rel=1e-9, abs=1e-8)


def test_fit_gaussian_has_the_moments_of_numpy():
    rows = draw(0, 11, 3).astype(np.float32)
    gaussian = fit_gaussian(rows)
    np.testing.assert_allclose(gaussian.mean, rows.mean(0), atol=1e-6)
    np.testing.assert_allclose(gaussian.factor.T @ gaussian.factor, np.cov(rows.T), atol=1e-6)
    assert gaussian.factor.shape == (3, 3) and fit_gaussian(rows[:2]).factor.shape == (2, 3)


def test_frechet_says_what_is_wrong():
    with pytest.raises(ValueError, match="1 pictures are too few"):
        fit_gaussian(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="no finite numbers"):
        fit_gaussian(np.array([[0.0], [np.nan], [1.0]]))
    with pytest.raises(ValueError, match="3 and 5 wide"):
        frechet_distance(Gaussian(np.zeros(3), np.eye(3)), Gaussian(np.zeros(5), np.eye(5)))


# --- its bias ------------------------------------------------------------------------------------------------------

def test_the_bias_of_one_feature_is_the_closed_form():
    """Of N(0, s^2): the means differ by s^2 (1/n + 1/m), the deviations by about half of that."""
    rows = draw(0, 20_000, 1, scale=3)
    found = frechet_bias(rows, 30, 50, num_draws=2000, seed=0).mean()
    assert found == pytest.approx(1.5 * 9 * (1 / 30 + 1 / 50), rel=0.1)


def test_the_bias_falls_with_more_pictures_and_grows_with_more_features():
    rows = draw(1, 400, 11)
    by_number = [frechet_bias(rows, size, size, 20, 0).mean() for size in (5, 20, 80)]
    by_width = [frechet_bias(rows[:, :width], 20, 20, 20, 0).mean() for width in (1, 3, 11)]
    assert by_number == sorted(by_number, reverse=True) and by_width == sorted(by_width)


def test_bias_splits_are_disjoint_and_repeat():
    assert frechet_bias(np.array([[0.0], [0.0], [1.0], [1.0]]), 2, 2, 50, 0).max() == pytest.approx(1)
    rows = draw(2, 12, 3)
    np.testing.assert_array_equal(frechet_bias(rows, 5, 7, 3, 4), frechet_bias(rows, 5, 7, 3, 4))
    with pytest.raises(ValueError, match="12 pictures can't be split into 6 and 7"):
        frechet_bias(rows, 6, 7, 3, 4)


# --- kernel distance -----------------------------------------------------------------------------------------------

def kernel(x, y, bandwidth):
    return np.exp(-sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / (2 * bandwidth ** 2))


@given(seed=seeds, bandwidth=st.sampled_from([0.5, 2.0, 10.0]))
@settings(max_examples=20, deadline=None)
def test_cmmd_equals_its_definition(seed, bandwidth):
    first, second = draw(seed, 5, 3), draw(seed + 1, 7, 3, 2, 1)
    within = [np.mean([kernel(x, y, bandwidth) for x, y in itertools.permutations(rows, 2)])
              for rows in (first, second)]
    across = np.mean([kernel(x, y, bandwidth) for x, y in itertools.product(first, second)])
    value = cmmd(first, second, bandwidth)
    assert value == pytest.approx(1000 * (sum(within) - 2 * across), abs=1e-8)
    assert cmmd(second, first, bandwidth) == pytest.approx(value, abs=1e-9)
    assert cmmd(first[::-1].copy(), second + 0.0, bandwidth) == pytest.approx(value, abs=1e-9)


def test_cmmd_of_gaussians_is_the_closed_form_at_any_size():
    """E k(x, y) for x - y ~ N(m, v I) is (s^2 / (s^2 + v))^(d/2) exp(-|m|^2 / (2 (s^2 + v)))."""
    width, bandwidth, shift, scale = 3, 2.0, 0.7, 1.5

    def expected(variance, shift):
        total = bandwidth ** 2 + variance
        return (bandwidth ** 2 / total) ** (width / 2) * np.exp(-width * shift ** 2 / (2 * total))

    truth = 1000 * (expected(2, 0) + expected(2 * scale ** 2, 0) - 2 * expected(1 + scale ** 2, shift))
    for num_pictures, num_draws in [(5, 1000), (50, 100)]:
        found = [cmmd(draw(2 * n, num_pictures, width), draw(2 * n + 1, num_pictures, width, scale, shift), bandwidth)
                 for n in range(num_draws)]
        assert abs(np.mean(found) - truth) < 4 * np.std(found) / np.sqrt(num_draws)


def test_cmmd_says_what_is_wrong():
    with pytest.raises(ValueError, match="bandwidth = 0"):
        cmmd(draw(0, 3, 5), draw(1, 7, 5), 0.0)
    with pytest.raises(ValueError, match="1 pictures"):
        cmmd(draw(0, 3, 5), draw(1, 1, 5))


# --- precision, recall, density, coverage --------------------------------------------------------------------------

def by_loops(real, drawn, k):
    apart = lambda a, b: float(np.sqrt(((a - b) ** 2).sum()))
    radius = lambda rows: [sorted(apart(x, y) for j, y in enumerate(rows) if j != i)[k - 1] for i, x in enumerate(rows)]
    real_radius, drawn_radius = radius(real), radius(drawn)
    inside = [[apart(x, y) <= r for y, r in zip(real, real_radius, strict=True)] for x in drawn]
    around = [[apart(x, y) <= r for x, r in zip(drawn, drawn_radius, strict=True)] for y in real]
    return {"precision": np.mean([any(row) for row in inside]), "recall": np.mean([any(row) for row in around]),
            "density": np.sum(inside) / (k * len(drawn)),
            "coverage": np.mean([any(row[i] for row in inside) for i in range(len(real))])}


@given(seed=seeds, k=st.integers(1, 4), whole=st.booleans())
@settings(max_examples=40, deadline=None)
def test_precision_recall_equal_their_definitions(seed, k, whole):
    real, drawn = draw(seed, 7, 3), draw(seed + 1, 5, 3, 1.5, 0.5)
    if whole:  # many equal distances, equal pictures among them
        real, drawn = real.round(), drawn.round()
    assert precision_recall(real, drawn, k) == pytest.approx(by_loops(real, drawn, k))


def test_precision_recall_by_hand():
    real, drawn = np.array([[0.0], [1.0], [3.0]]), np.array([[0.5], [9.0], [9.5]])
    assert ball_radii(real, 1).tolist() == [1, 1, 2] and ball_radii(drawn, 1).tolist() == [8.5, 0.5, 0.5]
    found = precision_recall(real, drawn, 1)
    assert found == pytest.approx({"precision": 1 / 3, "recall": 1, "density": 2 / 3, "coverage": 2 / 3})


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_precision_recall_invariants(seed):
    real, drawn = draw(seed, 11, 3), draw(seed + 1, 7, 3)
    found, turned = precision_recall(real, drawn, 3), precision_recall(drawn, real, 3)
    assert found["precision"] == turned["recall"] and found["recall"] == turned["precision"]
    assert precision_recall(real[::-1].copy(), drawn[::-1].copy(), 3) == pytest.approx(found)
    assert precision_recall(5 * real + 2, 5 * drawn + 2, 3) == pytest.approx(found)
    same = precision_recall(real, real, 3)
    assert same["precision"] == same["recall"] == same["coverage"] == 1
    assert set(precision_recall(real, drawn + 1000, 3).values()) == {0.0}


def test_precision_recall_says_what_is_wrong():
    with pytest.raises(ValueError, match="5 pictures are too few for this; it takes at least 6"):
        precision_recall(draw(0, 7, 3), draw(1, 5, 3), 5)


def test_distances_between_equal_rows_are_zero():
    rows = draw(0, 5, 128, shift=100).astype(np.float32)
    assert (np.diag(distances(rows, rows)) == 0).all()
    np.testing.assert_allclose(distances(rows[:3], rows), np.linalg.norm(rows[:3, None] - rows[None], axis=-1),
                               rtol=1e-6)


# --- certainty -----------------------------------------------------------------------------------------------------

def share_of(num_hits, num_prompts):
    return share_interval(np.arange(num_prompts) < num_hits)


@given(num_prompts=st.integers(1, 200))
@settings(max_examples=30, deadline=None)
def test_the_share_of_none_and_of_all_has_the_closed_interval(num_prompts):
    reach = 1 - 0.025 ** (1 / num_prompts)
    assert share_of(0, num_prompts) == pytest.approx((0, 0, reach), abs=1e-9)
    assert share_of(num_prompts, num_prompts) == pytest.approx((1, 1 - reach, 1), abs=1e-9)


@given(num_prompts=st.integers(2, 40), data=st.data())
@settings(max_examples=30, deadline=None)
def test_at_the_ends_of_a_share_s_interval_each_tail_has_its_40th(num_prompts, data):
    """By enumeration of the binomial; misses taken for hits mirror the interval."""
    num_hits = data.draw(st.integers(1, num_prompts - 1))
    share, low, high = share_of(num_hits, num_prompts)
    chances = lambda p: [math.comb(num_prompts, i) * p ** i * (1 - p) ** (num_prompts - i)
                         for i in range(num_prompts + 1)]
    assert share == num_hits / num_prompts and low < share < high
    assert sum(chances(low)[num_hits:]) == pytest.approx(0.025, abs=1e-9)
    assert sum(chances(high)[:num_hits + 1]) == pytest.approx(0.025, abs=1e-9)
    assert share_of(num_prompts - num_hits, num_prompts) == pytest.approx((1 - share, 1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize("num_prompts", [3, 17, 64])
@pytest.mark.parametrize("share", [0.003, 0.05, 0.31, 0.5, 0.96])
def test_the_interval_of_a_share_holds_the_truth_nineteen_times_of_twenty(num_prompts, share):
    """Of all outcomes, by their probability."""
    intervals = [share_of(num_hits, num_prompts) for num_hits in range(num_prompts + 1)]
    held = sum(math.comb(num_prompts, i) * share ** i * (1 - share) ** (num_prompts - i)
               for i, interval in enumerate(intervals) if interval.low <= share <= interval.high)
    assert 0.95 <= held <= 1 + 1e-12


def test_a_share_of_no_prompts_is_refused():
    with pytest.raises(ValueError, match="no prompts"):
        share_of(0, 0)


def test_bootstrap_of_a_mean_is_the_normal_interval():
    values = draw(0, 500, 1)[:, 0]
    interval = bootstrap(lambda rows: values[rows].mean(), 500, 2000, seed=0)
    assert interval.value == values.mean()
    np.testing.assert_allclose(interval[1:], values.mean() + np.array([-1.96, 1.96]) * values.std() / np.sqrt(500),
                               atol=0.01)


def test_bootstrap_holds_the_truth_nineteen_times_of_twenty():
    held = 0
    for seed, values in enumerate(draw(7, 300, 40)):
        interval = bootstrap(lambda rows, values=values: values[rows].mean(), 40, 200, seed)
        held += interval.low <= 0 <= interval.high
    assert 0.91 <= held / 300 <= 0.98


def test_bootstrap_takes_what_belongs_to_a_prompt_along():
    """Two models on the same prompts: the difference is far surer than either mean."""
    hard = draw(0, 50, 1)[:, 0]
    ours, theirs = hard + 0.1, hard
    paired = bootstrap(lambda rows: ours[rows].mean() - theirs[rows].mean(), 50, 100, seed=0)
    assert paired.low == pytest.approx(0.1) and paired.high == pytest.approx(0.1)


def test_the_centred_interval_of_a_frechet_distance_holds_what_the_plain_one_misses():
    reference = fit_gaussian(draw(0, 500, 32))
    truth = np.mean([frechet_distance(fit_gaussian(draw(seed, 20, 32)), reference) for seed in range(1000, 1100)])
    for seed in range(1, 6):
        rows = draw(seed, 20, 32)
        distance = lambda chosen, rows=rows: frechet_distance(fit_gaussian(rows[chosen]), reference)
        plain, centred = (bootstrap(distance, 20, 100, seed, centred) for centred in (False, True))
        assert centred.low < centred.value < centred.high and centred.low < truth < centred.high
        assert plain.low > plain.value == centred.value
        assert plain.high - plain.low == pytest.approx(centred.high - centred.low)


def test_bootstrap_repeats_and_says_what_is_wrong():
    values = draw(0, 7, 1)[:, 0]
    first, again, other = (bootstrap(lambda rows: values[rows].mean(), 7, 50, seed) for seed in (0, 0, 1))
    assert first == again != other
    with pytest.raises(ValueError, match="num_prompts = 0"):
        bootstrap(lambda rows: 0.0, 0, 10, 0)
