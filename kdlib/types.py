"""What flows between the rooms of kdlib: embeddings, neighbours, generations."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"  # Hangul fillers and the empty Braille cell: drawn as nothing


def check_prompt(prompt: str) -> None:
    """Raises ValueError unless the prompt is valid text with something visible in it."""
    if isinstance(prompt, str) and any(0xD800 <= ord(letter) <= 0xDFFF for letter in prompt):
        raise ValueError(f"the prompt {prompt!r} is not valid Unicode; is it in this terminal's encoding?")
    if not isinstance(prompt, str) or not is_visible(prompt):
        raise ValueError(f"the prompt is {prompt!r}; say in words what to draw, for example 'a red apple'")


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


MAX_IMAGES = 1000     # in one batch
MAX_GUIDANCE = 100.0  # logits stay finite, and what is drawn has long stopped changing


def check_request(k: int | None = None, num_images: int = 1, guidance_scale: float | None = None,
                  num_steps: int | None = None, seed: int = 0, num_candidates: int | None = None) -> None:
    """Raises ValueError naming the first value that no pipeline takes; None, where there is one, is its own setting."""
    least = num_images if isinstance(num_images, int) else 1
    for name, value, low, high in [("k", k, 1, None), ("num_images", num_images, 1, MAX_IMAGES),
                                   ("num_candidates", num_candidates, least, MAX_IMAGES),
                                   ("num_steps", num_steps, 1, None), ("seed", seed, 0, 2 ** 63 - 1)]:
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        own_setting = value is None and name not in ("num_images", "seed")
        if not own_setting and not (whole and low <= value and (high is None or value <= high)):
            upto = "" if high is None else f" and at most {high}"
            raise ValueError(f"{name} = {value!r} must be a whole number of at least {low}{upto}")
    number = isinstance(guidance_scale, int | float | np.number) and not isinstance(guidance_scale, bool)
    if guidance_scale is not None and not (number and abs(guidance_scale) <= MAX_GUIDANCE):
        raise ValueError(f"guidance_scale = {guidance_scale!r} must be a finite number from {-MAX_GUIDANCE:g} to "
                         f"{MAX_GUIDANCE:g}; 1 is no guidance")
