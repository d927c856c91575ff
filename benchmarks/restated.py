"""What the code of VQ-Diffusion does, restated plainly from its description, as the other side of the comparison.

Every distribution is a full (batch, V + 1, positions) tensor of logarithms, one-hot codes among them; the softmax over
codes runs in float64; attention maps are computed, averaged and thrown away; guidance takes two passes. The network is
kdlib's own, so that parameters and mathematics are the same; the numbers that come out are those of
kdlib.models.discrete.process.
"""

from __future__ import annotations

from contextlib import contextmanager
from unittest import mock

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from kdlib.models.condition import Condition
from kdlib.models.discrete.process import Denoise, Schedule

LogLetters = Float[Tensor, "batch letters positions"]  # over V codes and, last, [MASK]
LOWEST = -70.0


def attend(q: Float[Tensor, "batch heads positions head_width"], k: Float[Tensor, "batch heads keys head_width"],
           v: Float[Tensor, "batch heads keys head_width"]) -> Float[Tensor, "batch heads positions head_width"]:
    """softmax(q k' / sqrt(head_width)) v by way of the whole attention map."""
    attention_map = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
    attention_map.mean(1)  # an average over heads that nobody reads: it is computed there, so here too
    return attention_map @ v


@contextmanager
def explicit_attention():
    """Networks called inside attend explicitly."""
    with mock.patch.object(F, "scaled_dot_product_attention", attend):
        yield


def log_one_hot(x: Int[Tensor, "batch positions"], num_letters: int) -> LogLetters:
    """0 for the letter that is there, log 1e-30 for all others; float32."""
    return F.one_hot(x, num_letters).permute(0, 2, 1).float().clamp(min=1e-30).log()


def draw(log_p: LogLetters) -> LogLetters:
    """A one-hot draw by the Gumbel trick over all letters of all positions, from torch's own random numbers."""
    gumbel = -torch.log(-torch.log(torch.rand_like(log_p) + 1e-30) + 1e-30)
    return log_one_hot((log_p + gumbel).argmax(1), log_p.shape[1])


def forward(log_x: LogLetters, keep: Tensor, uniform: Tensor, mask: Tensor) -> LogLetters:
    """log of the distribution after keeping, replacing or masking; probabilities (b,), uniform over V codes."""
    log_keep, log_each, log_mask, log_unmasked = (
        p.log().to(log_x.dtype)[:, None, None] for p in (keep, uniform / (log_x.shape[1] - 1), mask, 1 - mask))
    return torch.cat([torch.logaddexp(log_x[:, :-1] + log_keep, log_each),
                      torch.logaddexp(log_x[:, -1:] + log_unmasked, log_mask)], dim=1)


def cumulative(schedule: Schedule, t: Int[Tensor, " batch"]) -> tuple[Tensor, Tensor, Tensor]:
    """keep, uniform and mask from step 0 to step t."""
    return schedule.keep[t], schedule.uniform[t], schedule.mask[t]


def one_step(schedule: Schedule, t: Int[Tensor, " batch"]) -> tuple[Tensor, Tensor, Tensor]:
    """keep, uniform and mask from step t - 1 to step t."""
    keep = schedule.keep[t] / schedule.keep[t - 1]
    mask = (schedule.mask[t] - schedule.mask[t - 1]) / (1 - schedule.mask[t - 1])
    return keep, (1 - keep - mask).clamp(min=0), mask


def likelihood(log_x: LogLetters, keep: Tensor, uniform: Tensor,
               mask: Tensor) -> Float[Tensor, "batch codes positions"]:
    """log of the probability that each code would have become the one-hot letters x."""
    masked = log_x.argmax(1, keepdim=True) == log_x.shape[1] - 1
    return torch.where(masked, mask.log().to(log_x.dtype)[:, None, None], forward(log_x, keep, uniform, mask)[:, :-1])


def posterior(schedule: Schedule, log_p_x0: LogLetters, log_x_t: LogLetters, t: Int[Tensor, " batch"]) -> LogLetters:
    """log of sum over x_0 of q(x_{t-1} | x_t, x_0) p(x_0); log_x_t one-hot."""
    quotient = log_p_x0[:, :-1] - likelihood(log_x_t, *cumulative(schedule, t))
    total = quotient.logsumexp(1, keepdim=True)
    before = forward(F.pad(quotient - total, (0, 0, 0, 1), value=LOWEST), *cumulative(schedule, t - 1))
    # A mask stays a mask; nothing else comes from one.
    now = torch.cat([likelihood(log_x_t, *one_step(schedule, t)), log_x_t[:, -1:]], dim=1)
    return (before + now + total).clamp(LOWEST, 0)


def predict(denoise: Denoise, log_x_t: LogLetters, t: Int[Tensor, " batch"], condition: Condition) -> LogLetters:
    """log p(x_0), softmax in float64, [MASK] impossible."""
    with explicit_attention():
        logits = denoise(log_x_t.argmax(1), t, condition).transpose(1, 2)
    return F.pad(logits.double().log_softmax(1).float(), (0, 0, 0, 1), value=LOWEST).clamp(LOWEST, 0)


def loss_rows(schedule: Schedule, log_p_x0: LogLetters, log_x_0: LogLetters, log_x_t: LogLetters,
              t: Int[Tensor, " batch"], xi: float = 5e-4) -> Float[Tensor, " batch"]:
    """L_0 at t = 1, else L_{t-1} + xi L_x0; nats per position."""
    truth, model = posterior(schedule, log_x_0, log_x_t, t), posterior(schedule, log_p_x0, log_x_t, t)
    divergence = (truth.exp() * (truth - model)).sum(1).mean(1)
    first = -(log_x_0.exp() * model).sum(1).mean(1)
    x0_term = (log_x_0.exp() * (log_x_0 - log_p_x0))[:, :-1].sum(1).mean(1)
    return torch.where(t == 1, first, divergence + xi * x0_term)


def training_loss(schedule: Schedule, denoise: Denoise, x_0: Int[Tensor, "batch positions"], condition: Condition,
                  num_codes: int) -> Float[Tensor, ""]:
    """The loss of a batch, t uniform in 1 .. N."""
    t = torch.randint(1, schedule.num_timesteps + 1, (len(x_0),))
    log_x_0 = log_one_hot(x_0, num_codes + 1)
    log_x_t = draw(forward(log_x_0, *cumulative(schedule, t)))
    rows = loss_rows(schedule, predict(denoise, log_x_t, t, condition), log_x_0, log_x_t, t)
    return (rows * schedule.num_timesteps).mean()


@torch.no_grad()
def sampling_step(schedule: Schedule, denoise: Denoise, log_x_t: LogLetters, t: Int[Tensor, " batch"],
                  condition: Condition, guidance_scale: float) -> LogLetters:
    """One-hot x_{t-1}, guided: a pass with the condition, another with the null condition, then the full posterior."""
    given, null = (predict(denoise, log_x_t, t, y)[:, :-1] for y in (condition, condition.null()))
    guided = (null + guidance_scale * (given - null)).log_softmax(1).clamp(LOWEST, 0)
    return draw(posterior(schedule, F.pad(guided, (0, 0, 0, 1), value=LOWEST), log_x_t, t))
