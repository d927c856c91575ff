"""The discrete network: p(x_0 | x_t, y) as a transformer over code positions (paper section 6.5, "Transformer").

Each block: full self-attention, cross-attention to the condition's tokens, feed-forward; the timestep enters through
adaptive layer normalisation (AdaLN) with gates that start at zero, so that a block starts as identity (DiT). The AdaLN
table is shared between blocks and each block learns an offset to it (PixArt-alpha), which keeps the paper's size:
24 blocks of width 1024, 16 heads, context tokens of width 512, 1024 positions and 2887 codes make 397M parameters.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from kdlib.models.attention import Attention


def timestep_features(t: Shaped[Tensor, " batch"], width: int = 256) -> Float[Tensor, "batch width"]:
    """Sines and cosines of t at geometric frequencies from 1 to 1e-4, float32."""
    frequencies = torch.exp(-math.log(1e4) * torch.arange(width // 2, device=t.device) / (width // 2))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class Block(nn.Module):
    """Self-attention, cross-attention, feed-forward; each normalised, shifted and scaled before, gated after."""

    def __init__(self, width: int, num_heads: int, context_dim: int, mlp_ratio: float, qk_norm: bool):
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.self_attention = Attention(width, num_heads, None, qk_norm)
        self.cross_attention = Attention(width, num_heads, context_dim, qk_norm)
        hidden = int(width * mlp_ratio)
        self.feed_forward = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.adaln_offset = nn.Parameter(torch.empty(9, width))

    def forward(self, x: Float[Tensor, "batch positions width"], context: Float[Tensor, "batch tokens context_dim"],
                adaln: Float[Tensor, "batch 9 width"]) -> Float[Tensor, "batch positions width"]:
        adaln = (adaln + self.adaln_offset)[:, :, None].unbind(1)  # nine times (b, 1, width)
        for i, layer in enumerate((self.self_attention, self.cross_attention, self.feed_forward)):
            shift, scale, gate = adaln[3 * i:3 * i + 3]
            normed = torch.addcmul(shift, self.norm(x), 1 + scale)
            x = torch.addcmul(x, gate, layer(normed, context) if i == 1 else layer(normed))
        return x


class Transformer(nn.Module):
    """logits over x_0 from noisy codes, timestep and context tokens.

    num_codes      V; the input's alphabet has V + 1 letters, [MASK] = V being the last
    num_positions  a square number: positions are a grid, embedded as a row plus a column vector
    context_dim    width of the context tokens; None means `width`
    """

    def __init__(self, num_codes: int, num_positions: int, width: int, num_blocks: int, num_heads: int,
                 context_dim: int | None = None, mlp_ratio: float = 4.0, qk_norm: bool = False):
        super().__init__()
        side = math.isqrt(num_positions)
        if side * side != num_positions:
            raise ValueError(f"num_positions is {num_positions}; codes form a square grid, so give a square number")
        context_dim = width if context_dim is None else context_dim
        self.codes = nn.Embedding(num_codes + 1, width)
        self.rows = nn.Parameter(torch.empty(side, 1, width))
        self.columns = nn.Parameter(torch.empty(1, side, width))
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.adaln = nn.Linear(width, 9 * width)
        self.blocks = nn.ModuleList(
            Block(width, num_heads, context_dim, mlp_ratio, qk_norm) for _ in range(num_blocks))
        self.last_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.last_adaln = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, num_codes)
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """The one place of initialisation."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for embedding in (self.codes.weight, self.rows, self.columns, self.head.weight):
            nn.init.normal_(embedding, std=0.02)
        # AdaLN at zero: no shift, no scale, gates closed. Every block starts as identity and learns when to open.
        for closed in (self.adaln, self.last_adaln):
            nn.init.zeros_(closed.weight)
        for block in self.blocks:
            nn.init.zeros_(block.adaln_offset)

    def forward(self, codes: Int[Tensor, "batch positions"], t: Shaped[Tensor, " batch"],
                context: Float[Tensor, "batch tokens context_dim"]) -> Float[Tensor, "batch positions num_codes"]:
        """codes (b, p) in 0 .. V, t (b,) in 1 .. N, context (b, m, context_dim) with any m -> logits (b, p, V)."""
        time = self.time(timestep_features(t))  # (b, width)
        adaln = self.adaln(time).unflatten(-1, (9, -1))  # (b, 9, width)
        x = self.codes(codes) + (self.rows + self.columns).flatten(0, 1)
        for block in self.blocks:
            x = block(x, context, adaln)
        shift, scale = self.last_adaln(time)[:, None].chunk(2, -1)
        return self.head(torch.addcmul(shift, self.last_norm(x), 1 + scale))
