"""kdlib.training.denoiser: what reaches the network (rows, views, neighbours, null conditions), and a tiny run."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from kdlib.models.discrete.denoiser import ConditionedDenoiser, DenoiserConfig
from kdlib.models.discrete.process import Schedule
from kdlib.training import denoiser as module
from kdlib.training.denoiser import DenoiserObjective, train_denoiser
from kdlib.training.loop import step_generator
from kdlib.training.views import Views
from kdlib.types import Embeddings

NUM_PICTURES, NUM_POSITIONS, NUM_CODES, DIM, K = 11, 4, 7, 5, 3


@pytest.fixture
def data():
    """Two views, embeddings whose ids are not in the order of their rows, and neighbours without the own row."""
    random = np.random.default_rng(0)
    both = random.standard_normal((2, NUM_PICTURES, DIM))
    both = (both / np.linalg.norm(both, axis=-1, keepdims=True)).astype(np.float16)
    vectors = both[0].astype(np.float32)
    ids = np.array([f"set:{n}" for n in random.permutation(NUM_PICTURES)])
    neighbours = np.stack([[random.choice(np.delete(np.arange(NUM_PICTURES), row), K, replace=False)
                            for row in range(NUM_PICTURES)] for _ in both])
    codes = random.integers(0, NUM_CODES, (2, NUM_PICTURES, NUM_POSITIONS)).astype(np.uint16)
    return Views(codes, both), Embeddings(vectors, ids, "encoder-1"), neighbours


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
        return torch.zeros(())

    monkeypatch.setattr(module, "training_loss", loss)
    objective(torch.tensor(rows), step_generator(0, seed))
    assert seen["num_codes"] == NUM_CODES and seen["codes"].dtype == torch.int64
    return seen["codes"].numpy(), seen["condition"]


def test_the_network_sees_one_view_with_its_own_embedding_and_neighbours(data, monkeypatch):
    views, embeddings, neighbours = data
    objective = DenoiserObjective(tiny_denoiser(), views, embeddings, neighbours, 0.0)
    rows, seen = list(range(NUM_PICTURES)) * 4, set()
    x_0, condition = seen_by_the_network(monkeypatch, objective, rows)
    for row, codes, query, shown in zip(rows, x_0, condition.query.numpy(), condition.neighbours.numpy(), strict=True):
        same = [view for view in (0, 1) if np.array_equal(views.codes[view, row], codes)]
        assert len(same) == 1
        np.testing.assert_array_equal(query, views.vectors[same[0], row].astype(np.float32))
        np.testing.assert_array_equal(shown, embeddings.vectors[neighbours[same[0], row]])
        assert not (shown == embeddings.vectors[row]).all(1).any()  # never the picture itself
        seen.add((row, same[0]))
    assert len(seen) > 1.5 * NUM_PICTURES
    again, _ = seen_by_the_network(monkeypatch, objective, rows)
    np.testing.assert_array_equal(again, x_0)


def test_the_loss_depends_on_the_generator_alone(data):
    views, embeddings, neighbours = data
    objective = DenoiserObjective(tiny_denoiser(), views, embeddings, neighbours, 0.1)
    loss = lambda step: objective(torch.arange(NUM_PICTURES), step_generator(0, step))["loss"].item()
    assert loss(1) == loss(1) != loss(2)


def run(data, folder, **changes):
    views, embeddings, neighbours = data
    return train_denoiser(views, embeddings, neighbours, folder, **{
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


def test_other_settings_of_the_loop_are_passed_on(data, tmp_path, monkeypatch):
    told = []

    def train(objective, num_rows, settings, checkpoint):
        told.append(settings)
        return pd.DataFrame()

    monkeypatch.setattr(module, "train", train)
    run(data, tmp_path, ema_decay=0.9, precision="fp32")
    assert (told[0].ema_decay, told[0].precision, told[0].batch_size) == (0.9, "fp32", 8)
    with pytest.raises(TypeError, match="no_such_setting"):
        run(data, tmp_path, no_such_setting=1)


def test_training_lowers_the_loss(data, tmp_path):
    views, embeddings, neighbours = data
    plain = Views(views.codes[:1], views.vectors[:1])
    run((plain, embeddings, neighbours[:1]), tmp_path, num_steps=120, condition_dropout=0.0)
    rows, losses = torch.arange(NUM_PICTURES), []
    torch.manual_seed(0)
    trained = ConditionedDenoiser.load(tmp_path / "model")
    for model in (ConditionedDenoiser(trained.config), trained):
        objective = DenoiserObjective(model.eval(), plain, embeddings, neighbours[:1], 0.0)
        with torch.no_grad():
            losses.append(np.mean([objective(rows, step_generator(9, step))["loss"].item() for step in range(30)]))
    assert losses[1] < 0.8 * losses[0]


def test_an_unknown_conditioning_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="'nonsense'; choose one of ours"):
        run(data, tmp_path, conditioning="nonsense")
