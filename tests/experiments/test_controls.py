"""The tour's form: what it hands to the pipeline, and what it says of what the pipeline refuses."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from kdlib.experiments.controls import controls, neighbours_and_drawing
from kdlib.pipeline import Pipeline
from kdlib.retrieval import Index
from kdlib.types import Generation, Neighbour

FIRST, SECOND = object.__new__(Index), object.__new__(Index)  # nothing looks into them


class Painter(Pipeline):
    """Paints what it was asked: red for its first database, blue for another."""

    def __init__(self):
        self.asked = []

    def __call__(self, prompt, k, num_images, index, guidance_scale, num_steps, seed):
        self.asked.append((prompt, k, index, guidance_scale, num_steps, seed))
        if not prompt:
            raise ValueError("the prompt is ''; say <what> to draw")
        colour = Image.new("RGB", (8, 8), "red" if index is FIRST else "blue")
        near = Neighbour("id", 0.5, "a <fruit>", "s", "a", "l", colour)
        return Generation(prompt, [colour] * num_images, [near] * k, seed, {"guidance_scale": guidance_scale})


@pytest.fixture
def painter():
    return Painter()


def test_two_rows_the_nearest_ten_and_four_drawn(painter):
    picture = neighbours_and_drawing(painter, "a pear", 12, FIRST, 3.0, 5, 7)
    page = np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB"))
    assert page.shape == (2 * 68, 70 + 10 * 68, 3)
    red = (page == (255, 0, 0)).all(-1)
    assert red[:64].sum() == 10 * 64 ** 2 and red[68:132].sum() == 4 * 64 ** 2
    assert "four pictures drawn for “a pear” with guidance 3" in picture.alt


def test_the_button_draws_with_what_the_form_says(painter):
    form = controls(painter, {"own": FIRST, "other": SECOND}, "a pear", 3, 2.0, num_steps=5, seed=7)
    prompt, k, index, guidance, draw, result = form.children
    assert not painter.asked and result.value == ""
    draw.click()
    prompt.value, k.value, index.value, guidance.value = "a plum", 1, "other", 8.0
    draw.click()
    assert painter.asked == [("a pear", 3, FIRST, 2.0, 5, 7), ("a plum", 1, SECOND, 8.0, 5, 7)]
    alt, data = re.fullmatch(r'<img alt="(.*?)" src="data:image/png;base64,(.*)">', result.value).groups()
    assert "a &lt;fruit&gt;" in alt and "a plum" in alt
    page = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    assert (page == (0, 0, 255)).all(-1).sum() == 5 * 64 ** 2 and not draw.disabled


def test_what_the_pipeline_refuses_is_said_in_the_form(painter):
    form = controls(painter, {"own": FIRST}, "", 3, 2.0, num_steps=5)
    form.children[4].click()
    assert form.children[5].value == "<p role=alert>the prompt is &#x27;&#x27;; say &lt;what&gt; to draw</p>"
    assert not form.children[4].disabled
