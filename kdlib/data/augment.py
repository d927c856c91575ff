"""Changed pictures: moved, mirrored, recoloured, on white ground; every draw from a generator."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from kdlib.data.pixels import normalise_pixels

RECOLOURED = 0.4  # share of the changed views
BATCH = 256


def augment(images: Float[Tensor, "batch 3 height width"],
            generator: torch.Generator) -> Float[Tensor, "batch 3 height width"]:
    """Random zoom, turn, shift, mirror and colour gain on a white ground; pixels in [-1, 1] may gain up to 1.3."""
    uniform = lambda low, high, *shape: torch.rand(len(images), *shape, generator=generator) * (high - low) + low
    zoom, turn = uniform(0.8, 1.25), uniform(-0.2, 0.2)
    mirror = torch.where(uniform(0, 1) < 0.3, -1.0, 1.0)
    moved = move(images, zoom, turn, mirror, uniform(-0.15, 0.15), uniform(-0.15, 0.15))
    coloured = (moved + 1) * uniform(0.85, 1.15, 3, 1, 1) - 1
    return coloured.contiguous(memory_format=torch.channels_last)


def move(images: Float[Tensor, "batch 3 height width"], zoom: Float[Tensor, " batch"], turn: Float[Tensor, " batch"],
         mirror: Float[Tensor, " batch"], right: Float[Tensor, " batch"],
         down: Float[Tensor, " batch"]) -> Float[Tensor, "batch 3 height width"]:
    """Pictures in [-1, 1] seen through a moved frame; what comes in from outside is white.

    zoom    size of the frame, 1 is the picture's: above 1 the drawing gets smaller    turn  of the frame, in radians
    mirror  -1 mirrors, 1 does not                                right, down  of the frame, in halves of a side
    """
    cos, sin = zoom * turn.cos(), zoom * turn.sin()
    affine = torch.stack([torch.stack([mirror * cos, -mirror * sin, right], -1),
                          torch.stack([sin, cos, down], -1)], 1)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return 1 - F.grid_sample(1 - images, grid, align_corners=False)  # outside is 0 for grid_sample: here, white


def shift_and_mirror(images: Float[Tensor, "batch 3 height width"],
                     generator: torch.Generator) -> Float[Tensor, "batch 3 height width"]:
    """Half of the pictures mirrored, a fifth with swapped colour channels, all shifted by up to a sixteenth."""
    reach = images.shape[-1] // 16
    draw = torch.rand(len(images), 2, generator=generator)
    down, right = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
    images = torch.where(draw[:, 0, None, None, None] < 0.5, images.flip(-1), images)
    swapped = images[:, torch.randperm(3, generator=generator)]
    images = torch.where(draw[:, 1, None, None, None] < 0.2, swapped, images)
    padded = F.pad(images, (reach,) * 4, value=1.0)
    size = images.shape[-1]
    return padded[..., reach + down:reach + down + size, reach + right:reach + right + size].contiguous()


def change(pictures: UInt8[np.ndarray, "pictures height width 3"],
           generator: torch.Generator) -> UInt8[np.ndarray, "pictures height width 3"]:
    """Each a little larger or smaller and shifted on white ground, half of them mirrored, some with other colours.

    Other colours are the three channels in another order: a white ground stays white, a grey stays what it is.
    Computed in float64, so that every processor makes the same bytes.
    """
    count = len(pictures)
    uniform = lambda low, high: torch.rand(count, generator=generator).double() * (high - low) + low
    zoom, mirror = uniform(0.9, 1.12), torch.where(uniform(0, 1) < 0.5, -1.0, 1.0).double()
    right, down, drawn = uniform(-0.1, 0.1), uniform(-0.1, 0.1), uniform(0, 1)
    channels = torch.rand(count, 3, generator=generator).argsort(1)
    channels[drawn >= RECOLOURED] = torch.arange(3)
    chunks = []
    for rows in torch.arange(count).split(BATCH):
        images = normalise_pixels(torch.from_numpy(pictures[rows.numpy()])).double()
        moved = move(images, zoom[rows], torch.zeros_like(zoom[rows]), mirror[rows], right[rows], down[rows])
        moved = moved.gather(1, channels[rows, :, None, None].expand_as(moved)).clamp(-1, 1)
        chunks.append(((moved + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.concatenate(chunks)
