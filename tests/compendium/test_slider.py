"""The slider and the diagram: whole in themselves, readable in words, moved by keys alone."""

import base64
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from kdlib.compendium.diagram import beside, block_diagram
from kdlib.compendium.points import point_panels
from kdlib.compendium.slider import slider
from tests.compendium.report.test_site_browser import browser, press, requests, tab_to

__all__ = ["browser"]  # the fixture
IMAGES = [Image.new("RGB", (20, 10), colour) for colour in ("red", "green", "blue")]
CAPTIONS = ["t = 9 & more", "t = 5", "t = 0"]


def test_a_slider_holds_its_pictures_and_the_last_is_shown():
    text = slider(IMAGES, CAPTIONS, "step").data
    ET.fromstring(re.sub(r"<(img|input)([^>]*)>", r"<\1\2/>", text.replace(" hidden>", ' hidden="">')))
    shown = [Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB").getpixel((3, 3))
             for data in re.findall(r"base64,([^\"]+)", text)]
    assert shown == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]
    assert re.findall(r'<figure data-caption="([^"]*)"( hidden)?>', text) == [
        ("t = 9 &amp; more", " hidden"), ("t = 5", " hidden"), ("t = 0", "")]
    assert "http" not in text and "src=" in text and text == slider(IMAGES, CAPTIONS, "step").data


@pytest.mark.parametrize("images, captions", [([], []), (IMAGES, CAPTIONS[:2])])
def test_pictures_without_captions_are_refused(images, captions):
    with pytest.raises(ValueError, match=f"there are {len(images)} pictures and {len(captions)} captions"):
        slider(images, captions, "step")


def test_a_slider_is_moved_by_keys_and_two_on_a_page_do_not_meet(browser, tmp_path):
    page = tmp_path / "page.html"
    both = slider(IMAGES, CAPTIONS, "first").data + slider(IMAGES, CAPTIONS, "second").data
    page.write_text(f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>x</title><body>{both}</body></html>')
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(page.as_uri())
    one, other = browser.find_elements(By.CLASS_NAME, "kd-slider")
    seen = lambda group: [image.get_attribute("alt") for image in group.find_elements(By.TAG_NAME, "img")
                          if image.is_displayed()]
    control = tab_to(browser, ".kd-slider input")
    assert control.accessible_name == "first" and control.aria_role == "slider"
    press(browser, Keys.ARROW_LEFT)
    assert seen(one) == ["t = 5"] and seen(other) == ["t = 0"]
    press(browser, Keys.HOME)
    assert seen(one) == [CAPTIONS[0]] == [one.find_element(By.TAG_NAME, "output").text]
    assert control.get_attribute("aria-valuetext") == CAPTIONS[0]
    assert not [url for url in requests(browser) if not url.startswith(("file:", "data:"))]
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_the_diagram_says_its_shapes_in_letters_and_in_words():
    root = ET.fromstring(block_diagram(positions=64, width=192, hidden=384, tokens=11, context_dim=96))
    said = ["".join(text.itertext()) for text in root.iter("text")]
    for words in ("x  (b, 64, 192)", "(b, 11, 96)", "64 x 11 weights", "192 → 384 → 192", "9 times (b, 1, 192)"):
        assert words in said
    assert root.get("role") == "img" and "(b, 11, 96)" in root.get("aria-label")
    colours = {part.get(name) for part in root.iter() for name in ("fill", "stroke")}
    assert colours <= {None, "none", "currentColor"}, "the page's colour, so that it shows on a dark one"
    assert all(0 <= float(text.get("x")) <= 400 and 0 < float(text.get("y")) < 640 for text in root.iter("text"))


def test_code_beside_a_drawing_is_all_there_and_escaped():
    html = beside("def f(a):\n    return a < 3  # <b>", "<svg></svg>").data
    code = re.sub("<[^>]+>", "", re.search('<div class="highlight"><div>(.*)</div></div><svg>', html, re.S)[1])
    assert code.replace("&lt;", "<").replace("&gt;", ">").strip() == "def f(a):\n    return a < 3  # <b>"
    assert html.endswith("<svg></svg></div>")


def test_points_land_in_panels_of_their_own():
    corner = np.full((500, 2), 0.9)
    picture = point_panels({"one": corner, "two": -corner}, "two clouds", 1.0)
    page = np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB")).astype(int)
    blue = (page[..., 2] - page[..., 0]) > 60
    left, right = blue[:, :blue.shape[1] // 2], blue[:, blue.shape[1] // 2:]
    height = len(blue)
    assert np.argwhere(left)[:, 0].mean() < height / 2 < np.argwhere(right)[:, 0].mean()
    assert picture.alt == "two clouds"
