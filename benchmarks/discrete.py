"""Ours beside others: training speed, sampling steps and memory of the discrete model. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from benchmarks import reference
from benchmarks.contenders import (
    OURS,
    OURS_FP32,
    PAPER,
    REFERENCE,
    RESTATED,
    SHAPES,
    Contender,
    Shape,
    make_contender,
    run_step_alone,
)
from kdlib.io import atomic_path

STEPS_TIMED = 3  # consecutive sampling steps of one measurement
MIB = 2 ** 20


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def matmul_peaks(size: int = 2048, repetitions: int = 10) -> dict[str, float]:
    """FLOP/s of the fastest of `repetitions` square matrix products, for fp32 and bf16."""
    pairs = {"fp32": torch.randn(2, size, size), "bf16": torch.randn(2, size, size, dtype=torch.bfloat16)}
    best = dict.fromkeys(pairs, float("inf"))
    for _ in range(repetitions):
        for precision, (a, b) in pairs.items():
            best[precision] = min(best[precision], seconds(lambda a=a, b=b: a @ b))
    return {precision: 2 * size ** 3 / duration for precision, duration in best.items()}


def count_flops(work: Callable[[], object]) -> int:
    """FLOPs of the matrix products of `work`, nothing that is computed twice (fused attention backward) counted so."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def measure_times(contenders: dict[str, Contender], repetitions: int, bar: tqdm) -> dict[str, tuple[float, float]]:
    """Median seconds of a training step and of a sampling step; the contenders take turns."""
    times = []
    for _ in range(repetitions):
        for name, contender in contenders.items():
            times.append((name, seconds(contender.train), seconds(lambda c=contender: c.sample(STEPS_TIMED))))
            bar.update()
    medians = pd.DataFrame(times, columns=["name", "train", "sample"]).groupby("name").median()
    return {name: (medians.train[name], medians["sample"][name] / STEPS_TIMED) for name in contenders}


def measure_shape(label: str, shape: Shape, checkout: Path | None, repetitions: int, peaks: dict[str, float],
                  bar: tqdm) -> list[dict]:
    """The table's rows of one shape."""
    names = [OURS, OURS_FP32, RESTATED] + [REFERENCE] * (checkout is not None)
    bar.set_description(label)
    memory = {}
    for name in names:
        memory[name] = run_step_alone(name, shape, checkout, "sample")[2]
        bar.update()
    contenders = {name: make_contender(name, shape, checkout) for name in names}
    flops = {name: (count_flops(c.train), count_flops(lambda c=c: c.sample(1))) for name, c in contenders.items()}
    times = measure_times(contenders, repetitions, bar)
    rows = []
    for name in names:
        (train_s, step_s), (train_flops, step_flops) = times[name], flops[name]
        peak = peaks[name.split()[1]]
        rows.append({
            "shape": label, "contender": name, "parameters_M": contenders[name].num_parameters / 1e6,
            "train_gflop_per_image": train_flops / shape.batch / 1e9, "train_images_per_s": shape.batch / train_s,
            "train_share_of_peak": train_flops / train_s / peak, "step_ms": step_s * 1e3,
            "step_share_of_peak": step_flops / step_s / peak, "step_peak_MiB": memory[name] / MIB,
            "train_ratio": train_s / times[OURS][0], "step_ratio": step_s / times[OURS][1],
            "memory_ratio": memory[OURS] / memory[name]})
    return rows


def benchmark(shapes: dict[str, Shape], checkout: Path | None, repetitions: int,
              peaks: dict[str, float]) -> pd.DataFrame:
    """A row for each shape and contender. Ratios compare `ours bf16` with the row's contender: how many times as fast
    in training and in a sampling step, and its share of the memory."""
    num_contenders = 3 + (checkout is not None)
    with tqdm(total=len(shapes) * num_contenders * (1 + repetitions)) as bar:
        rows = [row for label, shape in shapes.items()
                for row in measure_shape(label, shape, checkout, repetitions, peaks, bar)]
    return pd.DataFrame(rows)


def step_paper(shape: Shape = PAPER) -> pd.DataFrame:
    """One training step and one guided sampling step of the paper's model, each alone in a fresh process."""
    rows = []
    for work in tqdm(["train", "sample"], desc="preset paper"):
        num_parameters, duration, peak = run_step_alone(OURS, shape, None, work)
        rows.append({"step": work, "contender": OURS, "batch": shape.batch, "parameters_M": num_parameters / 1e6,
                     "weights_MiB": num_parameters * 4 / MIB, "seconds": duration,
                     "peak_MiB_above_weights": peak / MIB})
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.discrete", description=__doc__)
    parser.add_argument("--reference", type=Path, metavar="DIR", help="a checkout of microsoft/VQ-Diffusion")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), metavar="SHAPE",
                        help=f"blocks x width / tokens / codes; all of {', '.join(SHAPES)}")
    parser.add_argument("--repetitions", type=int, default=5, help="measurements of each time; medians are told")
    parser.add_argument("--paper", action="store_true", help="instead: one step of each kind at the paper's size")
    parser.add_argument("--out", type=Path, metavar="CSV", help="write the table there, too")
    arguments = parser.parse_args()
    if arguments.reference:
        try:
            reference.load(arguments.reference)
        except FileNotFoundError as error:
            parser.error(str(error))
    if arguments.paper:
        table = step_paper()
    else:
        peaks = matmul_peaks()
        shapes = {label: SHAPES[label] for label in arguments.shapes}
        table = benchmark(shapes, arguments.reference, arguments.repetitions, peaks)
        print("matmul peak: " + ", ".join(f"{peak / 1e9:.0f} GFLOP/s {name}" for name, peak in peaks.items()))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(table.to_string(index=False, float_format="{:.4g}".format))
    if arguments.out:
        with atomic_path(arguments.out) as path:
            table.to_csv(path, index=False)


if __name__ == "__main__":
    main()
