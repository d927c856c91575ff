"""Mean and covariance of features that come batch by batch, so that no set of pictures is too large to measure."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from kdlib.evaluation.metrics import Gaussian, check_features


class Moments:
    """Number, sum and sum of products of rows of a width, in float64."""

    def __init__(self, width: int):
        self.count, self.sum, self.products = 0, np.zeros(width), np.zeros((width, width))

    def add(self, features: Float[np.ndarray, "num_pictures width"]) -> None:
        """Counts rows in. Raises ValueError for values that are no finite numbers."""
        check_features(features, at_least=0)
        rows = features.astype(np.float64)
        self.count, self.sum = self.count + len(rows), self.sum + rows.sum(0)
        self.products = self.products + rows.T @ rows

    def gaussian(self) -> Gaussian:
        """What `fit_gaussian` gives of all rows, up to rounding; ValueError for fewer than two."""
        if self.count < 2:
            raise ValueError(f"{self.count} pictures are too few for a distance between distributions; it takes 2")
        mean = self.sum / self.count
        covariance = (self.products - self.count * np.outer(mean, mean)) / (self.count - 1)
        values, vectors = np.linalg.eigh(covariance)
        return Gaussian(mean, np.sqrt(np.maximum(values, 0))[:, None] * vectors.T)

    def state(self) -> dict[str, np.ndarray]:
        """Arrays that `restored` takes."""
        return {"count": np.array([self.count]), "sum": self.sum, "products": self.products}

    @classmethod
    def restored(cls, state: dict[str, np.ndarray]) -> Moments:
        """What `state` was taken of."""
        moments = cls(len(state["sum"]))
        moments.count, moments.sum, moments.products = int(state["count"][0]), state["sum"], state["products"]
        return moments
