"""Ours beside others: training speed, sampling steps and memory of the discrete model. See benchmarks/README.md."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from benchmarks import reference
from benchmarks.contenders import OURS, OURS_FP32, REFERENCE, RESTATED, Contender, make_contender, run_step_alone
from benchmarks.machine import add_rows, copy_bandwidth, matmul_peaks, measured_now, seconds, write_table
from benchmarks.shapes import PAPER, SHAPES, Shape

STEPS_TIMED = 3  # consecutive sampling steps of one measurement
MIB = 2 ** 20


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
        memory[name] = {work: run_step_alone(name, shape, checkout, work)[2] for work in ("train", "sample")}
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
            "train_share_of_peak": train_flops / train_s / peak, "step_gflop": step_flops / 1e9,
            "step_ms": step_s * 1e3, "step_share_of_peak": step_flops / step_s / peak,
            "train_peak_MiB": memory[name]["train"] / MIB, "step_peak_MiB": memory[name]["sample"] / MIB,
            "train_ratio": train_s / times[OURS][0], "step_ratio": step_s / times[OURS][1],
            "memory_ratio": memory[OURS]["sample"] / memory[name]["sample"]})
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
    """One training step and one guided sampling step of the paper's model, each alone in a fresh process: a row of the
    same table, with the columns that one step can fill."""
    label = f"{shape.num_blocks}x{shape.width}/{shape.num_positions}/{shape.num_codes}"
    work = tqdm(["train", "sample"], desc="preset paper")
    (num_parameters, train_s, train_peak), (_, step_s, step_peak) = (
        run_step_alone(OURS, shape, None, name) for name in work)
    return pd.DataFrame([{
        "shape": label, "contender": OURS, "parameters_M": num_parameters / 1e6,
        "train_images_per_s": shape.batch / train_s, "step_ms": step_s * 1e3, "train_peak_MiB": train_peak / MIB,
        "step_peak_MiB": step_peak / MIB}])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.discrete", description=__doc__)
    parser.add_argument("--reference", type=Path, metavar="DIR", help="a checkout of microsoft/VQ-Diffusion")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), metavar="SHAPE",
                        help=f"blocks x width / tokens / codes; all of {', '.join(SHAPES)}")
    parser.add_argument("--repetitions", type=int, default=5, help="measurements of each time; medians are told")
    parser.add_argument("--paper", action="store_true",
                        help="instead: one step of each kind at the paper's size; its row is added to CSV")
    parser.add_argument("--out", type=Path, metavar="CSV", help="write the table there, too")
    arguments = parser.parse_args()
    if arguments.reference:
        try:
            reference.load(arguments.reference)
        except FileNotFoundError as error:
            parser.error(str(error))
    facts = measured_now("python -m benchmarks.discrete")
    if arguments.paper:
        table = step_paper()
    else:
        peaks = matmul_peaks()
        facts |= {"matmul_gflop_per_s": {precision: peak / 1e9 for precision, peak in peaks.items()},
                  "copy_gb_per_s": copy_bandwidth() / 1e9, "batch": {label: SHAPES[label].batch for label in SHAPES}}
        table = benchmark({label: SHAPES[label] for label in arguments.shapes}, arguments.reference,
                          arguments.repetitions, peaks)
    print(", ".join(f"{name}: {value}" for name, value in facts.items()))
    print(table.to_string(index=False, float_format="{:.4g}".format))
    if arguments.out and arguments.paper:
        add_rows(table, facts, arguments.out)
    elif arguments.out:
        write_table(table, facts, arguments.out)


if __name__ == "__main__":
    main()
