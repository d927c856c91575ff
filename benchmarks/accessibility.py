"""What axe-core finds wrong with a report's pages, for people who see or hear them differently; run by hand.

    npm install --ignore-scripts --prefix /tmp/axe axe-core@4.14.1
    python -m benchmarks.accessibility /tmp/axe/node_modules/axe-core/axe.min.js reports/cpu/site
    python -m benchmarks.accessibility /tmp/axe/node_modules/axe-core/axe.min.js http://127.0.0.1:7860/    (the demo's)

Prints each violation with its impact, and the pages and elements that have it; exit status 1 where one is serious or
critical. Needs Chromium with its driver, as the tests of the report do. It is no test, since tests download nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import time
from pathlib import Path

from selenium import webdriver

SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"  # axe.min.js of axe-core 4.14.1
PAGES = ["index", "paper", "explorer", "gaps", "11_conditioning", "06_generation"]
VIEWS = [(1280, "light"), (400, "dark")]  # width in px, colour scheme
BAD = ("serious", "critical")
SETTLED_S = 3  # a page that scripts draw takes a while
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
RUN = "const done = arguments[0]; axe.run().then(found => done(found.violations), error => done(String(error)))"


def read_axe(path: Path) -> str:
    """The script; raises ValueError where it is another than the one pinned here."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ValueError(f"{path} is not axe.min.js of axe-core 4.14.1 (its sha256 differs)")
    return content.decode()


def violations(browser: webdriver.Chrome, address: str, axe: str) -> list[dict]:
    """What axe finds on one page: dictionaries with id, impact, help and nodes."""
    browser.get(address)
    time.sleep(SETTLED_S if address.startswith("http") else 0)
    browser.execute_script(axe)
    found = browser.execute_async_script(RUN)
    if isinstance(found, str):
        raise RuntimeError(f"axe failed on {address}: {found}")
    return found


def open_browser() -> webdriver.Chrome:
    """Headless Chromium; raises FileNotFoundError where there is none."""
    paths = [shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")]
    if None in paths:
        raise FileNotFoundError("no Chromium with chromedriver here; on Debian: apt-get install chromium "
                                "chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for flag in FLAGS:
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(paths[1]))
    browser.set_script_timeout(300)
    return browser


def show(browser: webdriver.Chrome, width_px: int, scheme: str) -> None:
    """Sets the width and the colour scheme that pages see."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width_px, "height": 900, "deviceScaleFactor": 1, "mobile": width_px < 500})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "features": [{"name": "prefers-color-scheme", "value": scheme}]})


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accessibility", description=__doc__.partition("\n")[0])
    parser.add_argument("axe", type=Path, help="axe.min.js")
    parser.add_argument("site", help="a report's folder site, or an address")
    parser.add_argument("pages", nargs="*", default=PAGES, help=f"of a folder; default: {' '.join(PAGES)}")
    arguments = parser.parse_args()
    axe, site = read_axe(arguments.axe), arguments.site
    remote = site.startswith("http")
    addresses = [site] if remote else [(Path(site).resolve() / f"{page}.html").as_uri() for page in arguments.pages]
    browser, num_bad = open_browser(), 0
    try:
        for width_px, scheme in VIEWS:
            show(browser, width_px, scheme)
            for address in addresses:
                for found in violations(browser, address, axe):
                    num_bad += found["impact"] in BAD
                    where = "; ".join(str(node["target"][0]) for node in found["nodes"][:3])
                    print(f"{found['impact']}: {found['id']} ({found['help']}), {len(found['nodes'])} elements of "
                          f"{address.rpartition('/')[2] or address} at {width_px} px, {scheme}: {where}")
    finally:
        browser.quit()
    print(f"{len(addresses)} pages, each at {VIEWS}: {num_bad} serious or critical violations")
    return int(num_bad > 0)


if __name__ == "__main__":
    sys.exit(main())
