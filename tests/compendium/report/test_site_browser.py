"""The report in a browser: opened from disk it stays there, says nothing on the console, works by keyboard, on a phone.

Skipped where there is no Chromium with its driver; KD_NEED_BROWSER=1, as in continuous integration, makes that a
failure.
"""

import json
import os
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

PAGES = ["index", "explorer", "10_variant-blue", "gaps", "researchers", "scale", "search"]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
         "--disable-sync", "--disable-quic", "--disable-background-networking", "--disable-component-update"]
# How many px of the box that holds a table (arguments[0]) lie outside of the text's column; 1 where none holds it.
OUTSIDE = """
const box = arguments[0].closest('.kd-table[tabindex="0"], .pst-scrollable-table-container');
if (!box || getComputedStyle(box).overflowX !== 'auto') return 1;
const column = document.querySelector('.bd-article');
const right = column.getBoundingClientRect().right - parseFloat(getComputedStyle(column).paddingRight);
return Math.max(0, Math.floor(box.getBoundingClientRect().right - right - 1));"""
LOCAL = ("file:", "data:", "blob:", "about:")


@pytest.fixture(scope="module")
def browser():
    if not (CHROMIUM and DRIVER):
        refuse = pytest.fail if os.environ.get("KD_NEED_BROWSER") else pytest.skip
        refuse("no Chromium with chromedriver here; on Debian: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in FLAGS:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, built):
    """Opens a page of the toy site at a width, in the dark or not, with empty logs before."""
    def open_page(page, width_px=1280, scheme="light"):
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width_px, "height": 800, "deviceScaleFactor": 1, "mobile": width_px < 500})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "features": [{"name": "prefers-color-scheme", "value": scheme}]})
        for log in ("browser", "performance"):
            browser.get_log(log)
        browser.get(f"{(built.parent / 'site').as_uri()}/{page}")
        return browser
    return open_page


def requests(browser):
    """Addresses that the page asked for since its log was read last."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def shown(browser):
    return [item.get_attribute("data-prompt") for item in browser.find_elements(By.CLASS_NAME, "kd-sample")
            if item.is_displayed()]


def press(browser, *keys):
    ActionChains(browser).send_keys(*keys).perform()


def tab_to(browser, css, limit=100):
    """Presses Tab until the element has the focus; returns it."""
    wanted = browser.find_element(By.CSS_SELECTOR, css)
    for _ in range(limit):
        press(browser, Keys.TAB)
        if browser.switch_to.active_element == wanted:
            return wanted
    raise AssertionError(f"{limit} times Tab did not reach {css}")


@pytest.mark.parametrize("page", PAGES)
def test_pages_stay_on_this_machine_and_raise_no_error(opened, page):
    browser = opened(f"{page}.html")
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true);"
                           "document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    WebDriverWait(browser, 20).until(lambda b: b.execute_script(
        "return document.readyState == 'complete' && [...document.images].every(i => i.complete)"))
    assert browser.execute_script("return [...document.images].every(i => i.naturalWidth > 0)"), "a picture is missing"
    asked = requests(browser)
    assert len(asked) > 3 and not [url for url in asked if not url.startswith(LOCAL)]
    assert not [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def test_the_log_of_requests_would_show_one_that_leaves(opened):
    browser = opened("index.html")
    browser.execute_script("new Image().src = 'http://127.0.0.1:9/leaves.png'")
    WebDriverWait(browser, 20).until(lambda b: any("leaves.png" in url for url in requests(b)))


@pytest.mark.parametrize("page", PAGES)
def test_nothing_scrolls_sideways_on_a_phone(opened, page):
    browser = opened(f"{page}.html", width_px=400)
    assert browser.execute_script("return document.scrollingElement.scrollWidth") <= 400


def test_the_filter_leaves_the_prompts_that_match(opened):
    browser = opened("explorer.html")
    box, status = (browser.find_element(By.CSS_SELECTOR, css) for css in ("#kd-prompt", "#kd-filter [role=status]"))
    assert shown(browser) == ["an <apple>", "a blue bird"] and status.text == "2 of 2 prompts"
    box.send_keys("BIRD blue")
    assert shown(browser) == ["a blue bird"] and status.text == "1 of 2 prompts"
    box.send_keys(" green")
    assert shown(browser) == [] and status.text == "0 of 2 prompts"
    browser.find_element(By.CSS_SELECTOR, "#kd-filter button").click()
    WebDriverWait(browser, 20).until(lambda b: len(shown(b)) == 2)


def test_the_explorer_works_by_keyboard(opened):
    browser = opened("explorer.html")
    box = tab_to(browser, "#kd-prompt")
    assert box.value_of_css_property("outline-style") == "solid", "one sees where the focus is"
    press(browser, "apple", Keys.ENTER)
    assert browser.current_url.endswith("explorer.html") and shown(browser) == ["an <apple>"]
    summary = tab_to(browser, ".kd-sample:not([hidden]) summary")
    assert summary.value_of_css_property("outline-style") == "solid"
    press(browser, Keys.ENTER)
    assert "Goo & Co" in browser.find_element(By.CSS_SELECTOR, ".kd-sample details li").text


def test_prompts_are_sorted_by_name_and_by_their_nearest_neighbour(opened):
    browser = opened("explorer.html")
    order = Select(browser.find_element(By.ID, "kd-sort"))
    for value, first in (("prompt", "a blue bird"), ("-score", "an <apple>"), ("score", "a blue bird"),
                         ("number", "an <apple>")):
        order.select_by_value(value)
        assert shown(browser)[0] == first and len(shown(browser)) == 2, value


def test_pictures_are_enlarged_and_put_away_by_keyboard(opened):
    browser = opened("explorer.html", width_px=400)
    small = browser.find_element(By.CSS_SELECTOR, ".kd-sample .kd-made img").size["width"]
    button = tab_to(browser, ".kd-zoom")
    assert button.accessible_name == "Larger: an <apple>" and button.value_of_css_property("outline-style") == "solid"
    press(browser, Keys.ENTER)
    dialog = browser.find_element(By.ID, "kd-large")
    assert dialog.is_displayed() and dialog.find_element(By.TAG_NAME, "h2").text == "an <apple>"
    assert dialog.find_element(By.CSS_SELECTOR, ".kd-made img").size["width"] > 2 * small
    assert browser.execute_script("return document.scrollingElement.scrollWidth") <= 400
    press(browser, Keys.ESCAPE)
    assert not dialog.is_displayed() and browser.switch_to.active_element == button


@pytest.mark.parametrize("width_px", [1280, 400])
def test_no_table_leaves_its_column_and_no_line_of_code_is_cut(opened, width_px):
    """A table of twelve long names and an unbroken line of code stand in the toy's notebooks."""
    browser = opened("10_variant-blue.html", width_px=width_px)
    tables = browser.find_elements(By.CSS_SELECTOR, ".bd-article table")
    assert len(tables) > 1
    for number, table in enumerate(tables):
        left = browser.execute_script(OUTSIDE, table)
        assert not left, f"table {number} ends {left} px outside of its column, or can't be scrolled by keyboard"
    wide = [table for table in tables if browser.execute_script(
        "return arguments[0].scrollWidth > arguments[0].closest('.kd-table, .pst-scrollable-table-container')"
        ".clientWidth", table)]
    assert not wide or width_px == 400, "on a wide screen nothing has to be scrolled"
    for code in browser.find_elements(By.CSS_SELECTOR, ".bd-article pre"):
        assert browser.execute_script("return arguments[0].scrollWidth <= arguments[0].clientWidth", code)


def test_figures_stand_on_a_light_card_in_the_dark(opened):
    image = opened("10_variant-blue.html", scheme="dark").find_element(By.CSS_SELECTOR, ".cell_output img")
    assert image.value_of_css_property("background-color") in ("rgb(255, 255, 255)", "rgba(255, 255, 255, 1)")
    assert image.value_of_css_property("filter") == "none"


def test_dark_mode_darkens_the_page_and_what_stands_under_a_figure(opened):
    shade = "return getComputedStyle(arguments[0]).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    for scheme, fits in (("light", lambda rgb: min(rgb) > 200), ("dark", lambda rgb: max(rgb) < 60)):
        browser = opened("10_variant-blue.html", scheme=scheme)
        assert fits(browser.execute_script(shade, browser.find_element(By.TAG_NAME, "body")))
        under = browser.find_element(By.XPATH, "//div[@class='kd-footer']/ancestor::div[contains(@class, 'text_html')]")
        assert under.value_of_css_property("background-color") == "rgba(0, 0, 0, 0)"


def test_search_finds_words_without_a_server(opened):
    browser = opened("search.html?q=researchers")
    found = WebDriverWait(browser, 20).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#search-results li a"))
    assert "researchers.html" in found[0].get_attribute("href")
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
