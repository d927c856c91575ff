"""The U-Net beside a plain script: images per CPU second of training, and of one guided sampling step.

    python -m benchmarks.continuous [--widths 128 256] [--batch 16] [--repetitions 3] [--out benchmarks/continuous.csv]

`ours` is `kdlib.models.continuous` at several foldings, in float32 and, where the processor has it, in bfloat16.
`plain` is what diffusers' own training example does, with a network of the same widths and blocks: noise predicted at
the full size, the k + 1 embeddings as they are for cross-attention, AdamW, float32; its guidance takes two passes.
Weights and data are random, the contenders take turns, and the least CPU time of each is told. Says nothing of
quality.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor

from benchmarks.machine import measured_now, write_table
from kdlib.models.condition import Condition
from kdlib.models.continuous.process import Process, predict_x0, training_loss
from kdlib.models.continuous.unet import ConditionedUnet, UnetConfig
from kdlib.models.precision import native_precision

DIM, K, GUIDANCE = 512, 10, 3.0


def ours(widths: tuple[int, ...], size_px: int, folding: int, precision: str) -> tuple[int, Callable, Callable]:
    """(number of parameters, train(x_0, condition), step(x_t, condition)) of kdlib's U-Net."""
    process = Process(prediction="v", zero_terminal_snr=True)
    unet = ConditionedUnet(UnetConfig(size_px=size_px, widths=widths, num_blocks=2, num_attending=1, folding=folding,
                                      process=asdict(process)))
    optimiser = torch.optim.AdamW(unet.parameters())
    cast = (lambda: torch.autocast("cpu", torch.bfloat16)) if precision == "bf16" else nullcontext

    def train(x_0: Tensor, condition: Condition) -> None:
        with cast():
            loss = training_loss(process, unet, x_0, condition)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    def step(x_t: Tensor, condition: Condition) -> Tensor:
        with torch.no_grad(), cast():
            return predict_x0(process, unet, x_t, torch.full((len(x_t),), 500), condition, GUIDANCE)

    return sum(parameter.numel() for parameter in unet.parameters()), train, step


def plain(widths: tuple[int, ...], size_px: int) -> tuple[int, Callable, Callable]:
    """The same of a U-Net as diffusers' examples train and sample it."""
    unet = UNet2DConditionModel(
        sample_size=size_px, in_channels=3, out_channels=3, block_out_channels=widths, layers_per_block=2,
        down_block_types=["DownBlock2D"] * (len(widths) - 1) + ["CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D"] + ["UpBlock2D"] * (len(widths) - 1), cross_attention_dim=DIM)
    scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    optimiser = torch.optim.AdamW(unet.parameters())
    tokens = lambda condition: torch.cat([condition.query[:, None], condition.neighbours], 1)

    def train(x_0: Tensor, condition: Condition) -> None:
        noise, times = torch.randn_like(x_0), torch.randint(1000, (len(x_0),))
        said = unet(scheduler.add_noise(x_0, noise, times), times, tokens(condition)).sample
        F.mse_loss(said, noise).backward()
        optimiser.step()
        optimiser.zero_grad()

    def step(x_t: Tensor, condition: Condition) -> Tensor:
        with torch.no_grad():
            null, given = (unet(x_t, 500, tokens(y)).sample for y in (condition.null(), condition))
        return scheduler.step(null + GUIDANCE * (given - null), 500, x_t).pred_original_sample

    return sum(parameter.numel() for parameter in unet.parameters()), train, step


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of all threads together."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(widths: tuple[int, ...], size_px: int, foldings: tuple[int, ...], batch: int,
            repetitions: int) -> pd.DataFrame:
    """A row a contender: parameters, images per CPU second of training and of a guided step, and `plain`'s share."""
    precisions = ("fp32", "bf16") if native_precision() == "bf16" else ("fp32",)
    contenders = {"plain fp32": plain(widths, size_px)} | {
        f"ours {precision}, folding {folding}": ours(widths, size_px, folding, precision)
        for folding in foldings for precision in precisions}
    x = torch.rand(batch, 3, size_px, size_px) * 2 - 1
    y = Condition(F.normalize(torch.randn(batch, DIM), dim=-1), F.normalize(torch.randn(batch, K, DIM), dim=-1))
    times = {(name, kind): [] for name in contenders for kind in ("train", "step")}
    for _ in range(1 + repetitions):  # the first is to warm up
        for name, (_, train, step) in contenders.items():
            times[name, "train"].append(cpu_seconds(lambda train=train: train(x, y)))
            times[name, "step"].append(cpu_seconds(lambda step=step: step(x, y)))
    speed = {key: batch / min(of[1:]) for key, of in times.items()}
    return pd.DataFrame([
        {"contender": name, "parameters": contenders[name][0], **{
            f"{kind}_{what}": speed[name, kind] / by for kind in ("train", "step")
            for what, by in (("images_per_cpu_s", 1), ("times_plain", speed["plain fp32", kind]))}}
        for name in contenders])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--size", type=int, default=64, help="of the pictures, pixels")
    parser.add_argument("--foldings", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    table = measure(tuple(options.widths), options.size, tuple(options.foldings), options.batch, options.repetitions)
    print(table.round(2).to_string(index=False))
    if options.out:
        facts = {name: getattr(options, name) for name in ("widths", "size", "batch", "repetitions")}
        write_table(table, measured_now("python -m benchmarks.continuous") | facts, options.out)


if __name__ == "__main__":
    main()
