"""The convolutional encoder and decoder of a VQGAN (Esser et al., 2021), which the tokenizer puts around its codes.

Layers, their names, their initial weights from a seed and their arithmetic are those of diffusers' VQModel with
layers_per_block=1, so weights go from one to the other; it is slow to import, and needed for nothing else here.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Maps = Float[Tensor, "batch _ _ _"]  # channels, height and width, which most layers change


class ResnetBlock(nn.Module):
    """Two convolutions beside a shortcut, each after a group norm and SiLU."""

    def __init__(self, channels_in: int, channels_out: int, groups: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels_in, eps=1e-6)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, channels_out, eps=1e-6)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else None

    def forward(self, x: Maps) -> Maps:
        change = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        if self.conv_shortcut is not None:  # layouts are diffusers': they decide how a convolution rounds
            x = self.conv_shortcut(x.contiguous() if self.training else x)
        return x + change


class SelfAttention(nn.Module):
    """Every place of a map attends to all, with one head; the result is added to the map."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Maps) -> Maps:
        places = self.group_norm(x.flatten(2)).transpose(1, 2)
        query, key, value = (layer(places).unsqueeze(1) for layer in (self.to_q, self.to_k, self.to_v))
        attended = self.to_out[0](F.scaled_dot_product_attention(query, key, value).squeeze(1))
        return attended.transpose(1, 2).unflatten(2, x.shape[2:]) + x


class MidBlock(nn.Module):
    """Attention between two residual blocks."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        first, attention, last = (ResnetBlock(channels, channels, groups), SelfAttention(channels, groups),
                                  ResnetBlock(channels, channels, groups))
        self.attentions, self.resnets = nn.ModuleList([attention]), nn.ModuleList([first, last])

    def forward(self, x: Maps) -> Maps:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Downsample(nn.Module):
    """Halves the sides by a convolution, padded on the right and below."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Maps) -> Maps:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles the sides by repeating pixels, then a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Maps) -> Maps:
        return self.conv(F.interpolate(x.contiguous() if len(x) >= 64 else x, scale_factor=2.0, mode="nearest"))


class DownBlock(nn.Module):
    """A residual block, then, but at the last, half the sides."""

    def __init__(self, channels_in: int, channels_out: int, groups: int, last: bool):
        super().__init__()
        self.resnets = nn.Sequential(ResnetBlock(channels_in, channels_out, groups))
        self.downsamplers = nn.Sequential(*[] if last else [Downsample(channels_out)])

    def forward(self, x: Maps) -> Maps:
        return self.downsamplers(self.resnets(x))


class UpBlock(nn.Module):
    """Two residual blocks, then, but at the last, double the sides."""

    def __init__(self, channels_in: int, channels_out: int, groups: int, last: bool):
        super().__init__()
        self.resnets = nn.Sequential(ResnetBlock(channels_in, channels_out, groups),
                                     ResnetBlock(channels_out, channels_out, groups))
        self.upsamplers = nn.Sequential(*[] if last else [Upsample(channels_out)])

    def forward(self, x: Maps) -> Maps:
        return self.upsamplers(self.resnets(x))


def in_and_out(widths: list[int]) -> list[tuple[int, int, bool]]:
    """Of each level, its channels in and out and whether it is the last."""
    return [(widths[max(i - 1, 0)], width, i == len(widths) - 1) for i, width in enumerate(widths)]


class Encoder(nn.Module):
    """Maps to maps with the last width's channels, their sides halved between levels."""

    def __init__(self, channels: int, widths: list[int], groups: int):
        super().__init__()
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down_blocks = nn.Sequential(*[DownBlock(a, b, groups, last) for a, b, last in in_and_out(widths)])
        self.mid_block = MidBlock(widths[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)

    def forward(self, x: Maps) -> Maps:
        x = self.mid_block(self.down_blocks(self.conv_in(x)))
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Decoder(nn.Module):
    """Encoder backwards: from the last width's channels, sides doubled between levels."""

    def __init__(self, channels: int, widths: list[int], groups: int):
        super().__init__()
        self.conv_in = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        mid_block = MidBlock(widths[-1], groups)
        self.up_blocks = nn.Sequential(*[UpBlock(a, b, groups, last) for a, b, last in in_and_out(widths[::-1])])
        self.mid_block = mid_block  # drawn before the levels, named after them
        self.conv_norm_out = nn.GroupNorm(groups, widths[0], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[0], channels, 3, padding=1)

    def forward(self, x: Maps) -> Maps:
        x = self.up_blocks(self.mid_block(self.conv_in(x)))
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class VQGAN(nn.Module):
    """Encoder, codebook (`quantize.embedding.weight`) and decoder; the look-up is the tokenizer's.

    channels  of the pictures           widths    channels of each level; sides halve between levels
    groups    of the group norms        num_codes, code_dim  size of the codebook
    """

    def __init__(self, channels: int, widths: list[int], groups: int, num_codes: int, code_dim: int):
        super().__init__()
        self.encoder = Encoder(channels, widths, groups)
        self.quant_conv = nn.Conv2d(widths[-1], code_dim, 1)
        self.quantize = nn.ModuleDict({"embedding": nn.Embedding(num_codes, code_dim)})
        nn.init.uniform_(self.quantize.embedding.weight, -1 / num_codes, 1 / num_codes)
        self.post_quant_conv = nn.Conv2d(code_dim, widths[-1], 1)
        self.decoder = Decoder(channels, widths, groups)

    def encode(self, images: Maps) -> Float[Tensor, "batch code_dim grid grid"]:
        """Pictures to vectors on the grid."""
        return self.quant_conv(self.encoder(images))

    def decode(self, vectors: Float[Tensor, "batch code_dim grid grid"]) -> Maps:
        """Vectors on the grid to pictures."""
        return self.decoder(self.post_quant_conv(vectors))
