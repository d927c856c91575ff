"""Views of the training pictures: moved, mirrored, recoloured, each with codes and an embedding of its own.

Of a few thousand pictures a generator that only sees them as they are soon learns each by heart. A picture in other
colours is another picture: f_img and the neighbours are found anew, so condition and codes still fit each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

from kdlib.data.augment import change
from kdlib.encoder import Encoder
from kdlib.files import Kind, atomic_folder, save_array
from kdlib.models.discrete.tokenizer import Tokenizer, encode_view
from kdlib.retrieval import Index
from kdlib.training.loop import step_generator

VIEWS = Kind("set of views", "", "", frozenset({"codes.npy", "vectors.npy"}))


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
        with atomic_folder(folder, VIEWS) as temporary:
            save_array(temporary / "codes.npy", self.codes)
            save_array(temporary / "vectors.npy", self.vectors)

    @classmethod
    def load(cls, folder: str | Path) -> Views:
        """Raises FileNotFoundError where a file is missing, ValueError where the two don't fit."""
        return cls(*(np.load(Path(folder) / f"{name}.npy", allow_pickle=False) for name in ("codes", "vectors")))


def view_pictures(pictures: UInt8[np.ndarray, "pictures height width 3"], num_changed: int,
                  seed: int) -> Iterator[np.ndarray]:
    """The views one after another, each (pictures, height, width, 3) uint8: plain, mirrored, and `num_changed` more."""
    yield pictures
    yield np.ascontiguousarray(pictures[:, :, ::-1])
    for number in range(num_changed):
        yield change(pictures, step_generator(seed, number))


def make_views(tokenizer: Tokenizer, encoder: Encoder, pictures: UInt8[np.ndarray, "pictures height width 3"],
               codes: Integer[np.ndarray, "2 pictures positions"], num_changed: int, seed: int) -> Views:
    """Two views, plain and mirrored, whose codes are given, and `num_changed` more by `change`."""
    all_codes, vectors = list(codes), []
    for number, view in enumerate(view_pictures(pictures, num_changed, seed)):
        if number >= len(codes):
            all_codes.append(encode_view(tokenizer, view))
        vectors.append(encoder.encode_images(view))
    return Views(np.stack(all_codes), np.stack(vectors).astype(np.float16))


def view_neighbours(index: Index, views: Views, k: int, left_out: list) -> np.ndarray:
    """knn_img(view, k) as ids (num_views, num_pictures, k); `left_out` is `Index.search`'s `exclude`, for a picture."""
    return np.stack([index.search(vectors.astype(np.float32), k, exclude=left_out).ids for vectors in views.vectors])
