"""Views of the training pictures: moved, mirrored, recoloured, each with codes and an embedding of its own.

Of a few thousand pictures a generator that only sees them as they are soon learns each by heart. A picture in other
colours is another picture: f_img and the neighbours are found anew, so condition and codes still fit each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Integer, UInt8

from kdlib.encoder import Encoder, normalise_pixels
from kdlib.encoder_training import move
from kdlib.io import atomic_path, save_array
from kdlib.retrieval import Index
from kdlib.tokenizer import Tokenizer
from kdlib.tokenizer_training import encode_view
from kdlib.training import step_generator

RECOLOURED = 0.4  # share of the changed views
BATCH = 256


@dataclass(frozen=True)
class Views:
    """Equally good views of the same pictures, in the same order; the first two are plain and mirrored.

    codes    (num_views, num_pictures, positions) integers: the tokenizer's E
    vectors  (num_views, num_pictures, dim) float16 unit vectors: f_img
    """

    codes: np.ndarray
    vectors: np.ndarray

    def __post_init__(self):
        if self.codes.ndim != 3 or self.codes.shape[:2] != self.vectors.shape[:2]:
            raise ValueError(f"codes {self.codes.shape} and vectors {self.vectors.shape} are not of the same views")

    def save(self, folder: str | Path) -> None:
        """Writes codes.npy and vectors.npy, both or neither."""
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            save_array(temporary / "codes.npy", self.codes)
            save_array(temporary / "vectors.npy", self.vectors)

    @classmethod
    def load(cls, folder: str | Path) -> Views:
        """Raises FileNotFoundError where a file is missing, ValueError where the two don't fit."""
        return cls(*(np.load(Path(folder) / f"{name}.npy", allow_pickle=False) for name in ("codes", "vectors")))


def make_views(tokenizer: Tokenizer, encoder: Encoder, pictures: UInt8[np.ndarray, "pictures height width 3"],
               codes: Integer[np.ndarray, "2 pictures positions"], num_changed: int, seed: int) -> Views:
    """Two views, plain and mirrored, whose codes are given, and `num_changed` more by `change`."""
    all_codes = list(codes)
    vectors = [encoder.encode_images(pictures), encoder.encode_images(np.ascontiguousarray(pictures[:, :, ::-1]))]
    for number in range(num_changed):
        changed = change(pictures, step_generator(seed, number))
        all_codes.append(encode_view(tokenizer, changed))
        vectors.append(encoder.encode_images(changed))
    return Views(np.stack(all_codes), np.stack(vectors).astype(np.float16))


def change(pictures: UInt8[np.ndarray, "pictures height width 3"],
           generator: torch.Generator) -> UInt8[np.ndarray, "pictures height width 3"]:
    """Each a little larger or smaller and shifted on white ground, half of them mirrored, some with other colours.

    Other colours are the three channels in another order: a white ground stays white, a grey stays what it is.
    """
    count = len(pictures)
    uniform = lambda low, high: torch.rand(count, generator=generator) * (high - low) + low
    zoom, mirror = uniform(0.9, 1.12), torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    right, down, drawn = uniform(-0.1, 0.1), uniform(-0.1, 0.1), uniform(0, 1)
    channels = torch.rand(count, 3, generator=generator).argsort(1)
    channels[drawn >= RECOLOURED] = torch.arange(3)
    chunks = []
    for rows in torch.arange(count).split(BATCH):
        images = normalise_pixels(torch.from_numpy(pictures[rows.numpy()]))
        moved = move(images, zoom[rows], torch.zeros(len(rows)), mirror[rows], right[rows], down[rows])
        moved = moved.gather(1, channels[rows, :, None, None].expand_as(moved)).clamp(-1, 1)
        chunks.append(((moved + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.concatenate(chunks)


def view_neighbours(index: Index, views: Views, k: int, left_out: list) -> np.ndarray:
    """knn_img(view, k) as ids (num_views, num_pictures, k); `left_out` is `Index.search`'s `exclude`, for a picture."""
    return np.stack([index.search(vectors.astype(np.float32), k, exclude=left_out).ids for vectors in views.vectors])
