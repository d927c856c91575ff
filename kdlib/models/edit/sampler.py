"""Draws edits: algorithm 2 with a picture beside the text, and guidance by each of the two."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from kdlib.models.condition import Condition, concatenate
from kdlib.models.discrete.process import q_sample, random_uniform, sample_categorical
from kdlib.models.discrete.samplers import check_pure_masking
from kdlib.models.edit.denoiser import EditDenoiser

MAX_SCALE = 100.0


@dataclass(frozen=True)
class EditSettings:
    """How an edit is drawn; what the paper doesn't say of it (section 3.1) is a number here, to be measured.

    k              neighbours of the text that it is told beside the text; 0: the text alone
    minus          share of the picture's own embedding that is taken off the text's
    strength       share of the schedule that is run: 1 starts from masks alone, 0.5 from the picture half-masked
    num_steps      sampling steps of a whole schedule; a part of it takes its share of them
    text_scale     guidance by the text; 1 is none              picture_scale  by the picture; 1 is none

    Raises ValueError naming a value that makes no sense.
    """

    k: int = 0
    minus: float = 0.0
    strength: float = 1.0
    num_steps: int = 16
    text_scale: float = 3.0
    picture_scale: float = 1.5

    def __post_init__(self):
        for name in ("k", "num_steps"):
            value, low = getattr(self, name), int(name == "num_steps")
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ValueError(f"{name} = {value!r} must be a whole number of at least {low}")
        for name, low, high in [("minus", 0, 1), ("strength", 0, 1), ("text_scale", -MAX_SCALE, MAX_SCALE),
                                ("picture_scale", -MAX_SCALE, MAX_SCALE)]:
            value = getattr(self, name)
            if not isinstance(value, int | float) or not low <= value <= high:
                raise ValueError(f"{name} = {value!r} must be a number from {low:g} to {high:g}")
        if not self.strength:
            raise ValueError(f"strength = {self.strength} changes nothing; give a share of the schedule above 0")


@torch.no_grad()
def sample_edits(denoiser: EditDenoiser, condition: Condition, source: Int[Tensor, "batch positions"],
                 settings: EditSettings, generator: torch.Generator | None = None,
                 progress: bool = False) -> Int[Tensor, "batch positions"]:
    """Codes (b, p) of edits of the pictures whose codes are `source`, as the settings tell (their k, minus: not here).

    A step unmasks each masked position with the schedule's probability. Raises ValueError for more steps than the model
    has, or a schedule that is no pure masking.
    """
    schedule, num_codes = denoiser.schedule, denoiser.config.num_codes
    check_pure_masking(schedule)
    times = edit_times(schedule.num_timesteps, settings.num_steps, settings.strength)
    x = q_sample(schedule, source, torch.full((len(source),), times[0], device=source.device), num_codes, generator)
    if settings.strength == 1:
        x = torch.full_like(x, num_codes)
    for t, s in tqdm(list(zip(times, times[1:], strict=False)), desc="editing", disable=not progress):
        unmask = 1 - (schedule.mask[s] / schedule.mask[t]).item()
        where = (x == num_codes) & (random_uniform(tuple(x.shape), generator, x.device) < unmask)
        log_p = guided(denoiser, x, torch.full((len(x),), t, device=x.device), condition, source, where, settings)
        x = x.masked_scatter(where, sample_categorical(log_p.exp(), generator))
    return x


def edit_times(num_timesteps: int, num_steps: int, strength: float) -> list[int]:
    """Falling times from the share `strength` of N to 0, about N / num_steps apart.

    Raises ValueError for more steps than N.
    """
    if not 1 <= num_steps <= num_timesteps:
        raise ValueError(f"num_steps = {num_steps} must lie in 1 .. {num_timesteps}, the model's timesteps")
    start = max(1, round(num_timesteps * strength))
    steps = max(1, round(num_steps * start / num_timesteps))
    return [start * (steps - i) // steps for i in range(steps + 1)]


def guided(denoiser: EditDenoiser, x_t: Int[Tensor, "batch positions"], t: Int[Tensor, " batch"],
           condition: Condition, source: Int[Tensor, "batch positions"], where: Bool[Tensor, "batch positions"],
           settings: EditSettings) -> Float[Tensor, "chosen codes"]:
    """log p(x_0) at the positions chosen by `where`, guided as by Brooks et al. (2023), and renormalised:

        l(0, 0) + picture_scale (l(picture, 0) - l(0, 0)) + text_scale (l(picture, text) - l(picture, 0))

    with l the log-probabilities given (picture, text), all from one batch. Both scales 1: one plain pass.
    """
    log_p = lambda logits: logits[where].float().log_softmax(-1)
    if settings.text_scale == settings.picture_scale == 1:
        return log_p(denoiser(x_t, t, condition, source))
    null = condition.null()
    logits = denoiser(torch.cat([x_t] * 3), torch.cat([t] * 3), concatenate(condition, null, null),
                      torch.cat([source, source, denoiser.no_source(source)]))
    both, picture, neither = map(log_p, logits.chunk(3))
    return (neither + settings.picture_scale * (picture - neither)
            + settings.text_scale * (both - picture)).log_softmax(-1)
