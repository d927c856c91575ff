"""What a generator draws from: y = (f, knn) of algorithms 1 and 2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """y = (f, knn) of algorithms 1 and 2, of a batch: query embeddings and their neighbours' embeddings.

    Every operation below does to each field the same, whatever fields there are; only what is about the neighbours
    names them.
    """

    query: Float[Tensor, "batch dim"]
    neighbours: Float[Tensor, "batch k dim"]

    @classmethod
    def from_numpy(cls, query: Float[np.ndarray, "batch dim"],
                   neighbours: Float[np.ndarray, "batch k dim"]) -> Condition:
        """From what encoder and index return; shares their memory."""
        return cls(torch.from_numpy(query), torch.from_numpy(neighbours))

    def null(self) -> Condition:
        """The paper's null condition y' = 0 (section 6.5), of the same shape."""
        return self._each(torch.zeros_like)

    def null_unless(self, kept: Float[Tensor, " batch"]) -> Condition:
        """The rows where `kept` is 1 as they are, and the null condition where it is 0."""
        return self._each(lambda field: field * kept.view(-1, *[1] * (field.ndim - 1)))

    def __getitem__(self, rows: slice | Tensor) -> Condition:
        """Some rows, as a slice, indices or a mask of them choose; still a batch."""
        return self._each(lambda field: field[rows])

    def expand(self, batch: int) -> Condition:
        """One row as `batch` equal ones, in the same memory."""
        return self._each(lambda field: field.expand(batch, *field.shape[1:]))

    def with_neighbours(self, k: int) -> Condition:
        """With the k nearest of its neighbours only. Raises ValueError unless it has as many."""
        if not 0 <= k <= self.neighbours.shape[1]:
            raise ValueError(f"k = {k} must lie in 0 .. {self.neighbours.shape[1]}, the condition's neighbours")
        return replace(self, neighbours=self.neighbours[:, :k])

    def to(self, *args, **kwargs) -> Condition:
        """On another device or of another dtype, as `Tensor.to` takes them."""
        return self._each(lambda field: field.to(*args, **kwargs))

    def __len__(self) -> int:
        return len(self.query)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Condition:
        return replace(self, **{field.name: change(getattr(self, field.name)) for field in fields(self)})


def concatenate(*conditions: Condition) -> Condition:
    """Conditions in one batch, as guidance needs them."""
    first = conditions[0]
    return replace(first, **{field.name: torch.cat([getattr(condition, field.name) for condition in conditions])
                             for field in fields(first)})
