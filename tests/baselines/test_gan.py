"""kdlib.baselines.gan: LAFITE's perturbation in closed form, convolutions against modulated weights, saving."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdlib.baselines.gan import Discriminator, GanConfig, Generator, StyledConv, perturb, spread


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def tiny(widths=(7, 5, 3)):
    torch.manual_seed(0)
    return Generator(GanConfig(widths, noise_dim=6, embedding_dim=11, encoder_id="encoder-1"))


# --- perturbation ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("level", [0.1, 0.5, 0.75, 0.9])
def test_the_cosine_is_the_closed_form(level):
    """cos(f, h') = (a + b c) / sqrt(a^2 + b^2 + 2 a b c) at c = cos(f, e), which has mean 0 and variance 1 / dim."""
    told = unit(4000, 512)
    cosines = (perturb(told, generator(1), level) * told).sum(-1)
    a, b = 1 - level, level
    assert cosines.mean().item() == pytest.approx(a / (a * a + b * b) ** 0.5, abs=0.005)
    noise = F.normalize(torch.randn(told.shape, generator=generator(1)), dim=-1)
    c = (told * noise).sum(-1)
    torch.testing.assert_close(cosines, (a + b * c) / (a * a + b * b + 2 * a * b * c).sqrt(), atol=1e-5, rtol=0)


def test_perturbed_vectors_are_unit_and_the_papers_formula_is_the_same():
    told = unit(50, 16)
    ours = perturb(told, generator(2), 0.75)
    torch.testing.assert_close(ours.norm(dim=-1), torch.ones(50))
    noise = torch.randn(50, 16, generator=generator(2))
    papers = told + 3 * noise * (told.norm(dim=-1) / noise.norm(dim=-1))[:, None]
    torch.testing.assert_close(ours, papers / papers.norm(dim=-1, keepdim=True), atol=1e-5, rtol=0)


def test_no_noise_is_the_embedding_and_the_same_seed_the_same_noise():
    told = unit(5, 16)
    torch.testing.assert_close(perturb(told, generator(), 0.0), told)
    assert torch.equal(perturb(told, generator(3)), perturb(told, generator(3)))
    assert not torch.equal(perturb(told, generator(3)), perturb(told, generator(4)))


@pytest.mark.parametrize("level", [-0.1, 1.5, float("nan")])
def test_a_level_that_is_no_share_is_refused(level):
    with pytest.raises(ValueError, match="must lie in 0 .. 1, the share of noise"):
        perturb(unit(2, 4), generator(), level)


# --- networks --------------------------------------------------------------------------------------------------------

def test_a_styled_convolution_is_one_with_modulated_and_demodulated_weights():
    """StyleGAN2's own way: for each picture, weights scaled by its style and given unit norm for each output."""
    torch.manual_seed(0)
    layer, x, told = StyledConv(4, 3, 5), torch.randn(2, 3, 6, 6), torch.randn(2, 4)
    layer.bias.data.normal_()
    for number in range(2):
        weight = layer.weight * layer.style(told)[number].view(1, 3, 1, 1)
        weight = weight / weight.square().sum((1, 2, 3), keepdim=True).sqrt()
        expected = F.leaky_relu(F.conv2d(x[number:number + 1], weight, layer.bias, padding=1), 0.2) * 2 ** 0.5
        torch.testing.assert_close(layer(x, told)[number:number + 1], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("widths, size", [((7,), 4), ((7, 5, 3), 16), ((6, 5, 4, 3, 2), 64)])
def test_there_is_a_width_for_each_size(widths, size):
    network = tiny(widths)
    assert network.config.size_px == size
    assert network(torch.randn(2, 6), unit(2, 11)).shape == (2, 3, size, size)


def test_noise_and_embedding_both_change_the_picture_and_the_length_of_noise_does_not():
    network, noise, told = tiny(), torch.randn(1, 6), unit(1, 11)
    image = network(noise, told)
    assert (network(torch.randn(1, 6), told) - image).abs().max() > 1e-2
    assert (network(noise, unit(1, 11, seed=5)) - image).abs().max() > 1e-2
    torch.testing.assert_close(network(3 * noise, told), image, atol=1e-5, rtol=0)


def test_the_score_has_the_conditions_part_in_it():
    torch.manual_seed(0)
    critic, images = Discriminator(16, 4, 11), torch.randn(5, 3, 16, 16)
    told = unit(5, 11)
    scores, features = critic(images, told)
    without, same = critic(images, torch.zeros_like(told))
    torch.testing.assert_close(features, same)
    torch.testing.assert_close(scores - without, (features * told).sum(-1))


def test_spread_is_zero_for_equal_pictures_and_the_standard_deviation_for_others():
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    assert spread(x[:1].expand(4, -1, -1, -1)).item() < 1e-3
    assert spread(x).item() == pytest.approx(np.std(x.numpy(), axis=0).mean(), rel=1e-4)


# --- drawing and saving ----------------------------------------------------------------------------------------------

def test_the_same_seed_draws_the_same_pictures_after_saving(tmp_path):
    network, told = tiny(), unit(5, 11)
    network.save(tmp_path / "model")
    loaded = Generator.load(tmp_path / "model")
    assert loaded.config == network.config and not loaded.training
    first, again, other, split = (
        np.stack([np.asarray(picture) for picture in loaded.draw(told, generator(seed), batch)])
        for seed, batch in [(0, 64), (0, 64), (1, 64), (0, 2)])
    assert first.shape == (5, 16, 16, 3) and np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.abs(first.astype(int) - split).max() <= 1  # in other batches the same but for rounding


def test_a_foreign_model_is_refused(tmp_path):
    tiny().save(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace('"noise_dim": 6', '"noise_dim": 9'))
    with pytest.raises(ValueError, match="does not fit this kdlib"):
        Generator.load(tmp_path / "model")


def test_sizes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"widths = \(4, 0\)"):
        GanConfig((4, 0), 1, 1, "")
