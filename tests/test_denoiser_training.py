"""kdlib.denoiser_training: what reaches the network (rows, neighbours, views, null conditions), and a tiny run."""

import json

import numpy as np
import pytest
import torch

from kdlib import denoiser_training as module
from kdlib.conditioning import ConditionedDenoiser, DenoiserConfig
from kdlib.denoiser_training import DenoiserObjective, train_denoiser
from kdlib.discrete import Schedule
from kdlib.training import step_generator
from kdlib.types import Embeddings

NUM_PICTURES, NUM_POSITIONS, NUM_CODES, DIM, K = 11, 4, 7, 5, 3


@pytest.fixture
def data():
    """Two views' codes, embeddings whose ids are not in the order of their rows, and neighbours without the own id."""
    random = np.random.default_rng(0)
    vectors = random.standard_normal((NUM_PICTURES, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.array([f"set:{n}" for n in random.permutation(NUM_PICTURES)])
    neighbours = np.stack([random.choice(np.delete(ids, row), K, replace=False) for row in range(NUM_PICTURES)])
    codes = random.integers(0, NUM_CODES, (2, NUM_PICTURES, NUM_POSITIONS)).astype(np.uint16)
    return codes, Embeddings(vectors, ids, "encoder-1"), neighbours


def tiny_denoiser():
    torch.manual_seed(0)
    return ConditionedDenoiser(DenoiserConfig(
        num_codes=NUM_CODES, num_positions=NUM_POSITIONS, width=8, num_blocks=1, num_heads=2, embedding_dim=DIM, k=K,
        schedule=Schedule(6).to_dict()))


def seen_by_the_network(monkeypatch, objective, rows, seed=0):
    """The codes x_0 and the condition that the objective hands to algorithm 1's loss."""
    seen = {}

    def loss(schedule, denoise, x_0, condition, num_codes, generator):
        seen.update(codes=x_0, condition=condition, num_codes=num_codes)
        return torch.zeros(()), None, None

    monkeypatch.setattr(module, "training_loss", loss)
    objective(torch.tensor(rows), step_generator(0, seed))
    assert seen["num_codes"] == NUM_CODES and seen["codes"].dtype == torch.int64
    return seen["codes"].numpy(), seen["condition"]


@pytest.mark.parametrize("row, place", [(0, 0), (6, 2)])
def test_a_picture_among_its_own_neighbours_is_refused(data, row, place):
    codes, embeddings, neighbours = data
    neighbours[row, place] = embeddings.ids[row]
    with pytest.raises(ValueError, match="among its own neighbours; search with exclude=ids"):
        DenoiserObjective(tiny_denoiser(), codes, embeddings, neighbours, 0.1)


def test_the_network_sees_the_picture_and_its_neighbours(data, monkeypatch):
    codes, embeddings, neighbours = data
    objective = DenoiserObjective(tiny_denoiser(), codes, embeddings, neighbours, 0.0)
    rows = [9, 2, 5, 2, 0]
    x_0, condition = seen_by_the_network(monkeypatch, objective, rows)
    vector_of = dict(zip(embeddings.ids, embeddings.vectors, strict=True))
    np.testing.assert_array_equal(condition.query, embeddings.vectors[rows])
    for row, shown, ids in zip(rows, condition.neighbours.numpy(), neighbours[rows], strict=True):
        np.testing.assert_array_equal(shown, [vector_of[id] for id in ids])
        assert not (shown == embeddings.vectors[row]).all(1).any()  # never the picture itself
    assert x_0.shape == (5, NUM_POSITIONS)


def test_both_views_are_drawn_and_no_others(data, monkeypatch):
    codes, embeddings, neighbours = data
    objective = DenoiserObjective(tiny_denoiser(), codes, embeddings, neighbours, 0.0)
    rows, views = list(range(NUM_PICTURES)) * 4, set()
    x_0, _ = seen_by_the_network(monkeypatch, objective, rows)
    for row, shown in zip(rows, x_0, strict=True):
        same = [view for view in (0, 1) if np.array_equal(codes[view, row], shown)]
        assert len(same) == 1
        views.add((row, same[0]))
    assert len(views) > 1.5 * NUM_PICTURES
    again, _ = seen_by_the_network(monkeypatch, objective, rows)
    np.testing.assert_array_equal(again, x_0)


@pytest.mark.parametrize("dropout, low, high", [(0.0, 0, 0), (0.3, 0.2, 0.4), (1.0, 1, 1)])
def test_conditions_are_dropped_whole(data, monkeypatch, dropout, low, high):
    codes, embeddings, neighbours = data
    objective = DenoiserObjective(tiny_denoiser(), codes, embeddings, neighbours, dropout)
    _, condition = seen_by_the_network(monkeypatch, objective, list(range(NUM_PICTURES)) * 40)
    no_query = (condition.query == 0).all(-1)
    no_neighbours = (condition.neighbours == 0).all(-1)
    assert torch.equal(no_query[:, None].expand(-1, K), no_neighbours)  # the query and all neighbours, or none of them
    assert low <= no_query.float().mean() <= high


def test_the_loss_depends_on_the_generator_alone(data):
    codes, embeddings, neighbours = data
    objective = DenoiserObjective(tiny_denoiser(), codes, embeddings, neighbours, 0.1)
    loss = lambda step: objective(torch.arange(NUM_PICTURES), step_generator(0, step))["loss"].item()
    assert loss(1) == loss(1) != loss(2)


def run(data, folder, **changes):
    codes, embeddings, neighbours = data
    return train_denoiser(codes, embeddings, neighbours, folder, **{
        "num_codes": NUM_CODES, "tokenizer_id": "tokenizer-1", "width": 16, "num_blocks": 1, "num_heads": 2,
        "mlp_ratio": 2.0, "num_timesteps": 6, "batch_size": 8, "num_steps": 3, "learning_rate": 1e-2,
        "condition_dropout": 0.1, "conditioning": "ours", "seed": 0, **changes})


def test_a_tiny_run(data, tmp_path):
    history = run(data, tmp_path / "a")
    assert history.step.tolist() == [1, 2, 3] and np.isfinite(history.loss).all()
    config = json.loads((tmp_path / "a" / "model" / "config.json").read_text())
    assert config["encoder_id"] == "encoder-1" and config["tokenizer_id"] == "tokenizer-1"
    assert config["k"] == K and config["embedding_dim"] == DIM and config["num_positions"] == NUM_POSITIONS
    assert config["schedule"]["num_timesteps"] == 6
    model = ConditionedDenoiser.load(tmp_path / "a" / "model")
    assert not model.training
    run(data, tmp_path / "b")
    files = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in "ab"]
    assert files[0] == files[1]
    run(data, tmp_path / "c", seed=1)
    assert (tmp_path / "c" / "model" / "model.safetensors").read_bytes() != files[0]


def test_training_lowers_the_loss(data, tmp_path):
    codes, embeddings, neighbours = data
    run((codes[:1], embeddings, neighbours), tmp_path, num_steps=120, condition_dropout=0.0)
    rows, losses = torch.arange(NUM_PICTURES), []
    torch.manual_seed(0)
    trained = ConditionedDenoiser.load(tmp_path / "model")
    for model in (ConditionedDenoiser(trained.config), trained):
        objective = DenoiserObjective(model.eval(), codes[:1], embeddings, neighbours, 0.0)
        with torch.no_grad():
            losses.append(np.mean([objective(rows, step_generator(9, step))["loss"].item() for step in range(30)]))
    assert losses[1] < 0.8 * losses[0]


def test_an_unknown_conditioning_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="'nonsense'; choose one of ours"):
        run(data, tmp_path, conditioning="nonsense")
