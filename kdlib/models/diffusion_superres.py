"""Super-resolution as the paper has it: a second diffusion model, which is shown the small picture (section 6.6).

After GLIDE's upsampler (Nichol et al., 2022): the small picture is laid beside the noisy large one, as more channels
of the same network. Here the large one is folded first: its squares of scale x scale pixels become channels at the
small one's size, at which the network works. It has no attention, so that it takes pictures of any size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from jaxtyping import Float, Shaped
from PIL import Image
from torch import Tensor, nn

from kdlib.data.pixels import normalise_pixels, to_pil
from kdlib.models.condition import Condition
from kdlib.models.continuous.process import Process, sample
from kdlib.weights import fitting, load_model, save_model

KIND = "diffusion-upsampler"


@dataclass(frozen=True)
class DiffusionUpsamplerConfig:
    """What a diffusion upsampler is built from.

    scale    how many times larger its pictures are     widths      channels of each level, the finest first
    process  `asdict` of a Process                      num_blocks  residual blocks of a level
    """

    scale: int
    widths: Sequence[int]
    num_blocks: int
    process: dict

    def __post_init__(self):
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON gives a list
        if min(self.scale, self.num_blocks, *self.widths) < 1:
            raise ValueError(f"scale = {self.scale}, num_blocks = {self.num_blocks} and widths = {self.widths} must be "
                             "at least 1")


class DiffusionUpsampler(nn.Module):
    """The callable `denoise(x_t, t, condition)` that the process wants, for large pictures; see `shown_small`."""

    def __init__(self, config: DiffusionUpsamplerConfig):
        super().__init__()
        self.config, self.process = config, Process(**config.process)
        channels, levels = 3 * config.scale ** 2, len(config.widths)
        self.unet = UNet2DModel(
            in_channels=channels + 3, out_channels=channels, block_out_channels=config.widths,
            layers_per_block=config.num_blocks, down_block_types=["DownBlock2D"] * levels,
            up_block_types=["UpBlock2D"] * levels, add_attention=False, norm_num_groups=math.gcd(32, *config.widths))
        nn.init.zeros_(self.unet.conv_out.weight)
        nn.init.zeros_(self.unet.conv_out.bias)

    def forward(self, x_t: Float[Tensor, "batch 3 height width"], t: Shaped[Tensor, " batch"],
                condition: Condition) -> Float[Tensor, "batch 3 height width"]:
        """What the process predicts of the large picture x_t, given the small one of `shown_small`."""
        folded = F.pixel_unshuffle(x_t, self.config.scale)
        small = condition.query.view(len(x_t), 3, *folded.shape[2:])
        return F.pixel_shuffle(self.unet(torch.cat([folded, small], 1), t).sample, self.config.scale)

    @torch.no_grad()
    def upsample(self, pictures: list[Image.Image], num_steps: int, seed: int, batch_size: int = 16
                 ) -> list[Image.Image]:
        """PIL pictures of one size, enlarged in num_steps steps; the same seed and pictures give the same bytes.

        Raises ValueError for pictures of several sizes, sizes that the levels can't halve, num_steps beyond N.
        """
        if len(sizes := {picture.size for picture in pictures}) > 1:
            raise ValueError(f"pictures are of the sizes {sorted(sizes)}; upsample those of one size together")
        generator, large = torch.Generator().manual_seed(seed), []
        for start in range(0, len(pictures), batch_size):
            batch = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures[start:start + batch_size]])
            small = normalise_pixels(torch.from_numpy(batch))
            check_size(small, self.config)
            shape = (3, *(side * self.config.scale for side in small.shape[2:]))
            large += to_pil(sample(self.process, self, shown_small(small), shape, num_steps, generator=generator))
        return large

    def save(self, folder: str | Path) -> None:
        """Writes config.json and model.safetensors (float16), both or neither."""
        save_model(folder, {"kind": KIND, **asdict(self.config)},
                   {name: tensor.half() for name, tensor in self.state_dict().items()})

    @classmethod
    def load(cls, folder: str | Path) -> DiffusionUpsampler:
        """A saved upsampler in evaluation mode; errors name what is missing or foreign."""
        config, tensors = load_model(folder, KIND)
        with fitting(folder, config):
            told = {name: value for name, value in config.items() if name != "kind"}
            upsampler = cls(DiffusionUpsamplerConfig(**told))
            upsampler.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        return upsampler.eval().requires_grad_(False)


def shown_small(small: Float[Tensor, "batch 3 height width"]) -> Condition:
    """Small pictures in [-1, 1] in the place of a condition, and no neighbours."""
    flat = small.flatten(1)
    return Condition(flat, flat.new_zeros(len(flat), 0, flat.shape[1]))


def check_size(small: Float[Tensor, "batch 3 height width"], config: DiffusionUpsamplerConfig) -> None:
    """Raises ValueError for pictures whose sides the network's levels can't halve."""
    halvings = 2 ** (len(config.widths) - 1)
    if any(side % halvings for side in small.shape[2:]):
        raise ValueError(f"pictures of {tuple(small.shape[2:])} pixels; the sides must be multiples of {halvings}")
