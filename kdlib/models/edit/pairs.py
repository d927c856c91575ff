"""What an editor learns from: a picture of which some part is another picture's (paper section 3.1, Figs. 6 and 12).

From a picture I comes I_manip = I (1 - M) + nn M: in a random local area M it shows its nearest neighbour, aligned with
it. The editor sees I_manip and f_img(I M), and has to give I back. There is no text in this, and no mask: where the
change belongs is for the editor to find out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

Picture = UInt8[np.ndarray, "height width 3"]

MIN_CORRELATION = 0.5        # of a picture and its aligned neighbour; below, they don't lie on each other
MAX_ITERATIONS, EPSILON = 50, 1e-4
BLUR_PX = 3                  # Gaussian window of ECC, which climbs along gradients
AREA = (0.1, 0.6)            # of the drawing's own area, in M
SHAPES = ("box", "ellipse", "blob")
NUM_WAVES = 4                # of a blob's outline
MIN_DRAWING = 40             # pixels
GROUND = 250                 # a channel from here on counts as white


class Alignment(NamedTuple):
    """A neighbour laid on a picture, which of those offered, and the correlation of the two before and after that."""

    picture: UInt8[np.ndarray, "height width 3"]
    place: int
    before: float
    after: float


class Pair(NamedTuple):
    """One lesson: `manipulated` in, the original out, told by f_img of `local`.

    manipulated  I_manip       local  I M: white outside of M       area  M, (height, width) bool
    """

    manipulated: UInt8[np.ndarray, "height width 3"]
    local: UInt8[np.ndarray, "height width 3"]
    area: Bool[np.ndarray, "height width"]


# --- alignment -----------------------------------------------------------------------------------------------------

def align(neighbour: Picture, picture: Picture, place: int = 0) -> Alignment | None:
    """The neighbour moved onto the picture by ECC (Evangelidis and Psarakis, 2008), an affine map, on white ground.

    None where ECC doesn't converge, leaves them less alike than they were, or a correlation below MIN_CORRELATION.
    """
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, MAX_ITERATIONS, EPSILON)
    darkness = [255 - image for image in (picture, neighbour)]  # what lies outside of a picture is 0 for cv2: white
    try:
        _, warp = cv2.findTransformECC(*darkness, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, stop, None,
                                       BLUR_PX)
    except cv2.error:
        return None
    size = picture.shape[1::-1]
    moved = cv2.warpAffine(darkness[1], warp, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    before, after = correlation(*darkness), correlation(darkness[0], moved)
    return Alignment(255 - moved, place, before, after) if after >= max(before, MIN_CORRELATION) else None


def first_aligned(neighbours: Iterable[Picture], picture: Picture) -> Alignment | None:
    """The first of the neighbours, nearest first, that can be aligned; None where none can."""
    tried = (align(neighbour, picture, place) for place, neighbour in enumerate(neighbours))
    return next((aligned for aligned in tried if aligned), None)


def correlation(first: Picture, second: Picture) -> float:
    """Pearson's, over all pixels and channels; 0 where a picture is all of one colour."""
    first, second = (image.astype(np.float64).ravel() - image.mean() for image in (first, second))
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / lengths) if lengths > 0 else 0.0


# --- the local area ------------------------------------------------------------------------------------------------

def drawing_area(picture: Picture) -> Bool[np.ndarray, "height width"]:
    """What isn't ground: the ground is all that is white and reaches the edge. White inside of a drawing is of it."""
    white = (picture >= GROUND).all(-1)
    framed = np.pad(white.astype(np.uint8), 1, constant_values=1)
    parts = cv2.connectedComponents(framed, connectivity=4)[1]
    return ~(white & (parts[1:-1, 1:-1] == parts[0, 0]))


def local_area(picture: Picture, random: np.random.Generator) -> Bool[np.ndarray, "height width"]:
    """M: a box, an ellipse or a blob around a random place of the drawing, over a share of it drawn from AREA.

    Raises ValueError for a picture without a drawing, or with one too small for such a share.
    """
    drawing = drawing_area(picture)
    places = np.argwhere(drawing)
    if not len(places):
        raise ValueError("the picture is all white: there is no drawing of which a part could be changed")
    if len(places) < MIN_DRAWING:
        raise ValueError(f"the picture's drawing covers {len(places)} pixels, too few to change a part of it")
    centre = places[random.integers(len(places))] + random.uniform(-0.5, 0.5, 2)
    sizes = shape_sizes(picture.shape[:2], centre, random)
    levels, counts = np.unique(sizes[drawing], return_counts=True)
    shares = counts.cumsum() / len(places)
    possible = np.flatnonzero((shares >= AREA[0]) & (shares <= AREA[1]))
    if not len(possible):  # all of it lies at one distance from its middle, say
        raise ValueError(f"no {AREA[0]:.0%} to {AREA[1]:.0%} of the picture's drawing can be cut out by a shape")
    wanted = random.uniform(*AREA)
    return sizes <= levels[possible[np.abs(shares[possible] - wanted).argmin()]]


def shape_sizes(size: tuple[int, int], centre: Float[np.ndarray, " 2"],
                random: np.random.Generator) -> Float[np.ndarray, "height width"]:
    """How large a shape around `centre` (row, column) has to be to reach each pixel; which shape, chance decides."""
    down, right = np.indices(size) - centre[:, None, None]
    shape, stretch = SHAPES[random.integers(len(SHAPES))], np.exp(random.uniform(-0.5, 0.5))
    down, right = down * stretch, right / stretch
    if shape == "box":
        return np.maximum(np.abs(down), np.abs(right))
    radius = np.hypot(down, right)
    if shape == "ellipse":
        return radius
    turn, waves = np.arctan2(down, right), np.arange(1, NUM_WAVES + 1)[:, None, None]
    heights, phases = random.uniform(0, 0.4, NUM_WAVES) / waves.ravel(), random.uniform(0, 2 * np.pi, NUM_WAVES)
    outline = np.exp((heights[:, None, None] * np.sin(waves * turn + phases[:, None, None])).sum(0))
    return radius / outline


# --- pairs ---------------------------------------------------------------------------------------------------------

def make_pair(picture: Picture, aligned: Picture, random: np.random.Generator) -> Pair:
    """A picture with a random part of an aligned neighbour; raises as `local_area`."""
    area = local_area(picture, random)
    manipulated = np.where(area[..., None], aligned, picture)
    return Pair(manipulated, np.where(area[..., None], picture, np.uint8(255)), area)


def pair_generator(seed: int, id: str, number: int = 0) -> np.random.Generator:
    """The random numbers of a picture's pair: the same at every run, whatever other pictures there are."""
    digest = hashlib.sha256(f"{seed} {number} {id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
