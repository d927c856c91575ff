"""Other samplers of the discrete process, which need no retraining; all take what `sample_ancestral` takes.

They need pure masking, and differ in which positions a step unmasks, and whether it may mask some again.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from scipy.stats import qmc
from torch import Tensor
from tqdm import tqdm

from kdlib.models.condition import Condition
from kdlib.models.discrete.process import (
    Denoise,
    Schedule,
    predict_x0,
    prior_sample,
    random_uniform,
    sample_categorical,
    sampling_times,
)


def check_pure_masking(schedule: Schedule) -> None:
    """Raises ValueError for a schedule with a uniform share."""
    if not schedule.pure_masking:
        raise ValueError(f"this sampler needs pure masking, but the schedule's uniform_share is "
                         f"{schedule.uniform_share}; use sample_ancestral")


def num_masked(schedule: Schedule, t: int, num_positions: int) -> int:
    """How many positions the schedule leaves masked at t, of those that are at N."""
    return round(num_positions * (schedule.mask[t] / schedule.mask[-1]).item())


@torch.no_grad()
def sample_by_halton(denoise: Denoise, schedule: Schedule, condition: Condition, num_codes: int, num_positions: int,
                     num_steps: int, *, guidance_scale: float = 1.0, generator: torch.Generator | None = None,
                     progress: bool = False) -> Int[Tensor, "batch positions"]:
    """Positions are unmasked in the order of a Halton sequence (Besnier et al., 2025), as many as the schedule says.

    Those of one step then lie far apart and tell little of each other. Every picture has its own shift of the order.
    Raises ValueError for a number of positions that is no square.
    """
    check_pure_masking(schedule)
    order, x = halton_order(num_positions), prior_sample(schedule, len(condition), num_positions, num_codes, generator,
                                                         condition.query.device)
    shift = (random_uniform((len(x), 2), generator, x.device) * order.shape[0]).long()
    ranks = torch.stack([order.roll(tuple(by), (0, 1)).flatten() for by in shift.tolist()]).to(x.device)
    times = sampling_times(schedule.num_timesteps, num_steps)
    for t, s in tqdm(list(zip(times, times[1:], strict=False)), desc="sampling", disable=not progress):
        where = (x == num_codes) & (ranks < num_positions - num_masked(schedule, s, num_positions))
        log_p = predict_x0(denoise, x, torch.full((len(x),), t, device=x.device), condition, where, guidance_scale)
        x = x.masked_scatter(where, sample_categorical(log_p.exp(), generator))
    return x


def halton_order(num_positions: int) -> Int[Tensor, "side side"]:
    """The rank of each place of a square grid in the Halton sequence of bases 2 and 3.

    Raises ValueError for no square.
    """
    side = round(num_positions ** 0.5)
    if side ** 2 != num_positions:
        raise ValueError(f"{num_positions} positions are no square grid, over which a Halton sequence could run")
    points = (qmc.Halton(2, scramble=False).random(64 * num_positions) * side).astype(int).tolist()
    first = list(dict.fromkeys(map(tuple, points)))
    rank = torch.full((side, side), -1, dtype=torch.int64)
    for number, (row, column) in enumerate(first):
        rank[row, column] = number
    return rank


@torch.no_grad()
def sample_remasking(denoise: Denoise, schedule: Schedule, condition: Condition, num_codes: int, num_positions: int,
                     num_steps: int, *, guidance_scale: float = 1.0, remasking: float = 0.05,
                     generator: torch.Generator | None = None,
                     progress: bool = False) -> Int[Tensor, "batch positions"]:
    """ReMDM (Wang et al., 2025): a step may mask codes again, so that what was drawn badly gets a second chance.

    remasking  eta: the probability sigma of a code to be masked again, as a share of the largest that leaves the
               schedule's probabilities of a mask as they are; 0 is `sample_ancestral`
    """
    check_pure_masking(schedule)
    x = prior_sample(schedule, len(condition), num_positions, num_codes, generator, condition.query.device)
    times = sampling_times(schedule.num_timesteps, num_steps)
    for t, s in tqdm(list(zip(times, times[1:], strict=False)), desc="sampling", disable=not progress):
        sigma, unmask = remasking_probabilities(schedule, s, t, remasking)
        draw = random_uniform(tuple(x.shape), generator, x.device)
        masked = x == num_codes
        where = masked & (draw < unmask)
        log_p = predict_x0(denoise, x, torch.full((len(x),), t, device=x.device), condition, where, guidance_scale)
        x = x.masked_fill(~masked & (draw < sigma), num_codes)
        x = x.masked_scatter(where, sample_categorical(log_p.exp(), generator))
    return x


def remasking_probabilities(schedule: Schedule, s: int, t: int, remasking: float) -> tuple[float, float]:
    """sigma, and the probability that a mask of step t is a code at step s: with it, mask_s is the schedule's again."""
    mask_s, mask_t = schedule.mask[s].item(), schedule.mask[t].item()
    sigma = remasking * min(1.0, mask_s / max(1 - mask_t, 1e-12)) if s else 0.0
    return sigma, 1 - (mask_s - sigma * (1 - mask_t)) / mask_t


@torch.no_grad()
def sample_by_purity(denoise: Denoise, schedule: Schedule, condition: Condition, num_codes: int, num_positions: int,
                     num_steps: int, *, guidance_scale: float = 1.0, truncation: float = 1.0,
                     purity_weight: float = 1.0, generator: torch.Generator | None = None,
                     progress: bool = False) -> Int[Tensor, "batch positions"]:
    """Improved VQ-Diffusion (Tang et al., 2022): a step unmasks the schedule's number of positions, drawn by purity.

    Purity is max p(x_0) of a position; positions are drawn without replacement in proportion to it, their codes from
    p(x_0) sharpened by the power 1 + purity_weight * purity. Not the model's own distribution: fewer, surer steps.
    Their settings: truncation 0.86, or guidance 5 without truncation. Holds (masked positions, V) besides the logits.
    """
    check_pure_masking(schedule)
    x = prior_sample(schedule, len(condition), num_positions, num_codes, generator, condition.query.device)
    times = sampling_times(schedule.num_timesteps, num_steps)
    for t, s in tqdm(list(zip(times, times[1:], strict=False)), desc="sampling", disable=not progress):
        masked = x == num_codes
        num_left = num_masked(schedule, s, num_positions)
        t_row = torch.full((len(x),), t, device=x.device)
        log_p = predict_x0(denoise, x, t_row, condition, masked, guidance_scale, truncation)
        purity = log_p.amax(-1).exp()
        rank = torch.full(x.shape, torch.inf, dtype=torch.float64, device=x.device).masked_scatter(
            masked, -torch.log1p(-random_uniform((len(purity),), generator, x.device)) / purity.double()).argsort(1)
        num_now = masked[0].sum().item() - num_left
        chosen = torch.zeros_like(masked).scatter(1, rank[:, :num_now], True)
        sharp = (log_p * (1 + purity_weight * purity[:, None])).softmax(-1)[chosen[masked]]
        x = x.masked_scatter(chosen, sample_categorical(sharp, generator))
    return x
