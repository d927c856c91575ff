"""kdlib.baselines.gan_training: which player each term reaches, both contrasts and R1 by hand, runs that repeat."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlib.baselines import gan_training as module
from kdlib.baselines.gan import Discriminator, GanConfig, Generator
from kdlib.baselines.gan_training import (
    GanObjective,
    contrast_as_published,
    contrast_mended,
    r1_penalty,
    train_gan,
)
from kdlib.encoder import Encoder
from kdlib.training.loop import Run, step_generator

NUM_VIEWS, NUM_PICTURES, SIZE, DIM = 2, 11, 8, 5


class Towers(Encoder):
    """An encoder with a linear image side, and no other."""

    def __init__(self):
        self.identity = "encoder-1"
        torch.manual_seed(7)
        self.model = nn.Module()
        self.model.visual = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE ** 2, DIM), nn.BatchNorm1d(DIM)).eval()


@pytest.fixture
def data():
    random = np.random.default_rng(0)
    queries = random.standard_normal((NUM_VIEWS, NUM_PICTURES, DIM)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=-1, keepdims=True)
    return random.integers(0, 256, (NUM_VIEWS, NUM_PICTURES, SIZE, SIZE, 3)).astype(np.uint8), queries


@pytest.fixture
def objective(data):
    torch.manual_seed(0)
    return GanObjective(Generator(GanConfig((6, 4), 3, DIM, "encoder-1")), Discriminator(SIZE, 4, DIM), *data,
                        Towers().model.visual, "published", 0.75)


def run(data, folder, **changes):
    return train_gan(*data, Towers(), folder, **{
        "widths": [6, 4], "noise_dim": 3, "critic_width": 4, "batch_size": 4, "num_steps": 3, "learning_rate": 2e-3,
        "contrast": "published", "seed": 0, **changes})


def reached(term, network):
    """Whether a term has a gradient for any parameter of a network."""
    found = torch.autograd.grad(term, list(network.parameters()), retain_graph=True, allow_unused=True)
    return any(gradient is not None and gradient.abs().max() > 0 for gradient in found)


def test_each_term_reaches_only_its_player(objective):
    told, noise = F.normalize(torch.randn(4, DIM), dim=-1), torch.randn(4, 3)
    real, made = torch.randn(4, 3, SIZE, SIZE), objective.maker(noise, told)
    for name, term in objective.maker_terms(made, told).items():
        assert reached(term, objective.maker) and not reached(term, objective.critic), name
    terms = objective.critic_terms(made.detach(), real, told) | {"r1": r1_penalty(objective.critic, real, told)}
    for name, term in terms.items():
        assert reached(term, objective.critic) and not reached(term, objective.maker), name


def test_a_step_moves_both_and_not_the_encoder(objective):
    objective.train()
    before = {name: tensor.clone() for name, tensor in objective.tower.state_dict().items()}
    objective(torch.arange(4), step_generator(0, 0))["loss"].backward()
    for network in (objective.maker, objective.critic):
        assert sum(parameter.grad.abs().sum() for parameter in network.parameters()) > 0
    assert all(parameter.grad is None for parameter in objective.tower.parameters())
    for name, tensor in objective.tower.state_dict().items():
        assert torch.equal(tensor, before[name]), name  # no running means either


def test_the_contrasts_are_the_sums_that_they_are_said_to_be():
    random = np.random.default_rng(1)
    pictures, told = random.standard_normal((3, 5)), random.standard_normal((3, 5))
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = unit(pictures) @ unit(told).T
    for contrast, scores in [(contrast_mended, cosines / 0.5), (contrast_as_published, np.exp(cosines / 0.5))]:
        expected = -np.mean([np.log(np.exp(scores[j, j]) / np.exp(scores[:, j]).sum()) for j in range(3)])
        assert contrast(*map(torch.tensor, (pictures, told))).item() == pytest.approx(expected, rel=1e-5)


def test_r1_is_the_squared_gradient_by_finite_differences():
    torch.manual_seed(0)
    critic, told = Discriminator(SIZE, 4, DIM).double(), torch.randn(2, DIM, dtype=torch.float64)
    images, step = torch.randn(2, 3, SIZE, SIZE, dtype=torch.float64), 1e-5
    score = lambda at: critic(at, told)[0].sum().item()
    total = 0.0
    for place in np.ndindex(*images.shape):
        there, here = images.clone(), images.clone()
        there[place] += step
        here[place] -= step
        total += ((score(there) - score(here)) / (2 * step)) ** 2
    penalty = r1_penalty(critic.float(), images.float(), told.float()).item()
    assert penalty == pytest.approx(10 / 2 * total / 2, rel=1e-2)  # across kinks


def test_r1_comes_every_sixteenth_step_sixteen_times_as_heavy(objective, monkeypatch):
    monkeypatch.setattr(module, "r1_penalty", lambda *told: torch.tensor(1e6))
    losses = [objective(torch.arange(4), step_generator(0, 0))["loss"].item() for _ in range(33)]
    assert [number for number, loss in enumerate(losses) if loss > 1e6] == [0, 16, 32]
    assert losses[16] - losses[15] == pytest.approx(16e6)


def test_pictures_come_with_the_embedding_of_their_own_view(data, objective, monkeypatch):
    pictures, queries = data
    seen = {}
    monkeypatch.setattr(module, "perturb", lambda told, generator, level: seen.setdefault("told", told))
    monkeypatch.setattr(objective, "critic_terms", lambda made, real, told: seen.update(real=real) or {
        "tells": made.sum(), "semantics": made.sum()})
    objective(torch.arange(NUM_PICTURES), step_generator(0, 0))
    shown = ((seen["real"].permute(0, 2, 3, 1).numpy() + 1) * 127.5).round()
    views = [next(view for view in range(NUM_VIEWS) if np.array_equal(shown[row], pictures[view, row]))
             for row in range(NUM_PICTURES)]
    np.testing.assert_array_equal(seen["told"].numpy(), queries[views, np.arange(NUM_PICTURES)])
    assert set(views) == {0, 1}


# --- tiny runs -------------------------------------------------------------------------------------------------------

def weights(folder):
    return (folder / "model" / "model.safetensors").read_bytes()


def test_the_same_seed_gives_the_same_bytes(data, tmp_path):
    for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
        history = run(data, tmp_path / name, seed=seed)
        assert np.isfinite(history.loss).all() and history.step.tolist() == [1, 2, 3]
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


def test_a_run_that_was_cut_off_goes_on_to_the_same_bytes(data, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "R1_INTERVAL", 3)  # so that the step counts
    run(data, tmp_path / "whole", num_steps=6)
    advance = Run.advance

    def cut(self, logs):
        advance(self, logs)
        if self.step == 2:
            self.save()
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "advance", cut)
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "cut", num_steps=6)
    monkeypatch.setattr(Run, "advance", advance)
    run(data, tmp_path / "cut", num_steps=6)
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")


def test_it_learns_which_of_two_colours_an_embedding_means(tmp_path):
    """All red pictures have one embedding, all blue ones another."""
    colours, told = [(255, 40, 40), (40, 40, 255)], np.eye(DIM, dtype=np.float32)[:2]
    kinds = np.arange(16) % 2
    pictures = np.array(colours, np.uint8)[kinds][None, :, None, None].repeat(SIZE, 2).repeat(SIZE, 3)
    run((pictures, told[kinds][None]), tmp_path, num_steps=150, batch_size=8, learning_rate=5e-3, level=0.3,
        ema_decay=0.9, warmup_steps=10)
    drawn = Generator.load(tmp_path / "model").draw(torch.from_numpy(told[kinds]), torch.Generator().manual_seed(0))
    mean = np.stack([np.asarray(picture, float).mean((0, 1)) for picture in drawn])
    assert ((mean[:, 0] > mean[:, 2]) == (kinds == 0)).all()


def test_what_does_not_fit_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="contrast = 'none' must be one of published, mended"):
        run(data, tmp_path, contrast="none")
    with pytest.raises(ValueError, match="a network of 16 px don't fit"):
        run(data, tmp_path, widths=[6, 5, 4])
