"""Pictures as numbers: bytes to tensors in [-1, 1] and back."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

PICTURE_MEAN, PICTURE_STD = 0.5, 0.5  # the bundled tower sees pixels in [-1, 1]


def normalise_pixels(images: Tensor) -> Tensor:
    """uint8 (batch, height, width, 3) to float32 (batch, 3, height, width) in [-1, 1]."""
    return (images.permute(0, 3, 1, 2).float() / 255 - PICTURE_MEAN) / PICTURE_STD


def to_pil(images: Float[Tensor, "batch 3 height width"]) -> list[Image.Image]:
    """Float pictures in [-1, 1] as PIL pictures."""
    pixels = ((images.float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return [Image.fromarray(np.ascontiguousarray(picture)) for picture in pixels.permute(0, 2, 3, 1).numpy()]
