"""Attention checks: pairs whose answer is known, and which whoever looks at them can't miss."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"red": "#d62728", "blue": "#1f77b4", "green": "#2ca02c", "yellow": "#ffd400"}
SHAPES = {"circle": None, "square": [(0.15, 0.15), (0.85, 0.15), (0.85, 0.85), (0.15, 0.85)],
          "triangle": [(0.5, 0.12), (0.9, 0.85), (0.1, 0.85)],
          "cross": [(0.4, 0.1), (0.6, 0.1), (0.6, 0.4), (0.9, 0.4), (0.9, 0.6), (0.6, 0.6), (0.6, 0.9), (0.4, 0.9),
                    (0.4, 0.6), (0.1, 0.6), (0.1, 0.4), (0.4, 0.4)]}
NOISE_SHARE = 0.7  # of the pixels


class Check(NamedTuple):
    """A text, the picture that is right beyond doubt, and another one of its size."""

    text: str
    right: Image.Image
    wrong: Image.Image


def quality_check(picture: Image.Image, random: np.random.Generator) -> Check:
    """A picture against itself with seven of ten pixels of a random colour."""
    pixels = np.array(picture.convert("RGB"))
    lost = random.random(pixels.shape[:2]) < NOISE_SHARE
    pixels[lost] = random.integers(0, 256, (int(lost.sum()), 3))
    return Check("", picture, Image.fromarray(pixels))


def alignment_check(size_px: int, random: np.random.Generator) -> Check:
    """"a red circle", drawn so, against a shape that differs in both."""
    all_of_them = list(itertools.product(COLOURS, SHAPES))
    colour, shape = all_of_them[random.integers(len(all_of_them))]
    others = [other for other in all_of_them if other[0] != colour and other[1] != shape]
    return Check(f"a {colour} {shape}", draw_shape(colour, shape, size_px),
                 draw_shape(*others[random.integers(len(others))], size_px))


def draw_shape(colour: str, shape: str, size_px: int) -> Image.Image:
    """One of SHAPES in one of COLOURS on white, with smooth edges."""
    large = 4 * size_px
    image = Image.new("RGB", (large, large), "white")
    if SHAPES[shape] is None:
        ImageDraw.Draw(image).ellipse([0.12 * large, 0.12 * large, 0.88 * large, 0.88 * large], COLOURS[colour])
    else:
        ImageDraw.Draw(image).polygon([(x * large, y * large) for x, y in SHAPES[shape]], COLOURS[colour])
    return image.resize((size_px, size_px), Image.Resampling.LANCZOS)
