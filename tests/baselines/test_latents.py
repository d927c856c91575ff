"""kdlib.baselines.latents: FuseDream's search on a GAN and an encoder whose answers are known."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlib.baselines.gan import GanConfig, Generator
from kdlib.baselines.latents import LIMIT, Latents, Search, aug_score, combined, draw_latents, dream
from kdlib.encoder import Encoder

DIM, NOISE = 5, 4


class ColourTower(nn.Module):
    """A picture's embedding is its mean colour, twice over: what is asked for can be seen."""

    def encode_image(self, images, normalize):
        colours = images.mean((2, 3)) + 1.1
        return F.normalize(torch.cat([colours, 0 * colours[:, :2]], -1), dim=-1)


class Colours(Encoder):
    def __init__(self):
        self.model = ColourTower()


class Shown(Generator):
    """Shows what it is given, in a picture of 3 x 3."""

    def forward(self, noise, told):
        return torch.cat([noise, told], -1).view(1, 1, 3, 3).expand(1, 3, 3, 3)


RED = torch.tensor([1.0, 0, 0, 0, 0])


@pytest.fixture(scope="module")
def gan():
    torch.manual_seed(0)
    network = Generator(GanConfig((8, 6), NOISE, DIM, "e")).requires_grad_(False)
    for layer in network.pixels:
        layer.weight.data *= 2
    return network


@pytest.fixture(scope="module")
def latents(gan):
    told = np.eye(DIM, dtype=np.float16)
    return draw_latents(gan, Colours(), told, 40, seed=1)


def test_draws_are_within_limits_and_seen_as_the_encoder_sees_their_pictures(gan, latents):
    assert latents.noise.abs().max() <= LIMIT and latents.noise.shape == (40, NOISE)
    torch.testing.assert_close(latents.told.norm(dim=-1), torch.ones(40))
    for row in (0, 17, 39):
        image = gan(latents.noise[row:row + 1], latents.told[row:row + 1])
        torch.testing.assert_close(latents.seen[row], Colours().model.encode_image(image, True)[0])
    again = draw_latents(gan, Colours(), np.eye(DIM, dtype=np.float16), 40, seed=1)
    assert torch.equal(again.seen, latents.seen)


def test_one_base_and_no_steps_is_the_best_draw(gan, latents):
    picture, _ = dream(gan, Colours(), latents, RED, Search(40, num_bases=1, num_steps=0, num_views=2), seed=0)
    best = int((latents.seen @ RED).argmax())
    expected = gan(latents.noise[best:best + 1], latents.told[best:best + 1]).clamp(-1, 1)[0].permute(1, 2, 0)
    assert np.abs(np.asarray(picture) - (expected.numpy() + 1) * 127.5).max() < 0.51


def test_the_combination_is_a_softmax_for_each_dimension():
    """Against a loop, on a network that shows what it is given."""
    random = torch.Generator().manual_seed(0)
    bases = [torch.randn(3, NOISE, generator=random), torch.randn(3, DIM, generator=random)]
    weights = [torch.randn(3, NOISE, generator=random), torch.randn(3, DIM, generator=random)]
    shown = combined(Shown(GanConfig((4,), NOISE, DIM, "e")), bases, weights)[0, 0].flatten()
    mixed = [sum(torch.exp(w[i, d]) / torch.exp(w[:, d]).sum() * b[i, d] for i in range(3))
             for w, b in zip(weights, bases, strict=True) for d in range(b.shape[1])]
    noise, told = torch.stack(mixed).split([NOISE, DIM])
    torch.testing.assert_close(shown, torch.cat([noise, told / told.norm()]))


def likeness(picture):
    image = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None] / 127.5 - 1
    return (Colours().model.encode_image(image, True) @ RED).item()


def test_the_search_raises_the_score_and_repeats(gan, latents):
    search = Search(40, num_bases=3, num_steps=25, num_views=4, learning_rate=0.05)
    before = latents.noise.clone()
    start, _ = dream(gan, Colours(), latents, RED, Search(40, num_bases=3, num_steps=0, num_views=4), seed=3)
    picture, told = dream(gan, Colours(), latents, RED, search, seed=3)
    again, _ = dream(gan, Colours(), latents, RED, search, seed=3)
    other, _ = dream(gan, Colours(), latents, RED, search, seed=4)
    assert likeness(picture) > likeness(start) + 0.01 and told.keys() == {"start", "end"}
    assert picture.tobytes() == again.tobytes() != other.tobytes()
    assert torch.equal(latents.noise, before) and not latents.noise.requires_grad  # the draws serve other texts, too


def test_the_score_is_the_mean_cosine_of_changed_views():
    image = torch.full((1, 3, 8, 8), -1.0)
    image[:, 0] = 1.0  # red on red: only the ground that comes in from outside is white
    score = aug_score(Colours(), image, RED, 64, torch.Generator().manual_seed(0)).item()
    plain = (Colours().model.encode_image(image, True) @ RED).item()
    assert 0.5 < score < plain


def test_what_cannot_be_searched_is_refused(gan, latents):
    for wrong in ({"num_bases": 0}, {"num_draws": 4}, {"num_views": 0}, {"num_steps": -1}):
        with pytest.raises(ValueError, match="can't be searched"):
            Search(**wrong)
    few = Latents(*(getattr(latents, name)[:2] for name in ("noise", "told", "seen")))
    with pytest.raises(ValueError, match="2 draws have no best 5"):
        dream(gan, Colours(), few, RED, Search(40, num_steps=0), seed=0)
