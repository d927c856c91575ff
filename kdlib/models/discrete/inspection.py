"""Looking inside the discrete model while it draws: beliefs, entropy, attention, and what each neighbour does.

Nothing here changes the network: attention maps are computed again, by the layers' own projections, from what a forward
hook has seen go in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kdlib.models.attention import Attention
from kdlib.models.condition import Condition, concatenate
from kdlib.models.discrete.denoiser import ConditionedDenoiser
from kdlib.models.discrete.process import predict_x0, sample_ancestral
from kdlib.models.discrete.samplers import check_pure_masking


@dataclass(frozen=True)
class Look:
    """What the network sees and believes before one step of sampling.

    t      the time; 0 is the finished picture
    codes  (positions,) int64, V where masked
    log_p  (positions, V) log p(x_0 | x_t, y), guided; certainty where a code is there already
    """

    t: int
    codes: Int[Tensor, " positions"]
    log_p: Float[Tensor, "positions codes"]

    @property
    def best_guess(self) -> Int[Tensor, " positions"]:
        """The most probable code of each position."""
        return self.log_p.argmax(-1)

    @property
    def masked(self) -> Tensor:
        """(positions,) bool: where nothing is drawn yet."""
        return self.codes == self.log_p.shape[-1]

    @property
    def entropy(self) -> Float[Tensor, " positions"]:
        """Of the belief, in nats: 0 where a code is there, at most log V."""
        return torch.special.entr(self.log_p.exp()).sum(-1)


@torch.no_grad()
def look_at(denoiser: ConditionedDenoiser, codes: Int[Tensor, " positions"], t: int, condition: Condition,
            guidance_scale: float = 1.0) -> Look:
    """The network's belief about one picture's codes at time t (0: the codes are the picture, nothing is asked)."""
    num_codes = denoiser.config.num_codes
    certain = torch.full((len(codes), num_codes + 1), -torch.inf).scatter(1, codes[:, None], 0.0)[:, :num_codes]
    if t == 0:
        return Look(0, codes, certain)
    everywhere = torch.ones_like(codes, dtype=torch.bool)[None]
    log_p = predict_x0(denoiser, codes[None], torch.tensor([t]), condition, everywhere, guidance_scale)
    return Look(t, codes, torch.where((codes == num_codes)[:, None], log_p, certain))


def watch_sampling(denoiser: ConditionedDenoiser, condition: Condition, num_steps: int, guidance_scale: float = 1.0,
                   generator: torch.Generator | None = None) -> list[Look]:
    """`sample_ancestral` of one picture, with a look before each step and one at the end: num_steps + 1 looks.

    A look costs as much as a step. Raises ValueError for more than one condition, or a schedule with a uniform share,
    in which codes may still change.
    """
    check_pure_masking(denoiser.schedule)
    if len(condition) != 1:
        raise ValueError(f"there are {len(condition)} conditions; watch one picture at a time, condition[:1]")
    seen = []

    def watch(x_t: Tensor, t: Tensor, given: Condition) -> Tensor:
        seen.append((x_t[0].clone(), int(t[0])))
        return denoiser(x_t, t, given)

    config = denoiser.config
    x_0 = sample_ancestral(watch, denoiser.schedule, condition, config.num_codes, config.num_positions, num_steps,
                           guidance_scale=guidance_scale, generator=generator)
    return [look_at(denoiser, codes, t, condition, guidance_scale) for codes, t in [*seen, (x_0[0], 0)]]


# --- attention -----------------------------------------------------------------------------------------------------

def attention_map(layer: Attention, x: Float[Tensor, "batch positions width"],
                  context: Float[Tensor, "batch tokens context_width"]
                  ) -> Float[Tensor, "batch heads positions tokens"]:
    """softmax(q k' / sqrt(head_width)) of a cross-attention layer, in float32; each row sums to 1."""
    q, k = layer.q(x), layer.kv(context).chunk(2, -1)[0]
    q, k = (part.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for part in (q, k))
    q, k = layer.q_norm(q).float(), layer.k_norm(k).float()
    return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)


@torch.no_grad()
def attention_maps(denoiser: ConditionedDenoiser, x_t: Int[Tensor, "batch positions"], t: Int[Tensor, " batch"],
                   condition: Condition) -> Float[Tensor, "blocks batch heads positions tokens"]:
    """Where every position looks among the condition's tokens, in each block and head of one pass of the network."""
    maps = []
    hook = lambda layer, given: maps.append(attention_map(layer, *given))
    hooks = [block.cross_attention.register_forward_pre_hook(hook) for block in denoiser.transformer.blocks]
    try:
        denoiser(x_t, t, condition)
    finally:
        for one in hooks:
            one.remove()
    return torch.stack(maps)


# --- the condition, changed ----------------------------------------------------------------------------------------

def without_neighbour(condition: Condition, number: int) -> Condition:
    """The condition with one neighbour taken away, the others as they are. Raises IndexError where there is none."""
    k = condition.neighbours.shape[1]
    if not 0 <= number < k:
        raise IndexError(f"there is no neighbour {number}; the condition has 0 .. {k - 1}")
    rest = [one for one in range(k) if one != number]
    return replace(condition, neighbours=condition.neighbours[:, rest])


@torch.no_grad()
def influence(denoiser: ConditionedDenoiser, codes: Int[Tensor, " positions"], t: int,
              condition: Condition) -> Float[Tensor, "k positions"]:
    """How far the belief at each position moves, in nats, when each neighbour is taken away: D_KL(with || without).

    Without guidance. Raises ValueError for a conditioning that takes one number of neighbours only (`concat`).
    """
    k = condition.neighbours.shape[1]
    less = concatenate(*(without_neighbour(condition, number) for number in range(k)))
    ask = partial(torch.Tensor.log_softmax, dim=-1)
    whole = ask(denoiser(codes[None], torch.tensor([t]), condition))
    parts = ask(denoiser(codes.expand(k, -1), torch.full((k,), t), less))
    return (whole.exp() * (whole - parts)).sum(-1).clamp(min=0)


def great_circle(first: Float[np.ndarray, " dim"], second: Float[np.ndarray, " dim"],
                 num: int) -> Float[np.ndarray, "num dim"]:
    """num unit vectors from one unit vector to another at equal angles (slerp); the ends are the two themselves.

    Raises ValueError for opposite vectors, between which no way is the shortest, or fewer than two.
    """
    if num < 2:
        raise ValueError(f"num is {num}; a way has at least its 2 ends")
    cosine = float(np.clip(first @ second, -1, 1))
    if cosine < -0.999999:
        raise ValueError("the vectors are opposite: there is no shortest way between them")
    angle, shares = np.arccos(cosine), np.linspace(0, 1, num)[:, None]
    if angle < 1e-6:
        way = np.repeat(first[None], num, axis=0)
    else:
        way = (np.sin((1 - shares) * angle) * first + np.sin(shares * angle) * second) / np.sin(angle)
    way[0], way[-1] = first, second
    return way.astype(first.dtype)
