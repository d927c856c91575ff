"""What the numbers were measured on: the machine, its peaks, and the files that keep both."""

from __future__ import annotations

import argparse
import os
import platform
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import torch

from kdlib.files import atomic_file, read_json, write_json


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


def copy_bandwidth(num_bytes: int = 2 ** 28, repetitions: int = 10) -> float:
    """Bytes/s, read and written ones together, of the fastest of `repetitions` copies of `num_bytes` bytes."""
    source, target = torch.ones(2, num_bytes, dtype=torch.uint8)
    return 2 * num_bytes / min(seconds(lambda: target.copy_(source)) for _ in range(repetitions))


def describe_machine() -> dict:
    """The processor's name, its cores, the threads in use, the system, and torch's version."""
    cpuinfo = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", cpuinfo.read_text(encoding="utf-8")) if cpuinfo.is_file() else None
    return {"cpu": named[1] if named else platform.processor(), "cores": os.cpu_count(),
            "threads": torch.get_num_threads(), "system": f"{platform.system()} {platform.machine()}",
            "torch": torch.__version__}


def measured_now(command: str) -> dict:
    """What `write_table` keeps beside a table: the day, the command that measures, and the machine."""
    return {"date": datetime.now(UTC).date().isoformat(), "command": command, **describe_machine()}


def check_machine(facts: dict, out: Path) -> None:
    """Raises ValueError where there is a table `out` that was measured on another machine, or nobody knows where."""
    beside = out.with_suffix(".json")
    known = read_json(beside) if beside.is_file() else {}
    differing = [f"{name} {known.get(name, 'unknown')}, here {fact}" for name, fact in facts.items()
                 if name not in ("date", "command") and known.get(name) != fact]
    if out.is_file() and differing:
        raise ValueError(f"{out} was measured elsewhere ({'; '.join(differing)}); name another file")


def write_table(table: pd.DataFrame, facts: dict, out: Path) -> None:
    """The table as `out` (CSV), and what it was measured on as JSON beside it."""
    with atomic_file(out) as path:
        table.to_csv(path, index=False, float_format="%.6g")
    write_json(out.with_suffix(".json"), facts)


def add_rows(table: pd.DataFrame, facts: dict, out: Path) -> None:
    """Adds rows to a file of `write_table`, in the place of the same shapes' rows; begins one where there is none.

    Raises ValueError where the file's rows are from another machine.
    """
    if not out.is_file():
        return write_table(table, facts, out)
    check_machine(facts, out)
    there, known = pd.read_csv(out), read_json(out.with_suffix(".json"))
    write_table(pd.concat([there[~there["shape"].isin(table["shape"])], table]), known | facts, out)


def write_measured(doc: str, module: str, measure: Callable[[str], pd.DataFrame], **facts) -> None:
    """The command line of a benchmark of a preset: measures, and keeps the table where --out says."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    table = measure(options.preset)
    if options.out:
        write_table(table, measured_now(f"python -m {module}") | {"preset": options.preset, **facts}, options.out)
