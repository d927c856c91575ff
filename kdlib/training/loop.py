"""One readable loop for every model: rate, forward, clip, step, average, log, checkpoint.

What differs between models is their *objective*: an nn.Module that owns the network and whose forward(rows, generator)
returns {"loss": scalar, ...anything worth logging}; it may have `rate_scales`, which say for names of parameters what
share of the learning rate they get (1.0 without it). Rows and random numbers of a step depend on (seed, step) only, so
that a resumed run equals an uninterrupted one bit for bit on a CPU.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from dvclive import Live
from jaxtyping import Int
from torch import Tensor, nn
from tqdm import tqdm

from kdlib.models.precision import native_precision
from kdlib.weights import load_tensors_and_metadata, save_tensors, tensors_hash

CHECKPOINT_FILE = "training.safetensors"
CHECKPOINT_INTERVAL_S = 60
LOG_POINTS = 100


@dataclass(frozen=True)
class TrainSettings:
    """How a model is trained; params.yaml gives the first four for each stage.

    num_steps      optimiser steps                          warmup_steps  linear rise of the learning rate, then cosine
    batch_size     pictures a step, over all processes      ema_decay     of the averaged weights that are kept
    learning_rate  peak rate of AdamW                       precision     "fp32" or "bf16" (autocast); None: what
    seed           of rows, noise and augmentation                        `native_precision` says of the device
    data_id        identity of what the rows stand for      accumulation  forward passes of a process for one step

    A batch is split into processes x accumulation equal shards, each with its own random numbers: two processes do
    what one does in two passes.
    """

    num_steps: int
    batch_size: int
    learning_rate: float
    seed: int
    warmup_steps: int = 100
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.96)
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    precision: str | None = None
    accumulation: int = 1
    data_id: str = ""


def train(objective: nn.Module, num_rows: int, settings: TrainSettings, checkpoint: str | Path) -> pd.DataFrame:
    """Trains `objective` in place, leaves its averaged weights in it, and returns the history.

    objective   see the module's head; its __init__ must have drawn its weights from settings.seed
    num_rows    rows are drawn from 0 .. num_rows - 1, each once an epoch
    checkpoint  folder of the last checkpoint; a run of the same settings, weights and data goes on from there

    The history has a row for each LOG_POINTS-th of the run: step, images (seen so far), learning_rate and the mean of
    what the objective returned, and attrs["precision"], which was used; `checkpoint`/../curves holds it as DVCLive's
    files, too, for `dvc plots` and to watch.
    Raises FloatingPointError at a loss that is not finite, naming step, rows and checkpoint; ValueError where the
    batch does not fit the rows or cannot be split into equal shards.
    """
    accelerator = Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available(), kwargs_handlers=[
        DistributedDataParallelKwargs(find_unused_parameters=True)])
    settings = replace(settings, precision=checked_precision(settings.precision or native_precision()))
    check_batch(num_rows, settings, accelerator.num_processes)
    optimizer = make_optimizer(objective, settings)
    run = Run(objective, optimizer, settings, Path(checkpoint))
    run.restore()
    forward, optimizer = accelerator.prepare(objective, optimizer)
    run.average = [tensor.to(accelerator.device) for tensor in run.average]
    forward.train()
    bar = tqdm(total=settings.num_steps * settings.batch_size, initial=run.step * settings.batch_size,
               unit=" images", desc=f"train, {settings.precision}", disable=not accelerator.is_main_process)
    while run.step < settings.num_steps:
        run.set_learning_rate()
        rows = step_rows(run.step, num_rows, settings)
        logs = add_gradients(forward, rows, run.step, settings, accelerator)
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(f"the loss is {logs['loss']} at step {run.step}, rows {rows.tolist()}; "
                                     f"lower the learning rate; {checkpoint} keeps the last good step, if any")
        accelerator.clip_grad_norm_(objective.parameters(), settings.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        run.advance(logs)
        bar.update(settings.batch_size)
        bar.set_postfix(loss=f"{run.history[-1]['loss']:.3f}", refresh=False)
        if accelerator.is_main_process and bar.format_dict["elapsed"] - run.saved_s > CHECKPOINT_INTERVAL_S:
            run.save()
            run.saved_s = bar.format_dict["elapsed"]
    if accelerator.is_main_process:
        run.save()
    bar.close()
    run.use_average()
    objective.eval()
    history = pd.DataFrame(run.history).drop(columns="count")
    history.attrs["precision"] = settings.precision
    return history


def checked_precision(precision: str) -> str:
    """Raises ValueError for a precision that there isn't."""
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision = {precision!r} must be 'fp32' or 'bf16'; without one, the machine's is taken")
    return precision


def check_batch(num_rows: int, settings: TrainSettings, num_processes: int) -> None:
    """Raises ValueError where a batch does not fit the rows or cannot be split into equal shards."""
    if not 1 <= settings.batch_size <= num_rows:
        raise ValueError(f"batch_size = {settings.batch_size} does not fit {num_rows} training rows")
    if settings.batch_size % (num_processes * settings.accumulation):
        raise ValueError(f"batch_size = {settings.batch_size} is no multiple of {num_processes} processes x "
                         f"{settings.accumulation} accumulated passes")


def add_gradients(forward: nn.Module, rows: Int[Tensor, " batch"], step: int, settings: TrainSettings,
                  accelerator: Accelerator) -> dict[str, float]:
    """Adds up the gradients of this process's shards of the batch; returns the logs' means over all shards."""
    num_shards = accelerator.num_processes * settings.accumulation
    logs: dict[str, Tensor] = {}
    for i in range(settings.accumulation):
        shard = accelerator.process_index * settings.accumulation + i
        generator = step_generator(settings.seed, step, shard)
        with accelerator.no_sync(forward) if i < settings.accumulation - 1 else nullcontext():
            with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                terms = forward(rows[shard::num_shards], generator)
            accelerator.backward(terms["loss"] / settings.accumulation)
        logs = {name: logs.get(name, 0.0) + value.detach() / settings.accumulation for name, value in terms.items()}
    return {name: value.item() for name, value in accelerator.reduce(logs, "mean").items()}


def make_optimizer(objective: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW; vectors (biases, norms) are not decayed, and `objective.rate_scales` slow some parameters.

    Raises ValueError for a name in it that no parameter has.
    """
    scales = getattr(objective, "rate_scales", {})
    if unknown := scales.keys() - dict(objective.named_parameters()).keys():
        raise ValueError(f"rate_scales names {sorted(unknown)}, but there are no such parameters")
    groups: dict[tuple, list[nn.Parameter]] = {}
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((scales.get(name, 1.0), parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW([{"params": parameters, "rate_scale": scale, "lr": settings.learning_rate,
                               "weight_decay": settings.weight_decay if decayed else 0.0}
                              for (scale, decayed), parameters in groups.items()], betas=settings.betas)


def step_rows(step: int, num_rows: int, settings: TrainSettings) -> Tensor:
    """(batch_size,) int64 rows of one step: a fresh permutation each epoch, the last incomplete batch dropped."""
    epoch, batch = divmod(step, num_rows // settings.batch_size)
    order = torch.randperm(num_rows, generator=step_generator(settings.seed, epoch, stream=1000))
    return order[batch * settings.batch_size:(batch + 1) * settings.batch_size]


def step_generator(seed: int, step: int, stream: int = 0) -> torch.Generator:
    """The random numbers of one step and one process: a CPU generator that depends on these three numbers only."""
    digest = hashlib.sha256(f"{seed} {stream} {step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def seed_weights(seed: int) -> None:
    """Call before building an objective, so that its initial weights depend on the seed alone."""
    set_seed(seed)


class Run:
    """What a checkpoint holds: weights, their average, the optimiser's state, the step and the history."""

    def __init__(self, objective: nn.Module, optimizer: torch.optim.Optimizer, settings: TrainSettings, folder: Path):
        self.objective, self.optimizer, self.settings, self.folder = objective, optimizer, settings, folder
        self.average = [parameter.detach().clone() for parameter in objective.parameters()]
        self.step, self.history, self.saved_s = 0, [], 0.0
        identity = json.dumps(asdict(settings), sort_keys=True) + tensors_hash(objective.state_dict())
        self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()[:16]

    def set_learning_rate(self) -> None:
        """Linear warm-up, then a cosine down to zero."""
        warm = min(1.0, (self.step + 1) / max(1, self.settings.warmup_steps))
        rate = self.settings.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * self.step / self.settings.num_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate_scale"]

    def advance(self, logs: dict[str, float]) -> None:
        """Counts a step, moves the average of the weights and adds to the current row of the history."""
        self.step += 1
        self.move_average()
        interval = max(1, self.settings.num_steps // LOG_POINTS)
        if (self.step - 1) % interval == 0:
            self.history.append({"step": 0, "images": 0, "learning_rate": 0.0, "count": 0, **dict.fromkeys(logs, 0.0)})
        row = self.history[-1]
        for name, value in logs.items():
            row[name] += (value - row[name]) / (row["count"] + 1)
        row.update(count=row["count"] + 1, step=self.step, images=self.step * self.settings.batch_size,
                   learning_rate=self.optimizer.param_groups[0]["lr"])

    @torch.no_grad()
    def move_average(self) -> None:
        """The exponential average of the weights, whose decay rises from 0 in the first step to settings.ema_decay.

        diffusers' EMAModel gives the same bytes, but importing it takes longer than a quick stage trains.
        """
        decay = min(self.settings.ema_decay, 1 - self.step ** -0.75)
        for average, parameter in zip(self.average, self.objective.parameters(), strict=True):
            if parameter.requires_grad:
                average.sub_((1 - decay) * (average - parameter))

    @torch.no_grad()
    def use_average(self) -> None:
        """Puts the averaged weights in the objective's place."""
        for average, parameter in zip(self.average, self.objective.parameters(), strict=True):
            parameter.copy_(average)

    def save(self) -> None:
        """Writes checkpoint and curves; each file is replaced in one move, so that a kill at any moment is harmless."""
        tensors = {f"model.{name}": tensor for name, tensor in self.objective.state_dict().items()}
        tensors |= {f"ema.{i}": tensor for i, tensor in enumerate(self.average)}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in state.items()}
        progress = {"fingerprint": self.fingerprint, "step": self.step, "history": self.history}
        save_tensors(self.folder / CHECKPOINT_FILE, tensors, {"training-checkpoint": json.dumps(progress)})
        write_curves(self.history, self.folder.parent / "curves")

    def restore(self) -> None:
        """Goes on from the checkpoint if there is one of this very run; another run's is left unused."""
        if not (self.folder / CHECKPOINT_FILE).is_file():
            return
        tensors, metadata = load_tensors_and_metadata(self.folder / CHECKPOINT_FILE)
        if "training-checkpoint" not in metadata:
            raise ValueError(f"{self.folder / CHECKPOINT_FILE} is no training checkpoint of kdlib; move it away")
        config = json.loads(metadata["training-checkpoint"])
        if config["fingerprint"] != self.fingerprint:
            tqdm.write(f"{self.folder} is from another run (settings, weights or data differ): starting anew",
                       file=sys.stderr)
            return
        self.step, self.history = config["step"], config["history"]
        self.objective.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n[:6] == "model."})
        self.average = [tensors[f"ema.{i}"] for i in range(len(self.average))]
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, i, key = name.split(".")
                state.setdefault(int(i), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})


def write_curves(history: list[dict], folder: Path) -> None:
    """Writes the history as DVCLive does: a table of steps and values for each quantity, and the last values."""
    with Live(str(folder), resume=False, save_dvc_exp=False, dvcyaml=None, report=None) as live:
        for row in history:
            live.step = row["step"]
            for name in row.keys() - {"step", "count"}:
                live.log_metric(name, row[name])
