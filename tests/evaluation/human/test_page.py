"""The ballot's page in a browser: filled in by keyboard and by touch, left and gone on with, and counted."""

import json
import time

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from kdlib.evaluation.human.ballot import QUESTIONS, make_ballot
from kdlib.evaluation.human.count import preference
from kdlib.evaluation.human.votes import read_votes
from kdlib.files import read_json, write_json
from tests.compendium.report.test_site_browser import LOCAL, browser, press, requests, tab_to  # noqa: F401
from tests.evaluation.human.test_ballot import PROMPTS, save_samples

# ruff: noqa: F811  (a fixture has the name of an argument)
ARROWS = {"left": Keys.ARROW_LEFT, "right": Keys.ARROW_RIGHT, "neither": Keys.ARROW_DOWN}
OTHER = {"left": "right", "right": "left"}
REFUSED = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError'); }})"


@pytest.fixture(scope="module")
def ballot(tmp_path_factory):
    """The folder of a ballot with three pairs and three checks in each pass."""
    root = tmp_path_factory.mktemp("ballot")
    ours, gan = (save_samples(root / name, name, PROMPTS[:3], size_px=64) for name in ("ours", "gan"))
    make_ballot(ours, {"gan": gan}, root / "out", num_pairs=3)
    return root / "out"


@pytest.fixture
def page(browser, ballot, tmp_path):
    """The page as a person gets it who has never opened it; what is saved lands in tmp_path."""
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    open_page(browser, ballot)
    browser.execute_script("localStorage.clear()")
    return open_page(browser, ballot)


def open_page(browser, ballot, width_px=1280):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width_px, "height": 800, "deviceScaleFactor": 1, "mobile": width_px < 500})
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get((ballot / "ballot.html").as_uri())
    return browser


def right_answers(ballot):
    """For each question the sides, in the order of the page, of someone who passes and always prefers ours."""
    return {question: [what.get("right", what.get("ours")) for what in told.values()]
            for question, told in read_json(ballot / "key.json")["questions"].items()}


def see(page, id):
    return page.find_element(By.ID, id)


def begin(page):
    """Past the welcome and the question, by keyboard."""
    for id in ("begin", "go"):
        tab_to(page, f"#{id}")
        press(page, Keys.ENTER)


def answered(page):
    return int(see(page, "place").text.split()[0])


def give(page, *answers):
    """Answers so many pairs by arrow keys, each after the pause in which a double click is ignored."""
    for answer in answers:
        before = answered(page)
        time.sleep(0.25)
        press(page, ARROWS[answer])
        assert answered(page) == before + 1


def saved(page, folder):
    """Presses the button; returns the file's path once it is whole."""
    before = set(folder.glob("votes-*.json"))
    see(page, "save").click()
    whole = lambda _: [path for path in set(folder.glob("votes-*.json")) - before if path.read_text().endswith("\n}")]
    return WebDriverWait(page, 20).until(whole)[0]


def test_a_whole_ballot_by_keyboard_is_counted_as_it_was_meant(page, ballot, tmp_path):
    begin(page)
    first, second = right_answers(ballot).values()
    assert see(page, "title").text == QUESTIONS["quality"] and not see(page, "text").is_displayed()
    give(page, *first)
    assert see(page, "intro-title").text == QUESTIONS["alignment"] and see(page, "intro").is_displayed()
    tab_to(page, "#go")
    press(page, Keys.ENTER)
    assert see(page, "text").text in {f"“{prompt}”" for prompt in PROMPTS[:3]}
    give(page, *second)
    assert see(page, "end").is_displayed() and see(page, "progress").get_property("value") == 12
    votes = read_json(saved(page, tmp_path))
    assert votes.keys() == {"kind", "ballot", "rater", "answers"} and len(votes["rater"]) == 32
    files = [tmp_path / f"{rater}.json" for rater in range(5)]
    for rater, path in enumerate(files):
        write_json(path, votes | {"rater": str(rater)})
    for question in QUESTIONS:
        found = preference(read_votes(files, ballot / "key.json"), question, "gan")
        assert found.majority.value == 1 and found.decided == 3 and found.votes == 15


def test_it_asks_for_nothing_and_complains_of_nothing(page):
    begin(page)
    give(page, "left")
    asked = requests(page)
    assert asked and not [url for url in asked if not url.startswith(LOCAL)]
    assert not [entry for entry in page.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert page.execute_script("return [...document.images].every(i => i.naturalWidth == 64)")


def test_it_could_ask_for_nothing(page):
    """Even a script in it: the page forbids itself every address."""
    refused = "const done = arguments[0]; fetch('http://127.0.0.1:9/').then(() => done('sent'), () => done('refused'));"
    assert page.execute_async_script(refused) == "refused"
    assert "Content Security Policy" in page.get_log("browser")[-1]["message"]


def test_closed_and_opened_again_it_goes_on(page, ballot):
    begin(page)
    give(page, "left", "neither")
    shown = see(page, "left").get_attribute("src")
    page.get("about:blank")
    open_page(page, ballot)
    assert see(page, "begin").text == "Go on"
    begin(page)
    assert answered(page) == 2 and see(page, "left").get_attribute("src") == shown


def test_where_the_browser_keeps_nothing_the_file_does(page, ballot, tmp_path):
    script = page.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": REFUSED})["identifier"]
    try:
        open_page(page, ballot)
        begin(page)
        assert "keeps nothing for this page" in see(page, "kept").text
        give(page, "left", "right", "neither")
        path = saved(page, tmp_path)
        first = read_json(path)
        assert list(first["answers"]["quality"].values()) == ["left", "right", "neither"]
        open_page(page, ballot)
        see(page, "load").send_keys(str(path))
        WebDriverWait(page, 20).until(lambda _: see(page, "intro").is_displayed())
        assert answered(page) == 3
        press(page, Keys.TAB, Keys.ENTER)
        give(page, "left")
        leave = "const e = new Event('beforeunload', {cancelable: true}); dispatchEvent(e); return e.defaultPrevented"
        assert page.execute_script(leave), "the browser asks whether to leave: an answer is not saved"
        path.unlink()
        second = read_json(saved(page, tmp_path))
        assert second["rater"] == first["rater"] and len(second["answers"]["quality"]) == 4
        assert not page.execute_script(leave)
    finally:
        page.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": script})


def test_back_shows_the_answer_and_takes_another(page, ballot, tmp_path):
    begin(page)
    assert not see(page, "back").is_enabled()
    give(page, "left", "left")
    press(page, Keys.ARROW_UP)
    pressed = page.find_elements(By.CSS_SELECTOR, "[aria-pressed=true]")
    assert [button.get_attribute("data-answer") for button in pressed] == ["left"]
    time.sleep(0.25)
    press(page, Keys.ARROW_RIGHT)
    assert answered(page) == 2
    assert list(read_json(saved(page, tmp_path))["answers"]["quality"].values()) == ["left", "right"]


def test_a_double_press_answers_one_pair(page):
    begin(page)
    time.sleep(0.25)
    ActionChains(page, duration=0).send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT).perform()
    assert answered(page) == 1


def test_by_touch_on_a_phone(page, ballot, tmp_path):
    open_page(page, ballot, width_px=400)
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        for css in ("#begin", "#go", *(f"[data-answer={side}]" for side in ("right", "neither", "left"))):
            tap(page, css)
            assert page.execute_script("return document.scrollingElement.scrollWidth") <= 400
            assert page.execute_script("return document.scrollingElement.scrollHeight") <= 800, "no scrolling either"
            time.sleep(0.25)
    finally:
        page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    assert list(read_json(saved(page, tmp_path))["answers"]["quality"].values()) == ["right", "neither", "left"]


def tap(page, css):
    """A finger on the middle of an element, which is large enough for one."""
    box = page.find_element(By.CSS_SELECTOR, css).rect
    assert box["height"] >= 44
    point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    for kind, points in (("touchStart", [point]), ("touchEnd", [])):
        page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


@pytest.mark.parametrize("content, message", [
    ("{", "That file holds no answers from this page."), ("[]", "That file holds no answers from this page."),
    ('{"kind": "votes", "rater": "x", "ballot": "y", "answers": {}}', "That file belongs to another ballot."),
    ('{"kind": "votes", "rater": "x", "ballot": "ID", "answers": {"quality": {"0001": "up"}, "alignment": {}}}',
     "That file is damaged."),
    ('{"kind": "votes", "rater": "x", "ballot": "ID", "answers": {"quality": {}}}', "That file is damaged.")])
def test_other_files_are_refused(page, ballot, tmp_path, content, message):
    (tmp_path / "x.json").write_text(content.replace("ID", read_json(ballot / "key.json")["id"]))
    see(page, "load").send_keys(str(tmp_path / "x.json"))
    WebDriverWait(page, 20).until(lambda _: see(page, "message").text.startswith(message))
    assert see(page, "welcome").is_displayed()


def test_another_person_begins_anew_and_files_do_not_mix(page, ballot, tmp_path):
    begin(page)
    give(page, "left")
    path = saved(page, tmp_path)
    see(page, "anew").click()
    page.switch_to.alert.accept()
    begin(page)
    assert answered(page) == 0
    give(page, "right")
    open_page(page, ballot)
    see(page, "load").send_keys(str(path))
    WebDriverWait(page, 20).until(lambda _: see(page, "message").text.startswith("This page already holds answers"))
    begin(page)
    assert read_json(saved(page, tmp_path))["rater"] != read_json(path)["rater"]
    assert answered(page) == 1


def test_two_windows_share_the_answers(page, ballot):
    begin(page)
    give(page, "left")
    first = page.current_window_handle
    page.switch_to.new_window("tab")
    second = page.current_window_handle
    try:
        open_page(page, ballot)
        begin(page)
        give(page, "right")
        page.switch_to.window(first)
        WebDriverWait(page, 20).until(lambda _: answered(page) == 2)
    finally:
        page.switch_to.window(second)
        page.close()
        page.switch_to.window(first)
    give(page, "left")
    kept = json.loads(page.execute_script("return Object.values(localStorage)[0]"))
    assert list(kept["answers"]["quality"].values()) == ["left", "right", "left"]
