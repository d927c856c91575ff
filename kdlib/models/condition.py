"""What a generator is told: y = (f, knn) of algorithms 1 and 2."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """y = (f, knn) of algorithms 1 and 2: one query embedding and its neighbours' embeddings."""

    query: Float[Tensor, "batch dim"]
    neighbours: Float[Tensor, "batch k dim"]

    def null(self) -> Condition:
        """The paper's null condition y' = 0 (section 6.5), of the same shape."""
        return Condition(torch.zeros_like(self.query), torch.zeros_like(self.neighbours))

    def to(self, *args, **kwargs) -> Condition:
        return Condition(self.query.to(*args, **kwargs), self.neighbours.to(*args, **kwargs))

    def __len__(self) -> int:
        return len(self.query)


def concatenate(first: Condition, second: Condition) -> Condition:
    """Two conditions in one batch, as guidance needs them."""
    return Condition(torch.cat([first.query, second.query]), torch.cat([first.neighbours, second.neighbours]))
