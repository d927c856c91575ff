"""kdlib.baselines.text2live: compositing and sparsity in closed form, gradients, and that a layer fits its text."""

import numpy as np
import pytest
import torch
from torch import nn

from kdlib.baselines.text2live import (
    BOOTSTRAP,
    L1,
    PSEUDO_L0,
    EditNetwork,
    Layer,
    Text2Live,
    edit_by_layer,
    self_similarities,
    sparsity,
)
from kdlib.encoder import Encoder

SIZE = 16


class Tower(nn.Module):
    """The mean colour is the embedding; `trunk.layer2` sees the picture at a quarter of its size."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Module()
        self.trunk.layer2 = nn.AvgPool2d(4)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.visual = Tower()

    def encode_image(self, images, normalize):
        return nn.functional.normalize(self.visual.trunk.layer2(images).mean((2, 3)) + 1.01, dim=-1)


class MeanEncoder(Encoder):
    """Texts are colours."""

    def __init__(self):
        self.model = Model()

    def encode_texts(self, texts, batch_size=256):
        named = {"red": (1, 0.2, 0.2), "blue": (0.2, 0.2, 1)}
        rows = np.array([next(rgb for name, rgb in named.items() if name in text) for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def red_square():
    picture = torch.ones(1, 3, SIZE, SIZE)
    picture[:, 1:, 4:12, 4:12] = -1
    return picture


def test_an_edit_is_its_colours_over_the_picture():
    torch.manual_seed(0)
    layer = EditNetwork()(red_square())
    wanted = layer.opacity * layer.colours + (1 - layer.opacity) * red_square()
    torch.testing.assert_close(layer.edited, wanted)
    assert layer.edited.abs().max() <= 1 and layer.opacity.min() > 0 and layer.opacity.max() < 1


def test_sparsity_is_the_published_one():
    opacity = torch.tensor([0.0, 0.5, 1.0, 0.2]).view(1, 1, 2, 2)
    pseudo = np.mean([2 / (1 + np.exp(-5 * a)) - 1 for a in (0, 0.5, 1, 0.2)])
    assert sparsity(opacity).item() == pytest.approx(L1 * 0.425 + PSEUDO_L0 * pseudo, rel=1e-6)


def test_self_similarities_are_cosines_and_blind_to_brightness():
    maps = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    vectors = maps[0].flatten(1).T.numpy()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(self_similarities(maps)[0], unit @ unit.T, atol=1e-6)
    torch.testing.assert_close(self_similarities(3 * maps), self_similarities(maps))


def test_the_loss_falls_towards_the_text_and_its_first_guide_fades():
    losses = Text2Live(MeanEncoder(), red_square(), "a blue square", "a red square")
    assert losses.relevance.max() == pytest.approx(1) and losses.relevance.min() >= 0
    blue = red_square().flip(1)
    layer = lambda edited, opacity: Layer(edited, edited, torch.full((1, 1, SIZE, SIZE), opacity))
    loss = lambda made, progress=1.0: losses.loss(made, progress, torch.Generator().manual_seed(0)).item()
    assert loss(layer(blue, 0.5)) < loss(layer(red_square(), 0.5))
    first = (0.5 - losses.relevance).square().mean().item()
    assert loss(layer(blue, 0.5), 0.25) - loss(layer(blue, 0.5)) == pytest.approx(0.75 * BOOTSTRAP * first, rel=1e-4)


def test_optimising_brings_the_picture_nearer_to_its_text_and_repeats_itself():
    told = MeanEncoder(), red_square(), "a blue square", "a red square"
    edit, losses = lambda steps, seed=0: edit_by_layer(*told, steps, seed), Text2Live(*told)
    likeness = lambda layer: (losses.embed(layer.edited) @ losses.text.T).item()
    assert likeness(edit(40)) > likeness(edit(0)) + 0.05
    assert torch.equal(edit(3).edited, edit(3).edited) and not torch.equal(edit(3).edited, edit(3, seed=1).edited)
