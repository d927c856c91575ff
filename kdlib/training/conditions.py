"""What every generator trains on, whatever it is made of: y = (f_img(I), knn_img(I, k)) of a view of a picture."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn

from kdlib.models.condition import Condition
from kdlib.models.conditioning import drop_condition
from kdlib.types import Embeddings


class ConditionedObjective(nn.Module):
    """An objective that knows the embeddings and neighbours of all views of all training pictures.

    queries            (num_views, num_pictures, dim) unit vectors: f_img of each view
    embeddings         of the same pictures, in the same order: the database that neighbours come from
    neighbours         (num_views, num_pictures, k) rows of embeddings: knn_img(I, k), the picture itself excluded
    condition_dropout  probability of training with the null condition, for guidance

    Raises ValueError for neighbours of other views or pictures, rows that there aren't, or a picture among its own
    neighbours.
    """

    def __init__(self, queries: Float[np.ndarray, "views pictures dim"], embeddings: Embeddings,
                 neighbours: Integer[np.ndarray, "_ _ k"], condition_dropout: float):
        super().__init__()
        if queries.shape[:2] != neighbours.shape[:2] or neighbours.shape[1] != len(embeddings):
            raise ValueError(f"neighbours {neighbours.shape} are not those of {queries.shape[:2]} views and "
                             f"pictures, or {len(embeddings)} embeddings are of others")
        if neighbours.min() < 0 or neighbours.max() >= len(embeddings):
            raise ValueError(f"neighbours name rows {neighbours.min()} to {neighbours.max()} of {len(embeddings)} "
                             "embeddings; find them again in these")
        self.neighbour_rows = torch.from_numpy(neighbours.astype(np.int64))
        if (self.neighbour_rows == torch.arange(len(embeddings))[:, None]).any():
            raise ValueError("a picture is among its own neighbours; search with exclude=ids")
        self.queries = torch.from_numpy(queries)
        self.vectors = torch.from_numpy(np.array(embeddings.vectors, dtype=np.float32))
        self.condition_dropout = condition_dropout

    def draw(self, rows: Int[Tensor, " batch"], generator: torch.Generator) -> tuple[Int[Tensor, " batch"], Condition]:
        """A random view of each picture of `rows`, and its condition, null as often as told; on the CPU."""
        view = torch.randint(len(self.queries), rows.shape, generator=generator)
        condition = Condition(self.queries[view, rows].float(), self.vectors[self.neighbour_rows[view, rows]])
        return view, drop_condition(condition, self.condition_dropout, generator)
