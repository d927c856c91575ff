"""The fit against laws that are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdlib.evaluation.power_law import fit_power_law


@given(st.floats(0.5, 20), st.floats(1, 50), st.floats(0.15, 1.5), st.floats(1, 1e5))
def test_a_law_is_found_from_its_values(floor, scale, power, unit):
    amounts = unit * np.array([1, 4, 8, 16, 32])
    fit = fit_power_law(amounts.tolist(), (floor + scale * (amounts / unit) ** -power).tolist())
    assert fit(unit * 320) == pytest.approx(floor + scale * 320 ** -power, rel=0.02)
    assert fit.unit == pytest.approx(unit)


def test_noise_is_averaged():
    amounts = np.geomspace(1, 1000, 200)
    noisy = 2 + 5 * amounts ** -0.5 + np.random.default_rng(0).normal(0, 0.02, 200)
    assert fit_power_law(amounts.tolist(), noisy.tolist())(10_000) == pytest.approx(2.05, abs=0.05)


def test_values_that_do_not_fall_are_extrapolated_as_they_are():
    assert fit_power_law([1, 2, 4], [3, 3, 3])(40) == pytest.approx(3, rel=1e-3)


@pytest.mark.parametrize("amounts, values, message", [
    ([1, 2], [3, 2], "three or more different amounts"),
    ([1, 1, 2], [3, 3, 2], "three or more different amounts"),
    ([0, 1, 2], [3, 2, 1], "above 0"),
    ([1, 2, 3], [3, float("nan"), 1], "must be numbers"),
    ([1, 2, 3], [3, -2, 1], "must be numbers"),
])
def test_bad_points_are_refused(amounts, values, message):
    with pytest.raises(ValueError, match=message):
        fit_power_law(amounts, values)
