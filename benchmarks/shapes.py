"""The sizes that are measured."""

from __future__ import annotations

from dataclasses import dataclass

from kdlib.models.discrete.denoiser import PAPER_SIZES


@dataclass(frozen=True)
class Shape:
    """Sizes of a denoiser and of a batch; context_dim None means width."""

    num_blocks: int
    width: int
    num_heads: int
    num_positions: int
    num_codes: int
    batch: int
    k: int = 10
    embedding_dim: int = 512
    context_dim: int | None = None


SHAPES = {"8x256/64/512": Shape(8, 256, 4, 64, 512, batch=16), "8x384/256/1024": Shape(8, 384, 6, 256, 1024, batch=8),
          "4x512/1024/2887": Shape(4, 512, 8, 1024, 2887, batch=2)}
PAPER = Shape(**PAPER_SIZES, batch=1)
MINIATURE = Shape(1, 64, 1, 16, 11, batch=1)
