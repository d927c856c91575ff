"""The continuous process against closed forms: pictures that are Gaussian, whose best denoiser is known.

With x_0 ~ N(m, S) and x_t = alpha x_0 + sigma epsilon,
E[x_0 | x_t] = m + alpha S (alpha^2 S + sigma^2)^-1 (x_t - alpha m).
"""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from scipy import stats

from kdlib.models.condition import Condition
from kdlib.models.continuous.process import (
    PREDICTIONS,
    Process,
    from_x0,
    loss_weight,
    make_scheduler,
    predict_x0,
    random_normal,
    sample,
    sampling_times,
    target,
    to_x0,
    training_loss,
)

SHAPE = (3, 1, 2)  # of a Gaussian "picture"
DIM = 6
RANDOM = np.random.default_rng(0)
MEAN = torch.from_numpy(RANDOM.uniform(-0.5, 0.5, DIM))
ROOT = torch.from_numpy(RANDOM.normal(size=(DIM, DIM)) * 0.3)
COVARIANCE = ROOT @ ROOT.T + 0.05 * torch.eye(DIM, dtype=torch.float64)
KINDS = [Process(), Process(schedule="linear"), Process(prediction="v"), Process(prediction="x0"),
         Process(prediction="v", zero_terminal_snr=True), Process(schedule="flow", prediction="v"),
         Process(schedule="flow", prediction="x0")]
NAMES = lambda p: f"{p.schedule}-{p.prediction}{'-zero' * p.zero_terminal_snr}" if isinstance(p, Process) else str(p)
each_kind = pytest.mark.parametrize("process", KINDS, ids=NAMES)


def nothing(batch):
    return Condition(torch.ones(batch, 5), torch.ones(batch, 2, 5))


def exact_times(process, t):
    """alpha and sigma at any t, also between whole ones on the straight line."""
    if process.schedule == "flow":
        return 1 - t.double() / process.num_timesteps, t.double() / process.num_timesteps
    return process.alpha[t.long()], process.sigma[t.long()]


def best_denoiser(process):
    """E[x_0 | x_t] in the process' own terms, written without kdlib's conversions."""
    values, vectors = torch.linalg.eigh(COVARIANCE)

    def denoise(x_t, t, condition):
        alpha, sigma = (c[:, None] for c in exact_times(process, t))
        flat = x_t.flatten(1).double()
        gain = alpha * values / (alpha ** 2 * values + sigma ** 2)
        x_0 = MEAN + ((flat - alpha * MEAN) @ vectors * gain) @ vectors.T
        epsilon = (flat - alpha * x_0) / sigma
        along = epsilon - x_0 if process.schedule == "flow" else alpha * epsilon - sigma * x_0
        return {"x0": x_0, "epsilon": epsilon, "v": along}[process.prediction].reshape(x_t.shape).to(x_t)

    return denoise


def draw(process, batch, num_steps, sampler=None, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    options = {"clip": False} | options
    return sample(process, best_denoiser(process), nothing(batch), SHAPE, num_steps, sampler=sampler,
                  generator=generator, **options).flatten(1).double()


def flowed(process, batch, seed=0):
    """Where the probability flow takes the same noise: x_0 = m + S^(1/2) C^(-1/2) (x_N - alpha m), C that of x_N."""
    noise = torch.randn((batch, *SHAPE), generator=torch.Generator().manual_seed(seed)).flatten(1).double()
    values, vectors = torch.linalg.eigh(COVARIANCE)
    alpha, sigma = process.alpha[-1], process.sigma[-1]
    gain = (values / (alpha ** 2 * values + sigma ** 2)).sqrt()
    return MEAN + ((noise - alpha * MEAN) @ vectors * gain) @ vectors.T


# --- schedules -----------------------------------------------------------------------------------------------------

@each_kind
def test_a_schedule_runs_from_the_picture_to_noise(process):
    assert (process.alpha[0], process.sigma[0]) == (1, 0) and len(process.alpha) == 1001
    assert (process.alpha.diff() < 0).all() and (process.sigma.diff() >= 0).all()
    assert process.alpha[-1] < 0.01 and process.sigma[-1] > 0.9999
    total = process.alpha + process.sigma if process.schedule == "flow" else process.alpha ** 2 + process.sigma ** 2
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-12, rtol=0)


def test_the_cosine_schedule_is_that_of_nichol_and_dhariwal():
    t = np.arange(1, 990)
    f = lambda t: np.cos((t / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(Process().alpha[1:990] ** 2, f(t) / f(0), rtol=1e-9)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_zero_terminal_snr_ends_at_zero_and_keeps_the_start(schedule):
    plain = Process(schedule=schedule, prediction="v")
    process = Process(schedule=schedule, prediction="v", zero_terminal_snr=True)
    assert process.alpha[-1] == 0 and process.sigma[-1] == 1
    torch.testing.assert_close(process.alpha[1], plain.alpha[1])
    ratio = (process.alpha[1:-1] - process.alpha[-1]) / (plain.alpha[1:-1] - plain.alpha[-1])
    torch.testing.assert_close(ratio, ratio[0].expand_as(ratio), rtol=1e-9, atol=0)  # shifted and scaled, no more


@pytest.mark.parametrize("process", [p for p in KINDS if p.schedule != "flow"], ids=NAMES)
@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm"])
def test_the_schedulers_have_the_same_schedule(process, sampler):
    scheduler = make_scheduler(process, sampler, 10)
    np.testing.assert_allclose(scheduler.alphas_cumprod, process.alpha[1:] ** 2, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("changes, message", [
    ({"schedule": "sigmoid"}, "'sigmoid' must be 'cosine', 'linear' or 'flow'"),
    ({"prediction": "noise"}, "'noise' must be one of epsilon, v, x0"),
    ({"num_timesteps": 1}, "schedule 'cosine' needs 2"), ({"schedule": "linear", "num_timesteps": 20}, "needs 21"),
    ({"schedule": "flow"}, "predict 'v' or 'x0'"), ({"zero_terminal_snr": True}, "predict 'v' or 'x0'"),
    ({"schedule": "flow", "prediction": "v", "zero_terminal_snr": True}, "leave zero_terminal_snr False"),
    ({"min_snr_gamma": 0.0}, "must be above 0")])
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Process(**changes)


# --- predictions ---------------------------------------------------------------------------------------------------

def noised(process, batch=7, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x_0, epsilon = (torch.randn(batch, 3, 2, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([1, 2, 100, 500, 800, 900, 999])
    alpha, sigma = (c[:, None, None, None] for c in exact_times(process, t))
    return x_0, epsilon, t, alpha * x_0 + sigma * epsilon, alpha, sigma


@each_kind
def test_what_is_predicted_means_the_picture(process):
    x_0, epsilon, t, x_t, alpha, sigma = noised(process)
    v = epsilon - x_0 if process.schedule == "flow" else alpha * epsilon - sigma * x_0
    wanted = {"x0": x_0, "epsilon": epsilon, "v": v}[process.prediction]
    torch.testing.assert_close(target(process, x_0, epsilon, t), wanted, atol=1e-12, rtol=0)
    torch.testing.assert_close(to_x0(process, wanted, x_t, t), x_0, atol=1e-5, rtol=0)
    torch.testing.assert_close(from_x0(process, x_0, x_t, t), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("one", PREDICTIONS)
@pytest.mark.parametrize("other", PREDICTIONS)
def test_predictions_convert_into_each_other_and_back(one, other):
    here, there = Process(prediction=one), Process(prediction=other)
    _, anything, t, x_t, *_ = noised(here)
    converted = from_x0(there, to_x0(here, anything, x_t, t), x_t, t)
    back = from_x0(here, to_x0(there, converted, x_t, t), x_t, t)
    torch.testing.assert_close(back, anything, atol=1e-5, rtol=0)


# --- training ------------------------------------------------------------------------------------------------------

@each_kind
def test_the_loss_of_the_best_denoiser_is_what_cannot_be_known(process):
    """Variance of the target given x_t, in closed form; mean of 50 batches within 4.5 standard errors."""
    values = torch.linalg.eigvalsh(COVARIANCE)[:, None]
    alpha, sigma = process.alpha[1:], process.sigma[1:]
    left = values * sigma ** 2 / (alpha ** 2 * values + sigma ** 2)  # of x_0
    larger = {"x0": torch.ones_like(alpha), "epsilon": alpha / sigma,
              "v": 1 / sigma}[process.prediction]  # on the circle and on the straight line alike
    expected = (left * larger ** 2).mean().item()
    generator, losses, root = torch.Generator().manual_seed(3), [], torch.linalg.cholesky(COVARIANCE)
    for _ in range(50):
        x_0 = MEAN + torch.randn(500, DIM, generator=generator, dtype=torch.float64) @ root.T
        losses.append(training_loss(process, best_denoiser(process), x_0.reshape(-1, *SHAPE), nothing(500),
                                    generator).item())
    assert abs(np.mean(losses) - expected) < 4.5 * np.std(losses, ddof=1) / 50 ** 0.5
    assert np.std(losses, ddof=1) / 50 ** 0.5 < 0.02 * expected  # or the line above would say little


def test_times_are_uniform_from_1_to_n():
    seen, process = [], Process(num_timesteps=5)

    def denoise(x_t, t, condition):
        seen.extend(t.tolist())
        return x_t

    training_loss(process, denoise, torch.zeros(5000, 3, 1, 1), nothing(5000), torch.Generator().manual_seed(0))
    assert set(seen) == {1, 2, 3, 4, 5}
    assert stats.chisquare(np.bincount(seen)[1:]).pvalue > 1e-4


def test_min_snr_weights_are_those_of_the_paper():
    """Hang et al., 2023, section 3.4, with SNR = alpha^2 / sigma^2; at t = 1 the SNR is above gamma, at 900 below."""
    t = torch.tensor([1, 300, 900])
    for gamma in (1.0, 5.0):
        weights = {name: loss_weight(Process(prediction=name, min_snr_gamma=gamma), t) for name in PREDICTIONS}
        snr = (Process().alpha ** 2 / Process().sigma ** 2)[t]
        clamped = torch.minimum(snr, torch.full_like(snr, gamma))
        assert snr[0] > gamma > snr[2]
        for name, wanted in (("x0", clamped), ("epsilon", clamped / snr), ("v", clamped / (snr + 1))):
            torch.testing.assert_close(weights[name], wanted, rtol=1e-9, atol=0)
    assert (loss_weight(Process(), t) == 1).all()


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", ["cosine", "flow"])
def test_under_min_snr_all_predictions_have_one_loss(prediction, schedule):
    """The weighted loss of one and the same wrong x_0 is min(SNR, gamma) |error|^2, however it is told."""
    if (schedule, prediction) == ("flow", "epsilon"):
        return
    process = Process(schedule=schedule, prediction=prediction, min_snr_gamma=5.0)
    wrong, x_0 = torch.full((4, 3, 2, 2), 0.3, dtype=torch.float64), torch.zeros(4, 3, 2, 2, dtype=torch.float64)
    times = []

    def denoise(x_t, t, condition):
        times.append(t)
        return from_x0(process, wrong, x_t, t)

    loss = training_loss(process, denoise, x_0, nothing(4), torch.Generator().manual_seed(0))
    alpha, sigma = exact_times(process, times[0])
    torch.testing.assert_close(loss, ((alpha / sigma) ** 2).clamp(max=5).mean() * 0.09, rtol=1e-6, atol=0)


def test_the_weight_reaches_the_loss_and_the_generator_alone_decides():
    loss = lambda process, seed: training_loss(process, lambda x_t, t, condition: 0 * x_t, torch.ones(9, *SHAPE),
                                               nothing(9), torch.Generator().manual_seed(seed)).item()
    assert loss(Process(), 0) == loss(Process(), 0) != loss(Process(), 1)
    assert loss(Process(min_snr_gamma=1.0), 0) < loss(Process(), 0)


# --- samplers ------------------------------------------------------------------------------------------------------

SAMPLERS = [(p, s) for p in (KINDS[0], KINDS[5]) for s in p.samplers]
ODES = [(p, s) for p in KINDS for s in p.samplers if s != "ddpm"]


@pytest.mark.parametrize("process, sampler", ODES, ids=NAMES)
def test_samples_go_where_the_probability_flow_takes_their_noise(process, sampler):
    """The largest distance to the exact solution shrinks as the sampler's order says: by 2 or 4 when steps double."""
    exact, order = flowed(process, 200), {"dpm": 2, "heun": 2}.get(sampler, 1)
    error = {steps: (draw(process, 200, steps, sampler) - exact).abs().max().item() for steps in (10, 50, 100)}
    assert error[100] < (0.02 if order == 2 else 0.12) and error[100] < error[10]
    assert error[100] < error[50] / 2 ** (0.75 * order)


@pytest.mark.parametrize("process, sampler, num_steps", [
    *[(p, p.samplers[0], 60) for p in KINDS], (Process(), "ddim", 400), (Process(), "ddpm", 500),
    (KINDS[4], "ddpm", 400), (KINDS[5], "heun", 40)], ids=NAMES)
def test_samples_have_the_mean_and_covariance_of_the_data(process, sampler, num_steps):
    """6000 samples: the mean by a chi-square test of DIM degrees, each direction's variance by another; p > 1e-4.

    The few steps' own bias must be well below the statistical error, of 1.8% of a variance, so it may be as large.
    """
    count = 6000
    x = draw(process, count, num_steps, sampler)
    values, vectors = torch.linalg.eigh(COVARIANCE)
    whitened = ((x - MEAN) @ vectors / values.sqrt()).numpy()
    assert stats.chi2.sf(count * (whitened.mean(0) ** 2).sum(), DIM) > 1e-4
    covariance = np.cov(whitened.T)
    limits = stats.chi2.ppf([1e-5, 1 - 1e-5], count - 1) / (count - 1)
    assert (np.diag(covariance) > limits[0] - 0.018).all() and (np.diag(covariance) < limits[1] + 0.018).all()
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < stats.norm.isf(1e-5) / count ** 0.5


@pytest.mark.parametrize("num_steps", [1, 3, 7, 16])
def test_ancestral_sampling_in_strides_has_the_moments_of_its_closed_form(num_steps):
    """Ho et al., equation 7, from t straight to s: a chain of affine steps, whose mean and variance are known."""
    process, variance = Process(prediction="x0"), COVARIANCE  # at N a float32 epsilon says x_0 to 1e-3 only
    alphas, sigmas = process.alpha, process.sigma
    mean, cov = torch.zeros(DIM, dtype=torch.float64), torch.eye(DIM, dtype=torch.float64)
    times = [*sampling_times(1000, num_steps), 0]
    eye = torch.eye(DIM, dtype=torch.float64)
    for t, s in zip(times, times[1:], strict=False):
        a_t, a_s, v_t, v_s = alphas[t], alphas[s], sigmas[t] ** 2, sigmas[s] ** 2
        beta = 1 - (a_t / a_s) ** 2
        gain = a_t * variance @ torch.linalg.inv(a_t ** 2 * variance + v_t * eye)
        on_x0, on_xt = a_s * beta / v_t, a_t / a_s * v_s / v_t
        matrix = on_x0 * gain + on_xt * eye
        mean = matrix @ mean + on_x0 * (MEAN - gain @ MEAN * a_t)
        cov = matrix @ cov @ matrix.T + beta * v_s / v_t * eye
    x = draw(process, 20000, num_steps, "ddpm")
    standard_error = (cov.diagonal().clamp(min=1e-12) / 20000).sqrt()
    assert ((x.mean(0) - mean).abs() < 5 * standard_error + 1e-4).all()
    spread = (cov.diagonal()[:, None] * cov.diagonal() + cov ** 2).sqrt() / 20000 ** 0.5
    assert ((torch.cov(x.T) - cov).abs() < 5 * spread + 1e-4).all()


def test_first_order_is_ddim():
    """Where its strides are even, diffusers' DDIMScheduler takes the same steps."""
    process = Process()
    scheduler = DDIMScheduler(1000, trained_betas=process.betas.numpy(), clip_sample=False, timestep_spacing="trailing",
                              prediction_type="sample")
    scheduler.set_timesteps(20)
    x = torch.randn((4, *SHAPE), generator=torch.Generator().manual_seed(0))
    for t in scheduler.timesteps:
        times = torch.full((4,), t.item() + 1)
        x = scheduler.step(predict_x0(process, best_denoiser(process), x, times, nothing(4)), t, x).prev_sample
    torch.testing.assert_close(draw(process, 4, 20, "ddim"), x.flatten(1).double(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("process, sampler", SAMPLERS, ids=NAMES)
@pytest.mark.parametrize("num_steps", [1, 3, 7, 16, 333])
def test_the_network_is_asked_once_a_step_at_falling_times(process, sampler, num_steps):
    seen, best = [], best_denoiser(process)

    def denoise(x_t, t, condition):
        seen.append(t[0].item())
        return best(x_t, t, condition)

    sample(process, denoise, nothing(1), SHAPE, num_steps, sampler=sampler)
    assert seen[0] == 1000 and seen[-1] == pytest.approx(1000 / num_steps, abs=1)
    if sampler == "heun":
        assert len(seen) == 2 * num_steps - 1
        seen = seen[:1] + seen[1::2]
    assert len(seen) == num_steps and (np.diff(seen) < 0).all()
    assert np.abs(np.diff(seen) + 1000 / num_steps).max(initial=0) <= 1  # evenly spread


@pytest.mark.parametrize("process, sampler, num_steps, message", [
    (Process(), "euler", 4, "schedule 'cosine' takes dpm, ddim, ddpm"),
    (Process(schedule="flow", prediction="v"), "ddpm", 4, "schedule 'flow' takes euler, heun"),
    (Process(), None, 0, "num_steps is 0; it must lie in 1 .. 1000"),
    (Process(num_timesteps=10), None, 11, "num_steps is 11; it must lie in 1 .. 10")])
def test_impossible_ways_of_sampling_are_refused(process, sampler, num_steps, message):
    with pytest.raises(ValueError, match=message):
        draw(process, 1, num_steps, sampler)


@pytest.mark.parametrize("process, sampler", SAMPLERS, ids=NAMES)
def test_the_same_seed_gives_the_same_bytes(process, sampler):
    torch.manual_seed(1)
    first = draw(process, 3, 9, sampler, seed=5)
    torch.manual_seed(2)  # nothing may come from the global generator
    assert torch.equal(draw(process, 3, 9, sampler, seed=5), first)
    assert not torch.equal(draw(process, 3, 9, sampler, seed=6), first)


def test_clipped_predictions_keep_pictures_in_range():
    far = lambda x_t, t, condition: 5 + 0 * x_t
    process = Process(prediction="x0")
    assert (sample(process, far, nothing(2), SHAPE, 5) == 1).all()
    torch.testing.assert_close(sample(process, far, nothing(2), SHAPE, 5, clip=False), torch.full((2, *SHAPE), 5.0))


def test_noise_comes_from_the_generator():
    wanted = torch.randn(2, 3, generator=torch.Generator().manual_seed(4))
    assert torch.equal(random_normal((2, 3), torch.Generator().manual_seed(4), "cpu"), wanted)


# --- guidance ------------------------------------------------------------------------------------------------------

def told_apart(x_t, t, condition):
    """A network that says something of its own of every row and every condition."""
    rows = condition.query.sum(1) + condition.neighbours.sum((1, 2))
    return 0.3 * x_t + (0.1 * rows + t / 1000)[:, None, None, None]


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_guidance_extrapolates_and_scale_1_is_one_plain_pass(prediction):
    process, y, batches = Process(prediction=prediction), nothing(3), []

    def denoise(x_t, t, condition):
        batches.append(len(x_t))
        return told_apart(x_t, t, condition)

    x_t, t = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0)), torch.tensor([5, 400, 900])
    given, null = (to_x0(process, told_apart(x_t, t, c), x_t, t) for c in (y, y.null()))
    guide = lambda scale: predict_x0(process, denoise, x_t, t, y, scale)
    assert torch.equal(guide(1.0), given) and batches == [3]
    torch.testing.assert_close(guide(0.0), null, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(guide(3.0), null + 3 * (given - null), rtol=1e-4, atol=1e-5)
    assert batches == [3, 6, 6]


def test_guidance_can_be_kept_to_an_interval_of_noise():
    guided = []

    def denoise(x_t, t, condition):
        if len(x_t) == 4:
            guided.append(t[0].item())
        return told_apart(x_t, t, condition)

    draw = lambda **options: sample(Process(), denoise, nothing(2), SHAPE, 10, guidance_scale=3.0, clip=False,
                                    generator=torch.Generator().manual_seed(0), **options)
    inside = draw(guidance_interval=(0.25, 0.6))
    assert guided == [600, 500, 400, 300]
    plain, everywhere = draw(guidance_interval=(2.0, 3.0)), draw()
    assert not torch.equal(inside, plain) and not torch.equal(inside, everywhere)
    assert torch.equal(plain, sample(Process(), told_apart, nothing(2), SHAPE, 10, clip=False,
                                     generator=torch.Generator().manual_seed(0)))
