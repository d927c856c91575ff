"""Views of the training pictures: moved, mirrored, recoloured, each with codes and an embedding of its own.

Of a few thousand pictures a generator that only sees them as they are soon learns each by heart. A picture in other
colours is another picture: f_img and the neighbours are found anew, so condition and codes still fit each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Float16, Int32, UInt8

from kdlib.data.augment import change
from kdlib.encoder import Encoder
from kdlib.files import Kind, atomic_folder, save_array
from kdlib.models.discrete.tokenizer import Tokenizer, encode_view_exactly
from kdlib.retrieval import Index
from kdlib.training.loop import step_generator

VIEWS = Kind("set of views", "", "", frozenset({"codes.npy", "vectors.npy"}))


@dataclass(frozen=True)
class Views:
    """Equally good views of the same pictures, in the same order; the first two are plain and mirrored.

    codes    (num_views, num_pictures, positions) integers: the tokenizer's E
    vectors  (num_views, num_pictures, dim) float16 unit vectors: f_img, or what a generator is told instead
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
               num_changed: int, seed: int) -> Views:
    """Two views, plain and mirrored, and `num_changed` more by `change`; the same bytes on every processor."""
    codes, vectors = [], []
    for view in view_pictures(pictures, num_changed, seed):
        codes.append(encode_view_exactly(tokenizer, view))
        vectors.append(encoder.encode_images_exactly(view))
    return Views(np.stack(codes), np.stack(vectors))


def with_style_lessons(views: Views, styles: Sequence[str] | np.ndarray) -> Views:
    """The views, and all of them a second time as lessons in following a style: with queries that don't tell it.

    styles  (num_pictures,) the set that each picture is of; no text is needed for that

    A picture's embedding tells its style, so a generator that has it needs no neighbours to know in which hand to draw.
    A text's tells none. In the second half the query is therefore `without_style`, and `lesson_neighbours` finds its
    neighbours among pictures of its own style alone: what they have in common is what to draw.
    """
    queries = without_style(views.vectors.astype(np.float32), styles).astype(np.float16)
    return Views(np.concatenate([views.codes, views.codes]), np.concatenate([views.vectors, queries]))


def without_style(vectors: Float[np.ndarray, "views pictures dim"],
                  styles: Sequence[str] | np.ndarray) -> Float[np.ndarray, "views pictures dim"]:
    """Unit vectors, each moved by what the mean of its style differs from the mean of all."""
    styles, moved = np.asarray(styles), vectors + vectors.mean((0, 1))
    for style in np.unique(styles):
        moved[:, styles == style] -= vectors[:, styles == style].mean((0, 1))
    return moved / np.linalg.norm(moved, axis=-1, keepdims=True)


def lesson_neighbours(index: Index, lessons: Views, k: int, left_out: list,
                      styles: Sequence[str] | np.ndarray) -> Int32[np.ndarray, "views pictures k"]:
    """Neighbours of what `with_style_lessons` made: of the first half among all, of the second in each one's style."""
    plain, style = np.split(lessons.vectors, 2)
    return np.concatenate([view_neighbours(index, plain, k, left_out),
                           style_neighbours(index, style, k, left_out, styles)])


def choose_lessons(lessons: str, views: Views, neighbours: Int32[np.ndarray, "views pictures k"]
                   ) -> tuple[Views, Int32[np.ndarray, "shown pictures k"]]:
    """What a generator is shown, of what `with_style_lessons` and `lesson_neighbours` made.

    "plain"   the views with their own queries and neighbours of all styles: the paper's training
    "style"   these, and as often the lessons in following a style

    Raises ValueError for others.
    """
    if lessons not in ("plain", "style"):
        raise ValueError(f"lessons = {lessons!r} must be plain or style")
    shown = len(neighbours) // 2 if lessons == "plain" else len(neighbours)
    return Views(views.codes[:shown], views.vectors[:shown]), neighbours[:shown]


def view_neighbours(index: Index, queries: Float16[np.ndarray, "views pictures dim"], k: int,
                    left_out: list) -> Int32[np.ndarray, "views pictures k"]:
    """knn_img(view, k) as rows of the index; `left_out` is `Index.search`'s `exclude`, for each picture."""
    rows = pd.Index(index.ids)
    found = [index.search(vectors.astype(np.float32), k, exclude=left_out).ids for vectors in queries]
    return np.stack([rows.get_indexer(ids.ravel()).reshape(ids.shape) for ids in found]).astype(np.int32)


def style_neighbours(index: Index, queries: Float16[np.ndarray, "views pictures dim"], k: int, left_out: list,
                     styles: Sequence[str] | np.ndarray) -> Int32[np.ndarray, "views pictures k"]:
    """The same among the pictures of each picture's own style; `styles` are those of the index's rows."""
    styles, neighbours = np.asarray(styles), np.empty((*queries.shape[:2], k), np.int32)
    for style in np.unique(styles):
        mine = styles == style
        own = [left_out[row] for row in np.flatnonzero(mine)]
        neighbours[:, mine] = view_neighbours(index.where(mine), queries[:, mine], k, own)
    return neighbours
