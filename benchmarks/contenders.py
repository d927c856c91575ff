"""The sides of the comparison, each with one training step and its first sampling steps, and their memory."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import re
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import reference, restated
from benchmarks.shapes import MINIATURE, Shape
from kdlib.models.condition import Condition
from kdlib.models.discrete.denoiser import ConditionedDenoiser, DenoiserConfig
from kdlib.models.discrete.process import Schedule, sample_ancestral, training_loss

NUM_TIMESTEPS = 100
GUIDANCE_SCALE = 3.0
OURS, OURS_FP32, RESTATED, REFERENCE = "ours bf16", "ours fp32", "restated fp32", "reference fp32"


class Contender:
    """A model, the loss of a training batch, and `sample(n)`: the first n of NUM_TIMESTEPS guided sampling steps."""

    def __init__(self, model: nn.Module, loss: Callable[[], Tensor], sample: Callable[[int], None]):
        self.model, self.loss, self.sample = model, loss, sample
        self.num_parameters = sum(p.numel() for p in model.parameters())
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.96))

    def train(self) -> None:
        """One training step."""
        self.loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def make_contender(name: str, shape: Shape, checkout: Path | None) -> Contender:
    """The contender of that name with random weights and data; `checkout` is the reference's folder."""
    torch.manual_seed(0)
    if name == REFERENCE:
        return Contender(*reference.build(shape, NUM_TIMESTEPS, GUIDANCE_SCALE, checkout))
    sizes = {name: size for name, size in asdict(shape).items() if name != "batch"}
    model = ConditionedDenoiser(DenoiserConfig(**sizes, schedule=Schedule(NUM_TIMESTEPS).to_dict()))
    for parameter in model.parameters():  # gates that begin at zero, as they are once training has opened them
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    codes = torch.randint(shape.num_codes, (shape.batch, shape.num_positions))
    vectors = F.normalize(torch.randn(shape.batch, shape.k + 1, shape.embedding_dim), dim=-1)
    condition = Condition(vectors[:, 0], vectors[:, 1:])
    if name == RESTATED:
        return make_restated(model, codes, condition)
    return make_ours(model, codes, condition, bf16=name == OURS)


def make_restated(model: ConditionedDenoiser, codes: Tensor, condition: Condition) -> Contender:
    num_codes = model.config.num_codes

    def sample(num_steps: int) -> None:
        log_x = restated.log_one_hot(torch.full_like(codes, num_codes), num_codes + 1)
        for t in range(NUM_TIMESTEPS, NUM_TIMESTEPS - num_steps, -1):
            t_row = torch.full((len(codes),), t)
            log_x = restated.sampling_step(model.schedule, model, log_x, t_row, condition, GUIDANCE_SCALE)

    loss = partial(restated.training_loss, model.schedule, model, codes, condition, num_codes)
    return Contender(model, loss, sample)


class EnoughSteps(Exception):
    """Ends a sampler early."""


def make_ours(model: ConditionedDenoiser, codes: Tensor, condition: Condition, bf16: bool) -> Contender:
    config = model.config
    autocast = partial(torch.autocast, "cpu", torch.bfloat16, enabled=bf16)

    def loss() -> Tensor:
        with autocast():
            return training_loss(model.schedule, model, codes, condition, config.num_codes)

    def sample(num_steps: int) -> None:
        steps = iter(range(num_steps))

        def denoise(x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
            if next(steps, None) is None:
                raise EnoughSteps
            return model(x_t, t, condition)

        with autocast(cache_enabled=False), suppress(EnoughSteps):  # no second copy of the weights
            sample_ancestral(denoise, model.schedule, condition, config.num_codes, config.num_positions, NUM_TIMESTEPS,
                             guidance_scale=GUIDANCE_SCALE)

    return Contender(model, loss, sample)


# ------------------------------------------------------------------------------------------------------------- memory


M_MMAP_THRESHOLD = -3  # glibc's malloc.h


def resident_bytes(line: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process."""
    return int(re.search(rf"{line}:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))[1]) * 1024


def run_step(name: str, shape: Shape, checkout: Path | None, work: str, num_threads: int) -> tuple[int, float, int]:
    """Parameters, seconds and peak bytes of one step ("train" or "sample") above those of the finished model."""
    torch.set_num_threads(num_threads)
    malloc = ctypes.CDLL(None)
    malloc.mallopt(M_MMAP_THRESHOLD, 65536)  # what is freed goes back at once: no holes that are counted as needed
    step = {"train": Contender.train, "sample": lambda contender: contender.sample(1)}[work]
    step(make_contender(name, MINIATURE, checkout))  # libraries load and threads start here
    contender = make_contender(name, shape, checkout)
    gc.collect()
    malloc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak so far is forgotten
    before, start = resident_bytes("VmRSS"), time.perf_counter()
    step(contender)
    return contender.num_parameters, time.perf_counter() - start, resident_bytes("VmHWM") - before


def run_step_alone(name: str, shape: Shape, checkout: Path | None, work: str) -> tuple[int, float, int]:
    """`run_step` in a fresh process, forked from one that has imported everything and computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.contenders", "torch._dynamo"])  # which an optimiser would import
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(run_step, name, shape, checkout, work, torch.get_num_threads()).result()
