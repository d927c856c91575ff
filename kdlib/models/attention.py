"""Attention without bias, in its fastest form for the machine."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def attend(q: Float[Tensor, "batch heads positions head_width"], k: Float[Tensor, "batch heads keys head_width"],
           v: Float[Tensor, "batch heads keys head_width"]) -> Float[Tensor, "batch heads positions head_width"]:
    """softmax(q k' / sqrt(head_width)) v, without keeping the attention map.

    One exception, for speed: on a CPU in bfloat16 with few keys, plain matrix products are two to four times as fast
    as PyTorch's fused kernel, in training most of all. In float32, or from about 256 keys on, the fused one wins.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and k.shape[2] <= 128:
        return (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


class Attention(nn.Module):
    """Multi-head attention without bias, so that zero values add exactly nothing.

    context_width None is self-attention; otherwise keys and values come from a context of that width. qk_norm
    normalises queries and keys per head (RMS with a learned gain), which keeps long trainings stable.
    """

    def __init__(self, width: int, num_heads: int, context_width: int | None = None, qk_norm: bool = False):
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} does not divide into {num_heads} heads")
        self.num_heads = num_heads
        self.is_self = context_width is None
        if self.is_self:
            self.qkv = nn.Linear(width, 3 * width, bias=False)
        else:
            self.q = nn.Linear(width, width, bias=False)
            self.kv = nn.Linear(context_width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        norm = (lambda: nn.RMSNorm(width // num_heads, eps=1e-6)) if qk_norm else nn.Identity
        self.q_norm, self.k_norm = norm(), norm()

    def forward(self, x: Float[Tensor, "batch positions width"],
                context: Float[Tensor, "batch tokens context_width"] | None = None
                ) -> Float[Tensor, "batch positions width"]:
        q, k, v = self.qkv(x).chunk(3, -1) if self.is_self else (self.q(x), *self.kv(context).chunk(2, -1))
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in (q, k, v))
        q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        return self.out(attend(q, k, v).transpose(1, 2).flatten(2))
