"""What the tests of all readers share: small pictures of one colour, and what was read."""

import io

import numpy as np
from PIL import Image

COLOURS = ["red", "lime", "blue", "yellow"]


def save_jpeg(path, colour, size=(16, 12)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, "JPEG", quality=95)


def jpeg(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 12), colour).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def looks(picture, colour):
    """Whether a picture is of that colour, up to JPEG's losses."""
    wanted = np.asarray(Image.new("RGB", (1, 1), colour), int)
    return picture.mode == "RGB" and np.abs(np.asarray(picture, int) - wanted).max() <= 4


def told(found):
    return [(one.id, one.caption, one.licence) for one in found]
