"""From the condition y = (f, knn) to the tokens that a network attends to: every way of the paper's section 6.3.

All take unit vectors, scale them by sqrt(dim) (each feature then has about unit variance) and have no bias anywhere,
so that the null condition y' = 0 becomes zero tokens, of which cross-attention makes exactly nothing (section 6.5).

What the order of the neighbours does: nothing in `ours`, `self_attention` and `cross_attention`, which treat them as a
set and take any number of them, whatever k they were trained with; `concat` depends on it, and takes exactly k.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kdlib.models.attention import Attention
from kdlib.models.condition import Condition


class AllEmbeddings(nn.Module):
    """`ours` (section 3): all k + 1 embeddings are tokens; the query and the neighbours have a projection each."""

    def __init__(self, dim: int, width: int, k: int):
        super().__init__()
        self.query = nn.Linear(dim, width, bias=False)
        self.neighbours = nn.Linear(dim, width, bias=False)

    def forward(self, condition: Condition) -> Float[Tensor, "batch tokens width"]:
        scale = condition.query.shape[-1] ** 0.5
        query = self.query(condition.query[:, None] * scale)
        return torch.cat([query, self.neighbours(condition.neighbours * scale)], dim=1)


class SelfAttention(nn.Module):
    """Section 6.3 (i): the k + 1 embeddings through a (residual) self-attention layer, then all as tokens."""

    def __init__(self, dim: int, width: int, k: int):
        super().__init__()
        self.embed = AllEmbeddings(dim, width, k)
        self.attention = Attention(width, num_heads=1, qk_norm=True)

    def forward(self, condition: Condition) -> Float[Tensor, "batch tokens width"]:
        tokens = self.embed(condition)
        return tokens + self.attention(tokens)


class CrossAttention(nn.Module):
    """Section 6.3 (ii): one token, the query plus what it attends to among the neighbours."""

    def __init__(self, dim: int, width: int, k: int):
        super().__init__()
        self.embed = AllEmbeddings(dim, width, k)
        self.attention = Attention(width, num_heads=1, context_width=width, qk_norm=True)

    def forward(self, condition: Condition) -> Float[Tensor, "batch tokens width"]:
        query, neighbours = self.embed(condition).tensor_split([1], dim=1)
        return query + self.attention(query, neighbours) if neighbours.shape[1] else query


class Concatenation(nn.Module):
    """Section 6.3 (iii): two tokens, the query and one learned linear projection of the k neighbours in their order."""

    def __init__(self, dim: int, width: int, k: int):
        super().__init__()
        self.k = k
        self.query = nn.Linear(dim, width, bias=False)
        self.neighbours = nn.Linear(k * dim, width, bias=False)

    def forward(self, condition: Condition) -> Float[Tensor, "batch tokens width"]:
        if condition.neighbours.shape[1] != self.k:
            raise ValueError(f"conditioning 'concat' was made for exactly {self.k} neighbours and got "
                             f"{condition.neighbours.shape[1]}; retrieve {self.k}, or train another conditioning")
        scale = condition.query.shape[-1] ** 0.5
        tokens = self.query(condition.query * scale), self.neighbours(condition.neighbours.flatten(1) * scale)
        return torch.stack(tokens, dim=1)


class QueryOnly(nn.Module):
    """The no-kNN baseline (section 4.1): the query is the only token."""

    def __init__(self, dim: int, width: int, k: int):
        super().__init__()
        self.query = nn.Linear(dim, width, bias=False)

    def forward(self, condition: Condition) -> Float[Tensor, "batch tokens width"]:
        return self.query(condition.query[:, None] * condition.query.shape[-1] ** 0.5)


CONDITIONERS = {"ours": AllEmbeddings, "self_attention": SelfAttention, "cross_attention": CrossAttention,
                "concat": Concatenation, "no_knn": QueryOnly}


def make_conditioner(conditioning: str, dim: int, width: int, k: int) -> nn.Module:
    """A module Condition -> context tokens (b, m, width), by its name in section 6.3."""
    if conditioning not in CONDITIONERS:
        raise ValueError(f"there is no conditioning {conditioning!r}; choose one of {', '.join(CONDITIONERS)}")
    return CONDITIONERS[conditioning](dim, width, k)


def drop_condition(condition: Condition, probability: float, generator: torch.Generator | None = None) -> Condition:
    """Each row's condition becomes the null condition with this probability (training for guidance, section 6.6)."""
    source = generator.device if generator is not None else condition.query.device
    draw = torch.rand(len(condition), generator=generator, device=source)
    kept = (draw >= probability).to(condition.query)
    return condition.null_unless(kept)
