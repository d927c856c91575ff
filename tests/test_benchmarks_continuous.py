"""benchmarks.continuous: the plain side diffuses as kdlib does, and a tiny run has all its rows."""

import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler

from kdlib.models.condition import Condition
from kdlib.models.continuous.process import Process

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import continuous  # noqa: E402


def test_the_plain_side_s_noise_is_that_of_the_paper_s_process():
    """diffusers counts from 0, and its cosine schedule is Nichol and Dhariwal's, as ours."""
    told = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2").alphas_cumprod.double().sqrt()
    np.testing.assert_allclose(Process().alpha[1:], told, atol=1e-5)


def test_a_step_of_either_side_changes_its_weights_and_draws_a_picture():
    x, y = torch.rand(2, 3, 16, 16), Condition(torch.randn(2, 512), torch.randn(2, 3, 512))
    for num_parameters, train, step in (continuous.plain((32, 64), 16), continuous.ours((32, 64), 16, 2, "fp32")):
        before = step(x, y)
        train(x, y)
        assert step(x, y).shape == before.shape == x.shape and (step(x, y) != before).any() and num_parameters > 1e5


def test_a_tiny_run_has_a_row_for_each_contender():
    table = continuous.measure((32, 64), 16, (1, 4), 2, 1)
    assert table.contender.tolist()[:1] == ["plain fp32"] and set(table.contender) >= {"ours fp32, folding 1",
                                                                                       "ours fp32, folding 4"}
    assert (table.loc[0, ["train_times_plain", "step_times_plain"]] == 1).all()
    assert (table.drop(columns="contender").to_numpy(float) > 0).all()
    ratio = table.train_images_per_cpu_s / table.train_images_per_cpu_s[0]
    np.testing.assert_allclose(table.train_times_plain, ratio)
