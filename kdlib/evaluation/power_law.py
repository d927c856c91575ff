"""How a measure falls with more of something: a power law with a floor, fitted and extrapolated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import curve_fit

STEEPEST = 3.0


class PowerLaw(NamedTuple):
    """y(n) = floor + scale * (n / unit) ** -power, the form of Hoffmann et al. (2022) in one variable."""

    floor: float
    scale: float
    power: float
    unit: float

    def __call__(self, amount: int | float) -> float:
        """y at an amount."""
        return self.floor + self.scale * (amount / self.unit) ** -self.power


def fit_power_law(amounts: Sequence[int | float], values: Sequence[int | float]) -> PowerLaw:
    """The law nearest to values at some amounts, by least squares; its unit is the smallest amount.

    amounts  (num_points,) above 0, in any unit: pictures seen, vectors, ...
    values   (num_points,) of at least 0, measured at these

    The floor lies between 0 and the smallest value. Raises ValueError for fewer than three different amounts (there are
    three numbers to fit), an amount that is not above 0, or a value that is negative or no number.
    """
    amounts, values = np.asarray(amounts, dtype=float), np.asarray(values, dtype=float)
    if len(np.unique(amounts)) < 3 or not (amounts > 0).all():
        raise ValueError(f"a power law is fitted to three or more different amounts above 0, not to {amounts.tolist()}")
    if not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(f"the values {values.tolist()} must be numbers of at least 0")
    law = lambda n, floor, scale, power: floor + scale * n ** -power
    start = (values.min() / 2, np.ptp(values) + 1e-6, 0.3)
    bounds = ([0, 0, 1e-3], [values.min() + 1e-9, 10 * values.max() + 1e-3, STEEPEST])
    fit, _ = curve_fit(law, amounts / amounts.min(), values, p0=start, bounds=bounds, max_nfev=20_000)
    return PowerLaw(*map(float, fit), float(amounts.min()))
