"""kdlib.training.unet: what reaches the network (views, their embeddings, null conditions), and tiny runs."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from kdlib.models.continuous.process import Process
from kdlib.models.continuous.unet import ConditionedUnet, UnetConfig
from kdlib.training import unet as module
from kdlib.training.loop import Run, step_generator
from kdlib.training.unet import UnetObjective, train_unet, view_file
from kdlib.training.views import view_pictures
from kdlib.types import Embeddings

NUM_VIEWS, NUM_PICTURES, SIZE, DIM, K = 2, 11, 4, 5, 3


@pytest.fixture
def data():
    """Pictures and queries of two views, embeddings with shuffled ids, neighbours without the own row."""
    random = np.random.default_rng(0)
    queries = random.standard_normal((NUM_VIEWS, NUM_PICTURES, DIM))
    queries = (queries / np.linalg.norm(queries, axis=-1, keepdims=True)).astype(np.float16)
    ids = np.array([f"set:{n}" for n in random.permutation(NUM_PICTURES)])
    neighbours = np.stack([[random.choice(np.delete(np.arange(NUM_PICTURES), row), K, replace=False)
                            for row in range(NUM_PICTURES)] for _ in queries])
    pictures = random.integers(0, 256, (NUM_VIEWS, NUM_PICTURES, SIZE, SIZE, 3)).astype(np.uint8)
    return pictures, queries, Embeddings(queries[0].astype(np.float32), ids, "encoder-1"), neighbours


def run(data, folder, **changes):
    return train_unet(*data, folder, **{
        "widths": [8, 8], "num_blocks": 1, "num_attending": 1, "folding": 2, "process": {"num_timesteps": 6},
        "batch_size": 8, "num_steps": 3, "learning_rate": 1e-2, "condition_dropout": 0.1, "conditioning": "ours",
        "seed": 0, **changes})


def tiny_unet():
    torch.manual_seed(0)
    return ConditionedUnet(UnetConfig(size_px=SIZE, widths=(8, 8), num_blocks=1, num_attending=1, embedding_dim=DIM,
                                      k=K, process=asdict(Process(6))))


def seen_by_the_network(monkeypatch, objective, rows, seed=0):
    """The pictures x_0 and the condition that the objective hands to the process' loss."""
    seen = {}

    def loss(process, denoise, x_0, condition, generator):
        seen.update(x_0=x_0, condition=condition, process=process, denoise=denoise)
        return torch.zeros(())

    monkeypatch.setattr(module, "training_loss", loss)
    objective(torch.tensor(rows), step_generator(0, seed))
    assert seen["process"] == objective.unet.process and seen["denoise"] is objective.unet
    return seen["x_0"].numpy(), seen["condition"]


def test_the_network_sees_one_view_in_minus_1_to_1_with_its_own_embedding_and_neighbours(data, monkeypatch):
    pictures, queries, embeddings, neighbours = data
    objective = UnetObjective(tiny_unet(), *data, 0.0)
    rows, seen = list(range(NUM_PICTURES)) * 4, set()
    x_0, condition = seen_by_the_network(monkeypatch, objective, rows)
    assert x_0.shape == (len(rows), 3, SIZE, SIZE) and x_0.dtype == np.float32
    for row, x, query, shown in zip(rows, x_0, condition.query.numpy(), condition.neighbours.numpy(), strict=True):
        picture = np.round((x.transpose(1, 2, 0) + 1) * 127.5)
        same = [view for view in range(NUM_VIEWS) if np.array_equal(pictures[view, row], picture)]
        assert len(same) == 1
        np.testing.assert_array_equal(query, queries[same[0], row].astype(np.float32))
        np.testing.assert_array_equal(shown, embeddings.vectors[neighbours[same[0], row]])
        seen.add((row, same[0]))
    assert len(seen) > 1.5 * NUM_PICTURES
    again, _ = seen_by_the_network(monkeypatch, objective, rows)
    np.testing.assert_array_equal(again, x_0)


def test_pictures_of_other_views_are_refused(data):
    pictures, *others = data
    for other in (np.concatenate([pictures, pictures]), pictures[:, :-1]):
        with pytest.raises(ValueError, match=r"pictures \(\d, 1\d, 4, 4, 3\) and queries \(2, 11, 5\) are not of the"):
            UnetObjective(tiny_unet(), other, *others, 0.1)


def test_the_file_of_views_holds_them(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    views = view_file(pictures, 2, 7, tmp_path / "new" / "pictures.npy")
    assert isinstance(views, np.memmap) and views.shape == (4, *pictures.shape)
    np.testing.assert_array_equal(views, np.stack(list(view_pictures(pictures, 2, 7))))


def test_pictures_may_lie_in_a_memory_mapped_file(data, tmp_path, monkeypatch):
    pictures, *others = data
    np.save(tmp_path / "pictures.npy", pictures)
    mapped = np.load(tmp_path / "pictures.npy", mmap_mode="r")
    seen = [seen_by_the_network(monkeypatch, UnetObjective(tiny_unet(), of, *others, 0.0), [3, 0, 7])[0]
            for of in (pictures, mapped)]
    np.testing.assert_array_equal(*seen)


def test_a_tiny_run(data, tmp_path):
    process = {"num_timesteps": 6, "prediction": "v", "zero_terminal_snr": True, "min_snr_gamma": 5.0}
    history = run(data, tmp_path / "a", process=process)
    assert history.step.tolist() == [1, 2, 3] and np.isfinite(history.loss).all()
    config = json.loads((tmp_path / "a" / "model" / "config.json").read_text())
    assert config["encoder_id"] == "encoder-1" and config["process"] == {"schedule": "cosine", **process}
    assert (config["k"], config["embedding_dim"], config["size_px"], config["folding"]) == (K, DIM, SIZE, 2)
    assert not ConditionedUnet.load(tmp_path / "a" / "model").training


def test_a_run_that_was_cut_off_goes_on_to_the_same_bytes(data, tmp_path, monkeypatch):
    run(data, tmp_path / "whole", num_steps=4)
    advance = Run.advance

    def cut(self, logs):
        advance(self, logs)
        if self.step == 2:
            self.save()
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "advance", cut)
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "cut", num_steps=4)
    monkeypatch.setattr(Run, "advance", advance)
    history = run(data, tmp_path / "cut", num_steps=4)
    assert history.step.tolist() == [1, 2, 3, 4]
    files = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]


def test_training_lowers_the_loss(data, tmp_path):
    pictures, queries, embeddings, neighbours = data
    flat = np.broadcast_to(pictures[:, :, :1, :1], pictures.shape).copy()  # one colour each
    plain = (flat[:1], queries[:1], embeddings, neighbours[:1])
    run(plain, tmp_path, num_steps=60, condition_dropout=0.0, widths=[16, 16], learning_rate=5e-3, warmup_steps=5,
        ema_decay=0.9, process={"num_timesteps": 6, "prediction": "x0"})
    trained = ConditionedUnet.load(tmp_path / "model")
    untrained, losses = ConditionedUnet(trained.config), []
    for unet in (untrained, trained):
        objective = UnetObjective(unet.eval(), *plain, 0.0)
        with torch.no_grad():
            losses.append(np.mean([objective(torch.arange(11), step_generator(9, n))["loss"].item() for n in range(9)]))
    assert losses[1] < 0.6 * losses[0]


@pytest.mark.parametrize("changes, message", [({"conditioning": "nonsense"}, "'nonsense'; choose one of ours"),
                                              ({"folding": 4}, "size_px = 4 is no multiple of folding x 2 = 8"),
                                              ({"process": {"prediction": "noise"}}, "'noise' must be one of")])
def test_settings_that_make_no_sense_are_refused(data, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run(data, tmp_path, **changes)
