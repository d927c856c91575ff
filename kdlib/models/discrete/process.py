"""The discrete diffusion process (paper sections 3 and 6.5, algorithms 1 and 2; after VQ-Diffusion, Gu et al. 2021).

A picture is a row of positions; each holds a code 0 .. V-1 or [MASK] = V. Going forward, from step 0 (the picture) to
step N (almost all [MASK]), a code is kept, replaced by a random code, or masked; a mask stays a mask. The process knows
no network: everything takes a callable `denoise(x_t, t, condition) -> logits over x_0`, shapes (b, p), (b,), Condition
-> (b, p, V).

Two roads, chosen by the schedule. With (near-)pure masking a code, once there, stays: only masked positions matter, a
step unmasks each of them with one known probability, and only those are sampled. The general road (uniform share above
`MASKING_TOLERANCE`) keeps a few (b, p, V) tensors. Neither builds anything of size V x V.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from kdlib.models.condition import Condition, concatenate

Denoise = Callable[[Tensor, Tensor, Condition], Tensor]

# Up to this uniform share the process is treated as pure masking. At VQ-Diffusion's 1e-6 a position then differs from
# the published process with probability 1e-6 * log(1e5), about 1e-5.
MASKING_TOLERANCE = 1e-5


# ---------------------------------------------------------------------------------------------------------- schedule

@dataclass(frozen=True)
class Schedule:
    """Cumulative probabilities of the forward process (the products of Q_1 .. Q_t, section 3).

    num_timesteps  N
    kind           "linear" (VQ-Diffusion: keep runs from 0.99999 at t=1 to 9e-6 at N) or "cosine" (same ends)
    uniform_share  probability that a position holds a random code at N; VQ-Diffusion's 1e-6 is in effect pure masking

    `keep`, `mask` and `uniform` are float64 (N+1,), index 0 being the untouched picture; they sum to 1 at every t.
    `uniform` is the whole probability of a draw over all V codes, of which the original code is one.
    """

    num_timesteps: int
    kind: str = "linear"
    uniform_share: float = 1e-6

    def __post_init__(self):
        if self.num_timesteps < 2:
            raise ValueError(f"num_timesteps is {self.num_timesteps}; a schedule needs at least 2")
        if self.kind not in ("linear", "cosine"):
            raise ValueError(f"schedule kind is {self.kind!r}; choose 'linear' or 'cosine'")
        if not 0 <= self.uniform_share < 0.9:
            raise ValueError(f"uniform_share is {self.uniform_share}; it must be at least 0 and below 0.9")

    @cached_property
    def _ramp(self) -> Tensor:
        """0 at t=1, 1 at t=N."""
        line = torch.linspace(0, 1, self.num_timesteps, dtype=torch.float64)
        return line if self.kind == "linear" else torch.sin(line * torch.pi / 2) ** 2

    @cached_property
    def keep(self) -> Tensor:
        return _with_start(1.0, 0.99999 + (9e-6 - 0.99999) * self._ramp)

    @cached_property
    def uniform(self) -> Tensor:
        first = min(1e-6, self.uniform_share)
        return _with_start(0.0, first + (self.uniform_share - first) * self._ramp)

    @cached_property
    def mask(self) -> Tensor:
        return (1 - self.keep - self.uniform).clamp(min=0)

    @property
    def pure_masking(self) -> bool:
        return self.uniform_share <= MASKING_TOLERANCE

    def to_dict(self) -> dict:
        """What JSON keeps; `Schedule(**that)` is equal to this one."""
        return asdict(self)


def _with_start(start: float, values: Tensor) -> Tensor:
    return torch.cat([torch.tensor([start], dtype=values.dtype), values])


def _at(values: Tensor, t: Tensor) -> Tensor:
    """values[t], shaped (b, 1, 1) to go with (b, p, V)."""
    return values.to(t.device)[t][:, None, None]


# ------------------------------------------------------------------------------------------------- random numbers

def random_uniform(shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> Tensor:
    """float64 in [0, 1), drawn where the generator lives: a CPU generator gives the same numbers on every device."""
    source = generator.device if generator is not None else device
    return torch.rand(shape, generator=generator, device=source, dtype=torch.float64).to(device)


def sample_categorical(probabilities: Float[Tensor, "rows codes"],
                       generator: torch.Generator | None = None) -> Int[Tensor, " rows"]:
    """One index per row by inverting the float64 cumulative sum; rows need not sum to 1.

    An index of probability 0 is never drawn, and tails are not cut as they are by Gumbel noise in float32.
    """
    cumulative = probabilities.double().cumsum(-1)
    total = cumulative[:, -1:]
    aim = random_uniform((len(probabilities), 1), generator, probabilities.device) * total
    aim = torch.minimum(aim, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, aim, right=True).squeeze(-1)


# ------------------------------------------------------------------------------------------ the process (section 3)


def q_sample(schedule: Schedule, x_0: Int[Tensor, "batch positions"], t: Int[Tensor, " batch"], num_codes: int,
             generator: torch.Generator | None = None) -> Int[Tensor, "batch positions"]:
    """x_t ~ q(x_t | x_0), in one jump (section 3; algorithm 1 line 9)."""
    draw = random_uniform(tuple(x_0.shape), generator, x_0.device)
    mask, uniform = _at(schedule.mask, t)[..., 0], _at(schedule.uniform, t)[..., 0]
    random_codes = (random_uniform(tuple(x_0.shape), generator, x_0.device) * num_codes).to(x_0.dtype)
    x_t = torch.where(draw < mask + uniform, random_codes, x_0)
    return torch.where(draw < mask, torch.full_like(x_0, num_codes), x_t)


def posterior(schedule: Schedule, x_t: Int[Tensor, "batch positions"], p_x0: Float[Tensor, "batch positions codes"],
              s: Int[Tensor, " batch"], t: Int[Tensor, " batch"]) -> Float[Tensor, "batch positions codes+1"]:
    """sum over x_0 of q(x_s | x_t, x_0) p(x_0), for any s < t (section 3, p_theta; s = t-1 there). Last column: [MASK].

    In closed form, in p_x0's dtype, with a handful of (b, p, V) tensors. With keep a, uniform b = uniform / V:
    x_t a mask:    P(x_s = k) = (mask_t - mask_s) / mask_t * (a_s p_k + b_s) / (1 - mask_s),  P(MASK) = mask_s / mask_t
    x_t a code j:  P(x_s = k) = ([k=j] a_ts + b_ts) (a_s r_k + b_s sum r),  r_i = p_i / ([i=j] a_t + b_t)
    Without a uniform share a code can only come from itself, so it stays whatever p_x0 says. At s = 0 this is p_x0.
    """
    num_codes = p_x0.shape[-1]
    keep_s, keep_t = _at(schedule.keep, s), _at(schedule.keep, t)
    uniform_s, uniform_t = _at(schedule.uniform, s), _at(schedule.uniform, t)
    mask_s, mask_t = _at(schedule.mask, s), _at(schedule.mask, t)
    alive_s = keep_s + uniform_s
    keep_ts = keep_t / keep_s
    b_ts = ((keep_s * uniform_t - keep_t * uniform_s) / (keep_s * alive_s)).clamp(min=0) / num_codes
    b_s, b_t = uniform_s / num_codes, uniform_t / num_codes
    unmask = (mask_t - mask_s) / (mask_t * alive_s)
    scale, own = torch.where(b_t > 0, 1 / b_t, 0), 1 / (keep_t + b_t)
    a_s, a_ts, b_ts, b_s, scale, own, from_mask, stay = (
        c.to(p_x0.dtype) for c in (keep_s, keep_ts, b_ts, b_s, scale, own, unmask, mask_s / mask_t))

    masked = (x_t == num_codes)[..., None]
    code = x_t.clamp(max=num_codes - 1)[..., None]
    p_own = torch.where(scale > 0, p_x0.gather(-1, code), 1)
    r = (p_x0 * scale).scatter(-1, code, p_own * own)
    before = a_s * r + b_s * r.sum(-1, keepdim=True)
    from_code = (b_ts * before).scatter_add(-1, code, a_ts * before.gather(-1, code))
    codes = torch.where(masked, from_mask * (a_s * p_x0 + b_s), from_code)
    return torch.cat([codes, torch.where(masked, stay, 0)], dim=-1)


# ---------------------------------------------------------------------------------- training (equation 1, algorithm 1)


def loss_terms(schedule: Schedule, logits: Float[Tensor, "batch positions codes"],
               x_0: Int[Tensor, "batch positions"], x_t: Int[Tensor, "batch positions"],
               t: Int[Tensor, " batch"]) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """L_{t-1} (L_0 at t = 1) and L_x0 = -log p(x_0 | x_t) of equation 1, one number a row, in nats per position.

    Under pure masking codes that are still there count as known, so both are cross-entropies over masked positions, and
    L_{t-1} is L_x0 times the probability that a mask of step t is a code at step t-1.
    """
    num_codes = logits.shape[-1]
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if schedule.pure_masking:
        target = x_0.long().masked_fill(x_t != num_codes, -1)
        nll = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-1, reduction="none")
        x0_term = nll.view(x_0.shape).mean(1)
        mask_t, mask_s = schedule.mask.to(t.device)[t], schedule.mask.to(t.device)[t - 1]
        return ((mask_t - mask_s) / mask_t).to(x0_term.dtype) * x0_term, x0_term
    log_p = logits.log_softmax(-1)
    nll = -log_p.gather(-1, x_0.long()[..., None]).squeeze(-1)
    exact = torch.zeros_like(log_p).scatter(-1, x_0.long()[..., None], 1)
    q = posterior(schedule, x_t, exact, t - 1, t)
    p = posterior(schedule, x_t, log_p.exp(), t - 1, t).clamp(min=torch.finfo(log_p.dtype).tiny)
    divergence = (torch.xlogy(q, q) - q * p.log()).sum(-1)
    return torch.where(t[:, None] == 1, nll, divergence).mean(1), nll.mean(1)


def training_loss(schedule: Schedule, denoise: Denoise, x_0: Int[Tensor, "batch positions"], condition: Condition,
                  num_codes: int, xi: float = 5e-4, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
    """Algorithm 1 lines 8 to 14: L_0 at t = 1, else L_{t-1} + xi L_x0, t uniform in 1 .. N, times N: with xi = 0 the
    mean is an unbiased estimate of L_0 + .. + L_{N-1}, in nats per position.

    Besides the logits a pass holds their float32 softmax; the general road about ten such.
    """
    t = (random_uniform((len(x_0),), generator, x_0.device) * schedule.num_timesteps).long() + 1
    x_t = q_sample(schedule, x_0, t, num_codes, generator)
    terms, x0_terms = loss_terms(schedule, denoise(x_t, t, condition), x_0, x_t, t)
    return ((terms + xi * torch.where(t > 1, x0_terms, 0)) / (1 / schedule.num_timesteps)).mean()


# -------------------------------------------------------------------------------- prediction: guidance and truncation


def truncate(log_p: Float[Tensor, "rows codes"], rate: float) -> Float[Tensor, "rows codes"]:
    """Keeps each row's most probable codes until their mass reaches `rate` (VQ-Diffusion's truncation), renormalised.

    The most probable code is always kept. rate 1 changes nothing.
    """
    if not 0 < rate <= 1:
        raise ValueError(f"truncation rate is {rate}; it must be above 0 and at most 1 (1 keeps every code)")
    if rate == 1:
        return log_p
    ordered, index = log_p.sort(dim=-1, descending=True)
    mass = ordered.exp()
    before = mass.cumsum(-1) - mass  # 0 for the most probable code, which therefore stays
    ordered = ordered.masked_fill(before >= rate, -torch.inf).log_softmax(-1)
    return torch.empty_like(log_p).scatter(-1, index, ordered)


def predict_x0(denoise: Denoise, x_t: Int[Tensor, "batch positions"], t: Int[Tensor, " batch"], condition: Condition,
               where: Bool[Tensor, "batch positions"], guidance_scale: float = 1.0,
               truncation: float = 1.0) -> Float[Tensor, "chosen codes"]:
    """log p(x_0) at the positions chosen by `where` (row after row), guided and truncated; float32 (float64 if given).

    Guidance (section 6.5) extrapolates log p(x_0), not the posterior, from the null condition y' = 0 by guidance_scale,
    and renormalises. Both predictions come from one batch of 2b rows. Scale 1 is one plain pass.
    """
    if guidance_scale == 1:
        return truncate(_log_softmax(denoise(x_t, t, condition)[where]), truncation)
    pair = denoise(torch.cat([x_t, x_t]), torch.cat([t, t]), concatenate(condition, condition.null()))
    given, null = (_log_softmax(half[where]) for half in pair.chunk(2))
    return truncate((null + guidance_scale * (given - null)).log_softmax(-1), truncation)


def _log_softmax(logits: Tensor) -> Tensor:
    return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)


# ---------------------------------------------------------------------------------------------- samplers (algorithm 2)


def sampling_times(num_timesteps: int, num_steps: int) -> list[int]:
    """num_steps + 1 falling times, evenly spread from N (all masked) to 0 (the picture)."""
    if not 1 <= num_steps <= num_timesteps:
        raise ValueError(f"num_steps is {num_steps}; it must lie in 1 .. {num_timesteps}, the model's timesteps")
    return [num_timesteps * (num_steps - i) // num_steps for i in range(num_steps + 1)]


def prior_sample(schedule: Schedule, batch: int, num_positions: int, num_codes: int,
                 generator: torch.Generator | None = None, device: torch.device | str = "cpu") -> Tensor:
    """x_N (batch, num_positions) int64: all [MASK] (algorithm 2 line 5); with a uniform share, a draw from p(x_N)."""
    x = torch.full((batch, num_positions), num_codes, device=device)
    if schedule.pure_masking:
        return x
    code = (random_uniform((batch, num_positions), generator, x.device) * num_codes).long()
    return torch.where(random_uniform((batch, num_positions), generator, x.device) < schedule.mask[-1].item(), x, code)


@torch.no_grad()
def sample_ancestral(denoise: Denoise, schedule: Schedule, condition: Condition, num_codes: int, num_positions: int,
                     num_steps: int, *, guidance_scale: float = 1.0,
                     guidance_interval: tuple[float, float] = (0.0, 1.0), truncation: float = 1.0,
                     generator: torch.Generator | None = None,
                     progress: bool = False) -> Int[Tensor, "batch positions"]:
    """Algorithm 2 in any number of steps: each step samples p(x_s | x_t, y) by the posterior from t straight to s.

    Guidance is left out of steps whose t / N lies outside of the interval (Kynkaanniemi et al., 2024). Returns codes
    (len(condition), num_positions) int64. num_steps passes of the network, of 2b rows when guided.
    A step holds the network's logits; under pure masking, besides, (m, V) float64 for the m positions that unmask now
    (about b p / num_steps), else about ten (b, p, V) float32. `progress` shows a bar on stderr.
    """
    (low, high), step = guidance_interval, _masking_step if schedule.pure_masking else _general_step
    x = prior_sample(schedule, len(condition), num_positions, num_codes, generator, condition.query.device)
    times = sampling_times(schedule.num_timesteps, num_steps)
    for t, s in tqdm(list(zip(times, times[1:], strict=False)), desc="sampling", disable=not progress):
        scale = guidance_scale if low <= t / schedule.num_timesteps <= high else 1.0
        predict = partial(predict_x0, denoise, condition=condition, guidance_scale=scale, truncation=truncation)
        x = step(predict, schedule, x, s, t, num_codes, generator)
    return x


def _masking_step(predict: Callable, schedule: Schedule, x_t: Tensor, s: int, t: int, num_codes: int,
                  generator: torch.Generator | None) -> Tensor:
    """x_s under pure masking: a mask becomes a code with probability 1 - mask_s / mask_t, drawn from p(x_0)."""
    unmask = 1 - (schedule.mask[s] / schedule.mask[t]).item()
    where = (x_t == num_codes) & (random_uniform(tuple(x_t.shape), generator, x_t.device) < unmask)
    log_p = predict(x_t, torch.full((len(x_t),), t, device=x_t.device), where=where)
    return x_t.masked_scatter(where, sample_categorical(log_p.exp(), generator))


def _general_step(predict: Callable, schedule: Schedule, x_t: Tensor, s: int, t: int, num_codes: int,
                  generator: torch.Generator | None) -> Tensor:
    """x_s by the full posterior, which may also replace codes."""
    s_row, t_row = (torch.full((len(x_t),), time, device=x_t.device) for time in (s, t))
    log_p = predict(x_t, t_row, where=torch.ones_like(x_t, dtype=torch.bool))
    p_x_s = posterior(schedule, x_t, log_p.exp().view(*x_t.shape, num_codes), s_row, t_row)
    return sample_categorical(p_x_s.flatten(0, 1), generator).view(x_t.shape)
