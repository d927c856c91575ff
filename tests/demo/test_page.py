"""The demo's page in a browser, from typing to the picture; no request leaves this machine, nothing on the console."""

import base64
import http.client
import io
import re
import threading
import time

import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from kdlib.demo.command import HOST, free_socket
from kdlib.demo.page import draw_steps, take_folder
from kdlib.demo.server import make_server
from kdlib.retrieval import build_index
from tests.compendium.report.test_site_browser import browser, requests, tab_to  # noqa: F401
from tests.test_pipeline import make_pipe

# ruff: noqa: F811  (a fixture has the name of an argument)
WIDTHS = [1280, 400]


@pytest.fixture(scope="module")
def address():
    """Where the page of a tiny pipeline is served."""
    listening = free_socket(0)
    server = make_server(make_pipe(), "a toy")
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not server.started and time.monotonic() < until:
        time.sleep(0.05)
    yield f"{HOST}:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def opened(browser, address):
    """Opens the page at a width and waits until it is there."""
    def open_page(width_px, scheme="light"):
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width_px, "height": 900, "deviceScaleFactor": 1, "mobile": width_px < 500})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "features": [{"name": "prefers-color-scheme", "value": scheme}]})
        for log in ("browser", "performance"):
            browser.get_log(log)
        browser.get(f"http://{address}/")
        wait(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#kd-own > button"))
        return browser
    return open_page


def wait(browser, seen):
    return WebDriverWait(browser, 20, poll_frequency=0.02).until(lambda _: seen())


def field(browser, id):
    return wait(browser, lambda: browser.find_elements(By.CSS_SELECTOR, f"#{id} :is(textarea, input)"))[0]


def say(browser, id, text):
    box = field(browser, id)
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(text)
    return box


def done(browser):
    return browser.find_elements(By.CSS_SELECTOR, ".kd-drawing[data-t='0']")


def drawn(browser):
    """The pixels of the large picture."""
    told = browser.find_element(By.CSS_SELECTOR, ".kd-drawing img").get_attribute("src")
    return Image.open(io.BytesIO(base64.b64decode(told.partition(",")[2]))).tobytes()


@pytest.mark.parametrize("width_px", WIDTHS)
def test_from_typing_to_the_pipelines_own_picture(opened, width_px):
    browser = opened(width_px)
    say(browser, "kd-prompt", "something red" + Keys.ENTER)
    wait(browser, lambda: done(browser))
    assert drawn(browser) == make_pipe()("something red").images[0].tobytes()
    steps = [item.text for item in browser.find_elements(By.CSS_SELECTOR, ".kd-strip li")]
    assert steps == ["t = 20", "t = 16", "t = 12", "t = 8", "t = 4", "t = 0"]
    near = [item.text.split("\n") for item in browser.find_elements(By.CSS_SELECTOR, ".kd-near li")]
    assert near[0] == ["red apple", "a", "by author of a", "MIT", "cosine 1.00"] and len(near) == 3
    assert all(image.get_attribute("alt") for image in browser.find_elements(By.TAG_NAME, "img"))
    assert browser.execute_script("return document.scrollingElement.scrollWidth") <= width_px
    asked = requests(browser)
    assert len(asked) > 3 and not [url for url in asked if not re.match(rf"http://{HOST}:|data:|blob:", url)]
    assert not [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def test_the_settings_are_the_pipelines_arguments_and_one_gets_there_by_keyboard(opened):
    browser = opened(1280)
    browser.find_element(By.CSS_SELECTOR, "#kd-settings > button").click()
    for id, value in {"kd-k": "2", "kd-guidance": "1", "kd-steps": "7", "kd-seed": "5"}.items():
        say(browser, id, value + Keys.TAB)
    tab_to(browser, "#kd-draw").send_keys(Keys.ENTER)
    wait(browser, lambda: done(browser))
    out = make_pipe()("a red apple", k=2, guidance_scale=1.0, num_steps=7, seed=5)
    assert drawn(browser) == out.images[0].tobytes()
    assert len(browser.find_elements(By.CSS_SELECTOR, ".kd-near li")) == 2


def test_a_folder_becomes_the_database_and_its_bad_pictures_are_listed(opened, tmp_path):
    Image.new("RGB", (9, 9), "red").save(tmp_path / "rose.png")
    Image.new("RGB", (9, 9), "blue").save(tmp_path / "night.png")
    (tmp_path / "broken & torn.png").write_text("nothing")
    browser = opened(400)
    browser.find_element(By.CSS_SELECTOR, "#kd-own > button").click()
    say(browser, "kd-folder", str(tmp_path))
    browser.find_element(By.ID, "kd-use").click()
    told = wait(browser, lambda: browser.find_elements(By.CLASS_NAME, "kd-database"))[0]
    assert told.text == f"Drawing from 2 pictures of {tmp_path}."
    assert "broken & torn.png: no picture of a kind that is read" in browser.find_element(By.ID, "kd-told").text
    browser.find_element(By.ID, "kd-draw").click()
    wait(browser, lambda: done(browser))
    own = build_index(tmp_path, make_pipe().encoder)
    assert drawn(browser) == make_pipe()("a red apple", k=2, index=own).images[0].tobytes()
    near = browser.find_elements(By.CSS_SELECTOR, ".kd-near li")
    assert [item.text.split("\n")[0] for item in near] == ["rose", "night"] and "unknown" in near[0].text
    browser.find_element(By.ID, "kd-back").click()
    wait(browser, lambda: not browser.find_elements(By.CLASS_NAME, "kd-database"))


@pytest.mark.parametrize("id, text, said", [("kd-prompt", " ", "say in words what to draw"),
                                            ("kd-seed", "-3", "seed = -3"), ("kd-seed", "", "seed = None")])
def test_what_cannot_be_done_is_said_on_the_page(opened, id, text, said):
    browser = opened(1280)
    browser.find_element(By.CSS_SELECTOR, "#kd-settings > button").click()
    say(browser, id, text or Keys.BACKSPACE)
    browser.find_element(By.ID, "kd-draw").click()
    wait(browser, lambda: said in browser.find_element(By.TAG_NAME, "body").text)
    assert not done(browser)


def test_dark_mode_darkens_the_page(opened):
    shade = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    assert max(opened(400, "dark").execute_script(shade)) < 60 and min(opened(400).execute_script(shade)) > 200


# --- without a browser -----------------------------------------------------------------------------------------------

def get(address, **headers):
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("GET", "/", headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.getheader("content-security-policy"), answer.read().decode()


def test_the_page_may_load_nothing_from_elsewhere_and_names_no_font_or_script_there(address):
    status, policy, text = get(address)
    assert status == 200 and policy.startswith("default-src 'self'") and "http" not in policy
    assert not re.findall(r"""<(?:script|link|iframe|img)\b[^>]*(?:src|href)=["'](?:https?:)?//[^"']*""", text)
    assert "googleapis" not in text


def test_another_machines_name_for_this_one_is_turned_away(address):
    assert get(address, Host="evil.example")[0] == 400 and get(address, Host="localhost")[0] == 200


def test_a_drawing_comes_step_by_step_after_its_neighbours():
    shown = list(draw_steps(make_pipe(), "red", 2, 2, 4, 0, None))
    times = [re.findall(r'data-t="(\d+)"', drawing) for drawing, _ in shown]
    assert times == [[], ["20"], ["15"], ["10"], ["5"], ["0"]]
    assert len({cards for _, cards in shown}) == 1 and shown[0][1].count("<li>") == 2


def test_what_the_controls_refuse():
    pipe = make_pipe()
    for number in (None, 1.5):
        with pytest.raises(ValueError, match=f"num_steps = {number} must be a whole number"):
            list(draw_steps(pipe, "red", 2, 1.0, number, 0, None))
    for folder in ("", "  ", "/no/such"):
        with pytest.raises(ValueError, match="is no folder of pictures on this machine"):
            take_folder(pipe, folder)
