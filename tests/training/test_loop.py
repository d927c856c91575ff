"""kdlib.training.loop against AdamW, schedule and average written out in NumPy; resumed runs against whole ones."""

import json
import math
import os
import random
import signal
import time

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kdlib.training import loop as training
from kdlib.training.loop import (
    CHECKPOINT_FILE,
    TrainSettings,
    make_optimizer,
    seed_weights,
    step_generator,
    step_rows,
    train,
)
from kdlib.weights import load_tensors_and_metadata, save_tensors
from tests import processes

NUM_ROWS = 11


def settings_of(**changes):
    return TrainSettings(**{"num_steps": 9, "batch_size": 3, "learning_rate": 1e-2, "seed": 5, "warmup_steps": 4,
                            **changes})


class Regression(nn.Module):
    """A small network with everything that a checkpoint must hold: vectors, matrices, a frozen weight, a buffer."""

    def __init__(self, seed=0, interrupt_at=None, nan_at=None):
        super().__init__()
        seed_weights(seed)
        self.net = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 1))
        self.frozen = nn.Parameter(torch.randn(5), requires_grad=False)
        self.rate_scales = {"net.2.weight": 0.1}
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        data = torch.Generator().manual_seed(3)
        self.inputs, self.targets = torch.randn(NUM_ROWS, 5, generator=data), torch.randn(NUM_ROWS, 1, generator=data)
        self.interrupt_at, self.nan_at, self.calls = interrupt_at, nan_at, []

    def forward(self, rows, generator):
        if self.seen == self.interrupt_at:
            raise KeyboardInterrupt
        noise = torch.randn(len(rows), 5, generator=generator) * 0.1
        loss = (self.net(self.inputs[rows] * self.frozen + noise) - self.targets[rows]).float().pow(2).mean()
        if self.seen == self.nan_at:
            loss = loss * math.nan
        self.calls.append(rows.tolist())
        self.seen += 1
        return {"loss": loss, "noise": noise.detach().mean()}


def read_checkpoint(folder):
    tensors, metadata = load_tensors_and_metadata(folder / CHECKPOINT_FILE)
    return json.loads(metadata["training-checkpoint"]), tensors


def assert_same(left, right):
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert tensor.dtype == right[name].dtype and torch.equal(tensor, right[name]), name


# --- rows and random numbers ---------------------------------------------------------------------------------------

@given(num_rows=st.integers(1, 40), data=st.data())
def test_step_rows_take_each_row_once_an_epoch(num_rows, data):
    batch_size, epoch = data.draw(st.integers(1, num_rows)), data.draw(st.integers(0, 5))
    settings, steps = settings_of(batch_size=batch_size), num_rows // batch_size
    rows = [step_rows(step, num_rows, settings) for step in range(epoch * steps, (epoch + 1) * steps)]
    assert all(r.shape == (batch_size,) and r.dtype == torch.int64 for r in rows)
    taken = torch.cat(rows).tolist()
    assert len(set(taken)) == len(taken) == steps * batch_size and set(taken) <= set(range(num_rows))


def test_epochs_and_seeds_differ():
    orders = [tuple(step_rows(step, 40, settings_of(batch_size=40, seed=seed)).tolist())
              for seed in (0, 1) for step in (0, 1, 2)]
    assert len(set(orders)) == 6 and orders[0] == tuple(step_rows(0, 40, settings_of(batch_size=40, seed=0)).tolist())


def test_step_generators_depend_on_all_three_numbers():
    draw = lambda *numbers: torch.rand(4, generator=step_generator(*numbers)).tolist()
    assert draw(1, 2, 3) == draw(1, 2, 3) and draw(1, 2) == draw(1, 2, 0)
    assert len({tuple(draw(*n)) for n in [(1, 2, 3), (2, 1, 3), (1, 3, 2), (3, 2, 1), (12, 3, 0), (1, 23, 0)]}) == 6


def test_initial_weights_follow_the_seed():
    assert_same(Regression(4).state_dict(), Regression(4).state_dict())
    assert not torch.equal(Regression(4).net[0].weight, Regression(5).net[0].weight)


@pytest.mark.parametrize("batch_size", [0, 12])
def test_a_batch_that_does_not_fit_is_refused(batch_size, tmp_path):
    with pytest.raises(ValueError, match=f"batch_size = {batch_size} does not fit 11"):
        train(Regression(), NUM_ROWS, settings_of(batch_size=batch_size), tmp_path / "c")


# --- against NumPy -------------------------------------------------------------------------------------------------

class Slopes(nn.Module):
    """Two parameters whose gradients are given numbers, whatever their values."""

    def __init__(self, slopes):
        super().__init__()
        self.vector, self.matrix = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([[-3.0]]))
        self.rate_scales = {"matrix": 0.1}
        self.slopes, self.step = slopes, 0

    def forward(self, rows, generator):
        first, second = self.slopes[self.step]
        self.step += 1
        return {"loss": (first * self.vector + second * self.matrix).sum()}


def adamw(slopes, settings, start, scale, decay):
    """AdamW (Loshchilov and Hutter) with clipping, warm-up, cosine and the warmed-up average, in float64."""
    value, first, second, average, values = np.float64(start), 0.0, 0.0, np.float64(start), []
    for step, slope in enumerate(slopes):
        rate = settings.learning_rate * min(1, (step + 1) / settings.warmup_steps)
        rate *= scale * (1 + math.cos(math.pi * step / settings.num_steps)) / 2
        first = settings.betas[0] * first + (1 - settings.betas[0]) * slope
        second = settings.betas[1] * second + (1 - settings.betas[1]) * slope ** 2
        value *= 1 - rate * decay
        value -= rate * (first / (1 - settings.betas[0] ** (step + 1))) / (
            math.sqrt(second / (1 - settings.betas[1] ** (step + 1))) + 1e-8)
        kept = min(settings.ema_decay, 1 - (1 + step) ** -0.75)  # 0 in the first step: the average starts there
        average = kept * average + (1 - kept) * value
        values.append(value)
    return value, average


def test_optimiser_clipping_schedule_and_average_are_what_they_say(tmp_path):
    settings = settings_of(num_steps=13, weight_decay=0.5, clip_norm=2.0, ema_decay=0.7, learning_rate=0.05)
    slopes = np.random.default_rng(0).normal(0, 1, (13, 2))
    slopes[[2, 7]] *= 1000  # clipped
    norms = np.linalg.norm(slopes, axis=1, keepdims=True)
    clipped = slopes * np.minimum(1, settings.clip_norm / norms)
    objective = Slopes(torch.tensor(slopes, dtype=torch.float32))
    train(objective, NUM_ROWS, settings, tmp_path / "c")
    raw = read_checkpoint(tmp_path / "c")[1]
    for name, column, start, scale, decay in [("vector", 0, 2, 1, 0), ("matrix", 1, -3, 0.1, 0.5)]:
        last, average = adamw(clipped[:, column], settings, start, scale, decay)
        assert raw[f"model.{name}"].item() == pytest.approx(last, abs=1e-5)
        assert getattr(objective, name).item() == pytest.approx(average, abs=1e-5)
        assert abs(last - average) > 1e-3
    assert not objective.training


def test_learning_rates_of_the_history(tmp_path):
    history = train(Regression(), NUM_ROWS, settings_of(num_steps=20), tmp_path / "c")
    told = [1e-2 * min(1, (s + 1) / 4) * (1 + math.cos(math.pi * s / 20)) / 2 for s in range(20)]
    np.testing.assert_allclose(history.learning_rate, told, rtol=1e-12)
    assert history.step.tolist() == list(range(1, 21)) and history.images.tolist() == list(range(3, 61, 3))
    assert list(history.columns) == ["step", "images", "learning_rate", "loss", "noise"]


def test_a_row_of_the_history_is_the_mean_of_its_steps(tmp_path, monkeypatch):
    whole = train(Regression(), NUM_ROWS, settings_of(num_steps=10), tmp_path / "a")
    monkeypatch.setattr(training, "LOG_POINTS", 3)
    coarse = train(Regression(), NUM_ROWS, settings_of(num_steps=10), tmp_path / "b")
    assert coarse.step.tolist() == [3, 6, 9, 10] and coarse.images.tolist() == [9, 18, 27, 30]
    means = whole.groupby((whole.step - 1) // 3)[["loss", "noise"]].mean()
    np.testing.assert_allclose(coarse[["loss", "noise"]], means, rtol=1e-9)


def test_parameter_groups():
    objective = Regression()
    groups = make_optimizer(objective, settings_of(weight_decay=0.3)).param_groups
    told = {id(p): (g["weight_decay"], g["rate_scale"]) for g in groups for p in g["params"]}
    net = objective.net
    assert told == {id(net[0].weight): (0.3, 1.0), id(net[2].weight): (0.3, 0.1), id(net[0].bias): (0.0, 1.0),
                    id(net[1].weight): (0.0, 1.0), id(net[1].bias): (0.0, 1.0), id(net[2].bias): (0.0, 1.0)}


def test_a_slowed_parameter_that_there_is_not_is_named():
    objective = Regression()
    objective.rate_scales = {"net.3.weight": 0.1}
    with pytest.raises(ValueError, match="net.3.weight"):
        make_optimizer(objective, settings_of())


def test_training_lowers_the_loss_and_leaves_frozen_weights(tmp_path):
    objective = Regression()
    before = objective.frozen.clone()
    history = train(objective, NUM_ROWS, settings_of(num_steps=60, learning_rate=3e-2), tmp_path / "c")
    assert history.loss[-10:].mean() < 0.7 * history.loss[:10].mean()
    assert torch.equal(objective.frozen, before)


# --- precision -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("asked, native, wanted", [(None, "fp32", "fp32"), (None, "bf16", "bf16"),
                                                   ("fp32", "bf16", "fp32"), ("bf16", "fp32", "bf16")])
def test_an_explicit_precision_wins_and_the_bar_says_which(asked, native, wanted, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "native_precision", lambda: native)
    seen = []

    class Watched(Regression):
        def forward(self, rows, generator):
            seen.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32)
            return super().forward(rows, generator)

    train(Watched(), NUM_ROWS, settings_of(precision=asked), tmp_path / "c")
    assert set(seen) == {torch.bfloat16 if wanted == "bf16" else torch.float32}
    assert f"train, {wanted}" in capsys.readouterr().err


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'half' must be 'fp32' or 'bf16'"):
        train(Regression(), NUM_ROWS, settings_of(precision="half"), tmp_path / "c")


# --- checkpoints ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_run_equals_an_uninterrupted_one(precision, tmp_path, monkeypatch):
    settings = settings_of(precision=precision)
    whole = Regression()
    whole_history = train(whole, NUM_ROWS, settings, tmp_path / "whole")
    monkeypatch.setattr(training, "CHECKPOINT_INTERVAL_S", 0)
    cut = Regression(interrupt_at=5)
    with pytest.raises(KeyboardInterrupt):
        train(cut, NUM_ROWS, settings, tmp_path / "cut")
    assert read_checkpoint(tmp_path / "cut")[0]["step"] == 5
    resumed = Regression()
    resumed_history = train(resumed, NUM_ROWS, settings, tmp_path / "cut")
    assert len(resumed.calls) == 4 and cut.calls + resumed.calls == whole.calls
    assert_same(resumed.state_dict(), whole.state_dict())
    pd.testing.assert_frame_equal(resumed_history, whole_history, check_exact=True)
    assert_same(*(read_checkpoint(tmp_path / run)[1] for run in ("cut", "whole")))


def test_a_run_cut_off_within_a_row_of_the_history(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "LOG_POINTS", 2)  # rows of four steps
    whole = train(Regression(), NUM_ROWS, settings_of(), tmp_path / "whole")
    monkeypatch.setattr(training, "CHECKPOINT_INTERVAL_S", 0)
    with pytest.raises(KeyboardInterrupt):
        train(Regression(interrupt_at=6), NUM_ROWS, settings_of(), tmp_path / "cut")
    resumed = train(Regression(), NUM_ROWS, settings_of(), tmp_path / "cut")
    pd.testing.assert_frame_equal(resumed, whole, check_exact=True)


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = Regression()
    history = train(first, NUM_ROWS, settings_of(), tmp_path / "c")
    again = Regression()
    pd.testing.assert_frame_equal(train(again, NUM_ROWS, settings_of(), tmp_path / "c"), history, check_exact=True)
    assert again.calls == [] and not again.training
    assert_same(again.state_dict(), first.state_dict())


@pytest.mark.parametrize("seed, changes", [(0, {"learning_rate": 2e-2}), (0, {"num_steps": 7}), (0, {"data_id": "b"}),
                                           (1, {})])
def test_a_checkpoint_of_another_run_is_left_unused(seed, changes, tmp_path, capsys):
    train(Regression(), NUM_ROWS, settings_of(), tmp_path / "c")
    foreign, fresh = Regression(seed), Regression(seed)
    train(foreign, NUM_ROWS, settings_of(**changes), tmp_path / "c")
    assert "is from another run" in "".join(capsys.readouterr())
    train(fresh, NUM_ROWS, settings_of(**changes), tmp_path / "new")
    assert foreign.calls == fresh.calls
    assert_same(foreign.state_dict(), fresh.state_dict())


def test_a_damaged_or_foreign_checkpoint_is_named(tmp_path):
    file = tmp_path / "c" / CHECKPOINT_FILE
    train(Regression(), NUM_ROWS, settings_of(), file.parent)
    whole = file.read_bytes()
    file.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(ValueError, match=r"c/training\.safetensors is not a whole safetensors file"):
        train(Regression(), NUM_ROWS, settings_of(), file.parent)
    save_tensors(file, {"weight": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"c/training\.safetensors is no training checkpoint"):
        train(Regression(), NUM_ROWS, settings_of(), file.parent)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_INTERVAL_S", 0)
    rows = step_rows(4, NUM_ROWS, settings_of()).tolist()
    with pytest.raises(FloatingPointError) as caught:
        train(Regression(nan_at=4), NUM_ROWS, settings_of(), tmp_path / "c")
    message = str(caught.value)
    assert "nan at step 4" in message and f"rows {rows}" in message and str(tmp_path / "c") in message
    config, tensors = read_checkpoint(tmp_path / "c")
    assert config["step"] == 4 and all(t.isfinite().all() for t in tensors.values())


# --- shards: accumulated passes, processes -------------------------------------------------------------------------

class Noiseless(nn.Module):
    """Regression without noise and batch statistics, so that splitting a batch changes nothing but rounding."""

    def __init__(self):
        super().__init__()
        seed_weights(0)
        self.net = nn.Linear(5, 1)
        self.inputs = torch.randn(NUM_ROWS, 5, generator=torch.Generator().manual_seed(3))

    def forward(self, rows, generator):
        return {"loss": self.net(self.inputs[rows]).square().mean()}


def test_accumulated_passes_add_up_to_the_batch(tmp_path):
    whole, split = Noiseless(), Noiseless()
    histories = [train(objective, NUM_ROWS, settings_of(batch_size=6, accumulation=passes), tmp_path / str(passes))
                 for objective, passes in [(whole, 1), (split, 3)]]
    np.testing.assert_allclose(histories[0].loss, histories[1].loss, rtol=1e-5)
    torch.testing.assert_close(whole.net.weight, split.net.weight)


def test_every_shard_has_its_own_noise(tmp_path):
    objective = Regression()
    train(objective, NUM_ROWS, settings_of(num_steps=1, batch_size=6, accumulation=2), tmp_path / "c")
    assert sorted(sum(objective.calls, [])) == sorted(step_rows(0, NUM_ROWS, settings_of(batch_size=6)).tolist())
    assert [len(rows) for rows in objective.calls] == [3, 3]


def test_a_batch_that_cannot_be_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch_size = 5 is no multiple of 1 processes x 2 accumulated passes"):
        train(Regression(), NUM_ROWS, settings_of(batch_size=5, accumulation=2), tmp_path / "c")


class Noisy(Noiseless):
    """Noiseless with noise of the shard's own generator."""

    def forward(self, rows, generator):
        noise = torch.randn(len(rows), 5, generator=generator)
        return {"loss": self.net(self.inputs[rows] + noise).square().mean()}


def train_as_one_of_two(rank, port, folder):
    """What `torchrun` tells a process of two is in its environment."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port), ACCELERATE_USE_CPU="1")
    torch.set_num_threads(1)
    train(Noisy(), NUM_ROWS, settings_of(batch_size=6, precision="fp32"), folder)


def test_two_processes_do_what_one_does_in_two_passes(tmp_path):
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # finds a free port
    port = store.port
    del store
    pair = [processes.start(train_as_one_of_two, rank, port, tmp_path / "two") for rank in range(2)]
    for process in pair:
        process.join(300)
    assert [process.exitcode for process in pair] == [0, 0]
    train(Noisy(), NUM_ROWS, settings_of(batch_size=6, accumulation=2), tmp_path / "one")
    (told, two), (_, one) = read_checkpoint(tmp_path / "two"), read_checkpoint(tmp_path / "one")
    assert told["step"] == 9 and two.keys() == one.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, msg=name)


# --- kills ---------------------------------------------------------------------------------------------------------

class Told(Regression):
    """Tells when its first step is done."""

    def __init__(self, told):
        super().__init__()
        self.told = told

    def forward(self, rows, generator):
        if len(self.calls) == 1:
            self.told.set()
        return super().forward(rows, generator)


def train_and_save_each_step(folder, told):
    training.CHECKPOINT_INTERVAL_S = 0
    torch.set_num_threads(1)
    train(Told(told), NUM_ROWS, settings_of(num_steps=400, precision="fp32"), folder)


def test_a_run_killed_at_random_moments_ends_in_the_same_weights(tmp_path):
    """kill -9 ten times, mostly within a save: each step saves there."""
    moment = random.Random(0)
    for _ in range(10):
        told = processes.CONTEXT.Event()
        process = processes.start(train_and_save_each_step, tmp_path / "killed" / "c", told)
        while not told.wait(0.1):
            assert process.is_alive()
        time.sleep(moment.uniform(0, 0.1))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    reached = read_checkpoint(tmp_path / "killed" / "c")[0]["step"]
    assert 10 <= reached < 400
    resumed, whole = Regression(), Regression()
    train(resumed, NUM_ROWS, settings_of(num_steps=400), tmp_path / "killed" / "c")
    train(whole, NUM_ROWS, settings_of(num_steps=400), tmp_path / "whole" / "c")
    assert len(resumed.calls) == 400 - reached
    assert_same(resumed.state_dict(), whole.state_dict())
    assert_same(*(read_checkpoint(tmp_path / run / "c")[1] for run in ("killed", "whole")))
    assert [file.name for file in (tmp_path / "killed" / "c").iterdir()] == [CHECKPOINT_FILE]


# --- curves --------------------------------------------------------------------------------------------------------

def test_curves_are_the_history(tmp_path):
    history = train(Regression(), NUM_ROWS, settings_of(), tmp_path / "c")
    assert json.loads((tmp_path / "curves" / "metrics.json").read_text())["step"] == 9
    for name in ("loss", "noise", "learning_rate", "images"):
        table = pd.read_csv(tmp_path / "curves" / "plots" / "metrics" / f"{name}.tsv", sep="\t")
        assert table.step.tolist() == history.step.tolist()
        np.testing.assert_allclose(table[name], history[name], rtol=1e-12)
