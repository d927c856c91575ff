"""Super-resolution: small pictures made large (paper section 6.6: 64 -> 256 px and beyond).

The paper's upsamplers are diffusion models (GLIDE's, then Real-ESRGAN). The one here is of Real-ESRGAN's compact kind:
convolutions at the small picture's size, and one step up at their end. `kdlib.training.superres` says how it learns.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from kdlib.data.pixels import normalise_pixels, to_pil
from kdlib.weights import fitting, load_model, save_model

KIND = "upsampler"


@dataclass(frozen=True)
class UpsamplerConfig:
    """What an upsampler is built from.

    scale       how many times larger its pictures are       width  channels
    num_blocks  residual blocks, of two convolutions each
    """

    scale: int
    width: int
    num_blocks: int

    def __post_init__(self):
        for name in ("scale", "width", "num_blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 1")


class Upsampler(nn.Module):
    """A picture of any size to one `scale` times as large: its bicubic enlargement, and what a network adds to that.

    The last convolution starts at zero, so that untrained it is the bicubic one.
    """

    def __init__(self, config: UpsamplerConfig):
        super().__init__()
        self.config = config
        self.first = nn.Conv2d(3, config.width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(config.width) for _ in range(config.num_blocks)))
        self.last = nn.Conv2d(config.width, 3 * config.scale ** 2, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 _ _"]:
        """Pictures in [-1, 1] to larger ones, not clipped."""
        added = self.last(self.blocks(self.first(images)))
        return enlarge(images, self.config.scale) + F.pixel_shuffle(added, self.config.scale)

    @torch.no_grad()
    def upsample(self, pictures: list[Image.Image], batch_size: int = 16) -> list[Image.Image]:
        """PIL pictures of one size, enlarged. Raises ValueError for pictures of several sizes."""
        if len(sizes := {picture.size for picture in pictures}) > 1:
            raise ValueError(f"pictures are of the sizes {sorted(sizes)}; upsample those of one size together")
        device, large = self.last.weight.device, []
        for start in range(0, len(pictures), batch_size):
            batch = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures[start:start + batch_size]])
            large += to_pil(self(normalise_pixels(torch.from_numpy(batch)).to(device)))
        return large

    def save(self, folder: str | Path) -> None:
        """Writes config.json and model.safetensors (float16), both or neither."""
        save_model(folder, {"kind": KIND, **asdict(self.config)},
                   {name: tensor.half() for name, tensor in self.state_dict().items()})

    @classmethod
    def load(cls, folder: str | Path) -> Upsampler:
        """A saved upsampler in evaluation mode; errors name what is missing or foreign."""
        config, tensors = load_model(folder, KIND)
        with fitting(folder, config):
            upsampler = cls(UpsamplerConfig(**{name: value for name, value in config.items() if name != "kind"}))
            upsampler.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        return upsampler.eval().requires_grad_(False)


class Block(nn.Module):
    """Two convolutions, their result added to what came in."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width),
                                    nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Float[Tensor, "batch width height width_px"]) -> Float[Tensor, "batch width height width_px"]:
        return x + self.layers(x)


def enlarge(images: Float[Tensor, "batch 3 height width"], scale: int) -> Float[Tensor, "batch 3 _ _"]:
    """Bicubic enlargement as Pillow does it (`antialias` means no more than that here): what the network adds to."""
    return F.interpolate(images, scale_factor=scale, mode="bicubic", antialias=True)
