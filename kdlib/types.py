"""What flows between the rooms of kdlib: embeddings, neighbours, generations."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"  # Hangul fillers and the empty Braille cell: drawn as nothing


def is_visible(text: str) -> bool:
    """Whether a text has a letter, digit or sign, beside white space, control, zero-width and unassigned characters."""
    return any(unicodedata.category(letter)[0] in "LNPS" and letter not in BLANK_LETTERS for letter in text)


@dataclass(frozen=True)
class Embeddings:
    """Unit vectors with stable ids, all made by one encoder.

    vectors     (num_pictures, dim) float16 or float32, often memory-mapped; rows have length 1
    ids         (num_pictures,) str; a picture is known by its id, never by its row
    encoder_id  identity (hash) of the encoder that made the vectors
    """

    vectors: np.ndarray
    ids: np.ndarray
    encoder_id: str

    def __post_init__(self):
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.ids):
            raise ValueError(f"embeddings of shape {self.vectors.shape} do not fit {len(self.ids)} ids")

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Neighbours:
    """The k nearest pictures of each query, best first (paper section 3, knn_img and knn_txt).

    ids      (batch, k) str
    scores   (batch, k) float32 cosine similarities, descending
    vectors  (batch, k, dim) float32 unit vectors of these pictures
    """

    ids: np.ndarray
    scores: np.ndarray
    vectors: np.ndarray


@dataclass(frozen=True)
class Neighbour:
    """One retrieved picture with what the reader must be told: whose it is and under which licence."""

    id: str
    score: float
    title: str
    style: str
    author: str
    licence: str
    image: Image.Image


@dataclass(frozen=True)
class Generation:
    """What a pipeline call returns: the pictures and what they were made from."""

    prompt: str
    images: list[Image.Image]
    neighbours: list[Neighbour]
    seed: int
    settings: dict = field(default_factory=dict)
