"""The continuous diffusion process (paper sections 3 and 6.6; after Ho et al., 2020, and Nichol & Dhariwal, 2021).

Going forward, from step 0 (the picture) to step N (noise), x_t = alpha_t x_0 + sigma_t epsilon. The process knows no
network: everything takes a callable `denoise(x_t, t, condition) -> prediction`, shapes (b, c, h, w), (b,), Condition ->
(b, c, h, w). What is predicted is a setting; the samplers, which are diffusers', are only ever told of x_0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from diffusers.schedulers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
)
from jaxtyping import Float, Shaped
from torch import Tensor
from tqdm import tqdm

from kdlib.models.condition import Condition, concatenate

Denoise = Callable[[Tensor, Tensor, Condition], Tensor]
Pictures = Float[Tensor, "batch channels height width"]
Times = Shaped[Tensor, " batch"]

PREDICTIONS = ("epsilon", "v", "x0")


# ---------------------------------------------------------------------------------------------------------- schedule


@dataclass(frozen=True)
class Process:
    """How noise is added, and what the network says about it. The defaults are the paper's.

    num_timesteps      N
    schedule           "cosine" (Nichol & Dhariwal, 2021), "linear" (Ho et al., 2020), or "flow": the straight line
                       alpha_t = 1 - t / N, sigma_t = t / N of flow matching (Lipman et al., 2023)
    prediction         "epsilon", "x0" or "v": alpha epsilon - sigma x_0 (Salimans & Ho, 2022); for "flow", which
                       moves along a straight line, epsilon - x_0
    zero_terminal_snr  the schedule rescaled so that alpha_N = 0 (Lin et al., 2024); "flow" ends there anyway
    min_snr_gamma      weights of the loss (Hang et al., 2023), see `loss_weight`; None weighs all times alike

    `alpha` and `sigma` are float64 (N+1,), index 0 being the untouched picture.
    """

    num_timesteps: int = 1000
    schedule: str = "cosine"
    prediction: str = "epsilon"
    zero_terminal_snr: bool = False
    min_snr_gamma: float | None = None

    def __post_init__(self):
        if self.schedule not in ("cosine", "linear", "flow"):
            raise ValueError(f"schedule = {self.schedule!r} must be 'cosine', 'linear' or 'flow'")
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"prediction = {self.prediction!r} must be one of {', '.join(PREDICTIONS)}")
        least = 21 if self.schedule == "linear" else 2
        if self.num_timesteps < least:
            raise ValueError(f"num_timesteps = {self.num_timesteps}; schedule {self.schedule!r} needs {least}")
        if self.is_flow and self.zero_terminal_snr:
            raise ValueError("schedule 'flow' ends in pure noise as it is; leave zero_terminal_snr False")
        if self.prediction == "epsilon" and (self.is_flow or self.zero_terminal_snr):
            raise ValueError("prediction 'epsilon' says nothing of the picture where alpha is 0; predict 'v' or 'x0'")
        if self.min_snr_gamma is not None and not self.min_snr_gamma > 0:
            raise ValueError(f"min_snr_gamma = {self.min_snr_gamma} must be above 0; None weighs all times alike")

    @property
    def is_flow(self) -> bool:
        return self.schedule == "flow"

    @property
    def samplers(self) -> tuple[str, ...]:
        """The names that `sample` takes, the one to use by default first."""
        return ("euler", "heun") if self.is_flow else ("dpm", "ddim", "ddpm")

    @cached_property
    def betas(self) -> Float[Tensor, " {self.num_timesteps}"]:
        """1 - alpha_t^2 / alpha_(t-1)^2 before any rescaling, float64; not for "flow"."""
        if self.schedule == "linear":
            scale = 1000 / self.num_timesteps
            return torch.linspace(1e-4 * scale, 0.02 * scale, self.num_timesteps, dtype=torch.float64)
        line = torch.linspace(0, 1, self.num_timesteps + 1, dtype=torch.float64)
        kept = ((line + 0.008) / 1.008 * torch.pi / 2).cos() ** 2
        return (1 - kept[1:] / kept[:-1]).clamp(max=0.999)

    @cached_property
    def alpha(self) -> Float[Tensor, " {self.num_timesteps}+1"]:
        if self.is_flow:
            return torch.linspace(1, 0, self.num_timesteps + 1, dtype=torch.float64)
        alpha = (1 - self.betas).cumprod(0).sqrt()
        if self.zero_terminal_snr:  # Lin et al., algorithm 1: the first value stays, the last becomes 0
            alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
        return torch.cat([torch.ones(1, dtype=torch.float64), alpha])

    @cached_property
    def sigma(self) -> Float[Tensor, " {self.num_timesteps}+1"]:
        return 1 - self.alpha if self.is_flow else (1 - self.alpha ** 2).sqrt()

    def at(self, t: Times, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha_t and sigma_t, shaped (b, 1, 1, 1), in the dtype and on the device of `like`."""
        rows = t.long().cpu()
        return tuple(values[rows].to(like)[:, None, None, None] for values in (self.alpha, self.sigma))


def random_normal(shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device | str) -> Tensor:
    """float32 noise, drawn where the generator lives: a CPU generator gives the same numbers on every device."""
    source = generator.device if generator is not None else device
    return torch.randn(shape, generator=generator, device=source).to(device)


# ------------------------------------------------------------------------------------------------- what is predicted


def velocity_weights(process: Process, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """(c, d) of v = c epsilon - d x_0."""
    return (torch.ones_like(alpha), torch.ones_like(sigma)) if process.is_flow else (alpha, sigma)


def to_x0(process: Process, prediction: Pictures, x_t: Pictures, t: Times) -> Pictures:
    """The x_0 that the network's prediction means."""
    alpha, sigma = process.at(t, x_t)
    if process.prediction == "x0":
        return prediction
    if process.prediction == "epsilon":
        return (x_t - sigma * prediction) / alpha
    c, d = velocity_weights(process, alpha, sigma)
    return (c * x_t - sigma * prediction) / (c * alpha + d * sigma)


def from_x0(process: Process, x_0: Pictures, x_t: Pictures, t: Times) -> Pictures:
    """What a network that knows x_0 would predict: the inverse of `to_x0`, for t of at least 1."""
    alpha, sigma = process.at(t, x_t)
    return target(process, x_0, (x_t - alpha * x_0) / sigma, t)


def target(process: Process, x_0: Pictures, epsilon: Pictures, t: Times) -> Pictures:
    """What the network is to predict from x_t = alpha_t x_0 + sigma_t epsilon."""
    if process.prediction == "x0":
        return x_0
    if process.prediction == "epsilon":
        return epsilon
    c, d = velocity_weights(process, *process.at(t, x_0))
    return c * epsilon - d * x_0


# ------------------------------------------------------------------------------------------- training (section 6.6)


def loss_weight(process: Process, t: Times) -> Float[Tensor, " batch"]:
    """Weight of the squared error at each time, float64.

    min-SNR: min(SNR, gamma) for x_0, SNR = alpha^2 / sigma^2; what predicts otherwise makes the same error of x_0 look
    larger by a factor (SNR for epsilon, SNR + 1 for v), by which the weight is divided.
    """
    if process.min_snr_gamma is None:
        return torch.ones(len(t), dtype=torch.float64)
    alpha, sigma = (values[t.long().cpu()] for values in (process.alpha, process.sigma))
    c, d = velocity_weights(process, alpha, sigma)
    larger = {"x0": 1, "epsilon": alpha / sigma, "v": c * alpha / sigma + d}[process.prediction]
    return (alpha / sigma).square().clamp(max=process.min_snr_gamma) / larger ** 2


def training_loss(process: Process, denoise: Denoise, x_0: Pictures, condition: Condition,
                  generator: torch.Generator | None = None) -> Float[Tensor, ""]:
    """E |epsilon - epsilon_theta(x_n, n, y)|^2, n uniform in 1 .. N (section 6.6), or as the process' settings say.

    The square is the mean over a picture's numbers.
    """
    source = generator.device if generator is not None else x_0.device
    t = torch.randint(1, process.num_timesteps + 1, (len(x_0),), generator=generator, device=source).to(x_0.device)
    epsilon = random_normal(tuple(x_0.shape), generator, x_0.device).to(x_0)
    alpha, sigma = process.at(t, x_0)
    prediction = denoise(alpha * x_0 + sigma * epsilon, t, condition).to(x_0)
    rows = (prediction - target(process, x_0, epsilon, t)).square().flatten(1).mean(1)
    return (rows * loss_weight(process, t).to(rows)).mean()


# ------------------------------------------------------------------------------------------ guidance and the samplers


def predict_x0(process: Process, denoise: Denoise, x_t: Pictures, t: Times, condition: Condition,
               guidance_scale: float = 1.0) -> Pictures:
    """The guided x_0: y' = 0 + guidance_scale (y - y' = 0), whatever is predicted, since all are affine in each other.

    Both predictions come from one batch of 2b rows. Scale 1 is one plain pass.
    """
    if guidance_scale == 1:
        return to_x0(process, denoise(x_t, t, condition).to(x_t), x_t, t)
    pair = denoise(torch.cat([x_t, x_t]), torch.cat([t, t]), concatenate(condition, condition.null())).to(x_t)
    given, null = pair.chunk(2)
    return to_x0(process, null + guidance_scale * (given - null), x_t, t)


def sampling_times(num_timesteps: int, num_steps: int) -> list[int]:
    """num_steps falling times, evenly spread: the first is N (all noise), 0 (the picture) would come next."""
    if not 1 <= num_steps <= num_timesteps:
        raise ValueError(f"num_steps is {num_steps}; it must lie in 1 .. {num_timesteps}, the model's timesteps")
    return [num_timesteps * (num_steps - i) // num_steps for i in range(num_steps)]


def make_scheduler(process: Process, sampler: str, num_steps: int):
    """diffusers' scheduler, ready for so many steps, which counts times from 0 (ours from 1); see `sample`."""
    if sampler not in process.samplers:
        raise ValueError(f"sampler = {sampler!r}; schedule {process.schedule!r} takes {', '.join(process.samplers)}")
    times = sampling_times(process.num_timesteps, num_steps)
    if sampler == "euler":
        scheduler = FlowMatchEulerDiscreteScheduler(process.num_timesteps)
        scheduler.set_timesteps(sigmas=[t / process.num_timesteps for t in times])
        return scheduler
    if sampler == "heun":
        scheduler = FlowMatchHeunDiscreteScheduler(process.num_timesteps)
        scheduler.sigma_min = times[-1] / process.num_timesteps  # else the last step would be one of N, however few
        scheduler.set_timesteps(num_steps)
        return scheduler
    shared = dict(num_train_timesteps=process.num_timesteps, trained_betas=process.betas.numpy(),
                  rescale_betas_zero_snr=process.zero_terminal_snr, prediction_type="sample")
    scheduler = (DDPMScheduler(**shared, clip_sample=False) if sampler == "ddpm"
                 else DPMSolverMultistepScheduler(**shared, solver_order=2 if sampler == "dpm" else 1))
    scheduler.set_timesteps(timesteps=[t - 1 for t in times])
    return scheduler


@torch.no_grad()
def sample(process: Process, denoise: Denoise, condition: Condition, shape: tuple[int, int, int], num_steps: int, *,
           sampler: str | None = None, guidance_scale: float = 1.0, guidance_interval: tuple[float, float] = (0.0, 1.0),
           clip: bool = True, generator: torch.Generator | None = None, progress: bool = False) -> Pictures:
    """Pictures (len(condition), *shape) from noise, in num_steps passes of the network ("heun": 2 num_steps - 1).

    sampler            "dpm" (DPM-Solver++ 2M), "ddim" (its first order, which DDIM is) or "ddpm" (Ho et al.'s
                       ancestral sampling, in strides); for "flow" "euler" or "heun". None is the process' default
    guidance_scale     1 is no guidance; passes with guidance have 2b rows
    guidance_interval  guide only where t / N lies in it (Kynkaanniemi et al., 2024)
    clip               keep each predicted x_0 in [-1, 1], as pictures are
    progress           shows a bar on stderr

    All noise is drawn on the generator's device. Raises ValueError for a num_steps or sampler that there isn't.
    """
    scheduler = make_scheduler(process, process.samplers[0] if sampler is None else sampler, num_steps)
    device, low, high = condition.query.device, *guidance_interval
    x = random_normal((len(condition), *shape), generator, device)
    for step in tqdm(scheduler.timesteps, desc="sampling", disable=not progress):
        time = step.item() if process.is_flow else step.item() + 1
        t = torch.full((len(x),), time, device=device)
        scale = guidance_scale if low <= time / process.num_timesteps <= high else 1.0
        x_0 = predict_x0(process, denoise, x, t, condition, scale)
        x_0 = x_0.clamp(-1, 1) if clip else x_0
        told = (x - x_0) * process.num_timesteps / time if process.is_flow else x_0  # flow's schedulers take velocities
        randomness = {"generator": generator} if isinstance(scheduler, DDPMScheduler) else {}
        x = scheduler.step(told, step, x, **randomness).prev_sample
    return x
