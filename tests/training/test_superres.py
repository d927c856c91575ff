"""kdlib.training.superres: pairs that fit each other, what inputs come as, which player each term reaches, training."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdlib.data.drawings import rasterise
from kdlib.models.continuous.process import Process
from kdlib.models.diffusion_superres import DiffusionUpsampler, DiffusionUpsamplerConfig
from kdlib.models.superres import Upsampler, UpsamplerConfig
from kdlib.training import superres
from kdlib.training.loop import step_generator
from kdlib.training.superres import (
    MAX_NOISE,
    DiffusionObjective,
    UpsamplerObjective,
    crop,
    train_diffusion_upsampler,
    train_upsampler,
    worn,
)

SVGS = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">'
        f'<path d="M{x} {y}h7v5h-7z" fill="{colour}"/></svg>'
        for x, y, colour in [(1, 2, "red"), (6, 9, "#00f"), (8, 3, "#0a0"), (2, 8, "#222"), (4, 5, "purple")]]


@pytest.fixture(scope="module")
def clean():
    return rasterise(SVGS, 16)


@pytest.fixture
def objective(clean):
    torch.manual_seed(0)
    upsampler = Upsampler(UpsamplerConfig(scale=4, width=5, num_blocks=1))
    return UpsamplerObjective(upsampler, SVGS, clean, 255 - clean, crop_px=9, gan_start=0)


def with_kinds(monkeypatch, rebuilt, worn_share):
    monkeypatch.setattr(superres, "REBUILT", rebuilt)
    monkeypatch.setattr(superres, "WORN", worn_share)


def test_the_small_crop_is_the_mean_of_the_large_one(objective, monkeypatch):
    with_kinds(monkeypatch, 0.0, 0.0)
    for step in range(6):
        small, large = objective.draw(torch.arange(5), step_generator(0, step))
        assert small.shape == (5, 3, 9, 9) and large.shape == (5, 3, 36, 36)
        # drawings whose edges lie on pixels of the small picture: the renderer's answer is then the mean, exactly
        torch.testing.assert_close(F.avg_pool2d(large, 4), small, atol=0.02, rtol=0)


def test_what_comes_in_is_rebuilt_worn_or_clean_by_its_share(clean):
    torch.manual_seed(0)
    flat = np.full_like(clean, 100)
    upsampler = Upsampler(UpsamplerConfig(2, 4, 1))
    objective = UpsamplerObjective(upsampler, SVGS, flat, flat + 100, crop_px=16, gan_start=0)
    small, _ = objective.draw(torch.arange(5).repeat(400), step_generator(0, 0))
    is_flat = small.flatten(1).std(1) == 0
    rebuilt = small.flatten(1).mean(1) > 0
    assert rebuilt.float().mean().item() == pytest.approx(superres.REBUILT, abs=0.04)
    assert (~is_flat).float().mean().item() == pytest.approx(superres.WORN, abs=0.04)
    assert not (rebuilt & ~is_flat).any()  # what the tokenizer rebuilt comes as it is


def test_noise_has_no_mean_and_a_strength_drawn_evenly():
    images = worn(torch.zeros(600, 3, 8, 8), step_generator(0, 0))
    strength = images.flatten(1).std(1)
    assert abs(images.mean().item()) < 1e-3
    assert strength.mean().item() == pytest.approx(MAX_NOISE / 2, rel=0.05) and strength.max() < 1.15 * MAX_NOISE
    assert strength.std().item() == pytest.approx(MAX_NOISE / 12 ** 0.5, rel=0.1)


def test_half_are_blurred_by_a_gaussian(monkeypatch):
    monkeypatch.setattr(superres, "MAX_NOISE", 0.0)
    images = torch.full((400, 3, 7, 7), -1.0)
    images[..., 3, 3] = 1.0
    spots = worn(images, step_generator(0, 0))[:, 0, 2:5, 2:5]
    blurred = spots[:, 1, 1] < 0.999
    assert blurred.float().mean().item() == pytest.approx(0.5, abs=0.08)
    distance = torch.tensor([[2.0, 1, 2], [1, 0, 1], [2, 1, 2]])  # squared, from the middle
    gaussian = torch.exp(-distance / (2 * 0.6 ** 2))
    torch.testing.assert_close(spots[blurred][0], 2 * gaussian / gaussian.sum() - 1, atol=1e-5, rtol=0)


def test_crops_are_cut_where_told():
    images = torch.arange(2 * 3 * 5 * 7.0).reshape(2, 3, 5, 7)
    parts = crop(images, torch.tensor([[1, 2], [3, 5]]), 2)
    assert torch.equal(parts[0], images[0, :, 1:3, 2:4]) and torch.equal(parts[1], images[1, :, 3:5, 5:7])


def test_each_term_reaches_its_player(objective):
    terms = objective(torch.arange(5), step_generator(0, 0))
    terms["loss"].backward()
    assert objective.upsampler.last.weight.grad.abs().max() > 0
    assert objective.critic[0].weight.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in objective.features.parameters())


def test_the_critic_waits(clean):
    torch.manual_seed(0)
    upsampler = Upsampler(UpsamplerConfig(4, 5, 1))
    objective = UpsamplerObjective(upsampler, SVGS, clean, clean, crop_px=8, gan_start=1)
    objective(torch.arange(5), step_generator(0, 0))["loss"].backward()
    assert objective.critic[0].weight.grad is None
    objective(torch.arange(5), step_generator(0, 1))["loss"].backward()
    assert objective.critic[0].weight.grad.abs().max() > 0


def test_a_crop_larger_than_the_picture_is_refused(clean):
    with pytest.raises(ValueError, match=r"crop_px = 17 must lie in 1 \.\. 16"):
        UpsamplerObjective(Upsampler(UpsamplerConfig(4, 5, 1)), SVGS, clean, clean, crop_px=17, gan_start=0)


def test_training_beats_bicubic(clean, tmp_path):
    train_upsampler(SVGS, clean, clean, tmp_path, scale=4, width=16, num_blocks=1, crop_px=16, batch_size=5,
                    num_steps=60, learning_rate=5e-3, gan_start=60, seed=0)
    trained = Upsampler.load(tmp_path / "model")
    truth = torch.from_numpy(rasterise(SVGS, 64)).permute(0, 3, 1, 2).float() / 127.5 - 1
    small = torch.from_numpy(clean).permute(0, 3, 1, 2).float() / 127.5 - 1
    error = {name: (model(small) - truth).square().mean().item()
             for name, model in [("trained", trained), ("bicubic", Upsampler(UpsamplerConfig(4, 16, 1)))]}
    assert error["trained"] < 0.7 * error["bicubic"]


def test_the_diffusion_one_learns_from_the_same_pairs(clean, tmp_path, monkeypatch):
    """Both see what `draw` gives; after some steps the loss is lower, and the network is saved."""
    told = {}
    process = {"num_timesteps": 20, "prediction": "v", "zero_terminal_snr": True}
    upsampler = DiffusionUpsampler(DiffusionUpsamplerConfig(4, (8, 8), 1, asdict(Process(**process))))
    objective = DiffusionObjective(upsampler, SVGS, clean, 255 - clean, 8)
    rows = torch.tensor([0, 3, 4])
    with monkeypatch.context() as patched:
        patched.setattr(superres, "training_loss", lambda process, denoise, large, condition, generator: told.update(
            large=large, condition=condition) or (large * 0).sum())
        objective(rows, step_generator(0, 5))
    small, large = objective.draw(rows, step_generator(0, 5))
    assert torch.equal(told["large"], large) and torch.equal(told["condition"].query, small.flatten(1))
    history = train_diffusion_upsampler(
        SVGS, clean, 255 - clean, tmp_path, scale=4, widths=(8, 8), num_blocks=1, process=process, crop_px=8,
        batch_size=4, num_steps=60, learning_rate=3e-3, seed=0)
    assert history.loss.iloc[-10:].mean() < 0.8 * history.loss.iloc[:10].mean()
    assert DiffusionUpsampler.load(tmp_path / "model").config.scale == 4
