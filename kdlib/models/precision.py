"""In which precision this machine computes natively."""

from __future__ import annotations

from pathlib import Path

import torch


def native_precision() -> str:
    """"bf16" where this machine's GPU, or else its processor, computes bfloat16 natively; "fp32" elsewhere.

    Emulated, bfloat16 takes ten to a hundred times as long: on a processor with AVX2 alone, say. So what a training or
    a drawing gives is the same to the byte on machines of one class only.
    """
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if processor_features() & {"avx512_bf16", "amx_bf16", "bf16"} else "fp32"


def processor_features() -> set[str]:
    """What the processor says that it can do, in Linux's words (x86: flags, ARM: Features)."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return {word for line in lines if line.startswith(("flags", "Features")) for word in line.partition(":")[2].split()}


def native_autocast(device: torch.device) -> torch.autocast:
    """Within it, networks compute in this machine's native precision; weights stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=native_precision() == "bf16")
