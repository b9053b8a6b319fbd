"""Does a person see in a browser what there is: the runs' comparison in MLflow, and the page of results from disk?"""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from tests.fixtures import ROOT, Clone, serving

pytestmark = pytest.mark.slow

RUNS = ("fc kl=1", "conv kl=1")
HOW = "found no Chromium with its driver; on Debian and Ubuntu type: apt-get install chromium chromium-driver"


@pytest.fixture
def browser() -> Iterator[WebDriver]:
    """Headless Chromium, told to reach nothing but this machine."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(HOW)
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1700,4000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    chromium = webdriver.Chrome(options=options, service=Service(driver))
    yield chromium
    chromium.quit()


def test_the_printed_address_compares_both_runs(reproduced: Clone, tmp_path: Path, browser: WebDriver) -> None:
    clone = reproduced.copy(tmp_path / "checkout")
    python = clone.folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    with serving(clone, "make", "ui", "READY=", "PORT={port}") as (printed, _):
        (address,) = re.findall(r"Compare FC and conv: (\S+)", printed)
        browser.get(address)
        wait = WebDriverWait(browser, 120)
        curves = [f"{run} (validation/elbo)" for run in RUNS]  # in the legend of the chart that they share
        wait.until(lambda _: all(text in page_text(browser) for text in (*curves, "test/elbo")))
        wait.until(lambda _: len(loaded_images(browser, "samples")) == len(RUNS))
        wait.until(lambda _: len(loaded_images(browser, "reconstructions")) == len(RUNS))
        sliders = browser.find_elements("css selector", "[role=slider]")
    assert len(sliders) >= 2  # of the epochs, one below each kind of image


def test_the_page_opens_from_disk_without_a_network(tmp_path: Path, browser: WebDriver) -> None:
    browser.get((ROOT / "reports/index.html").as_uri())
    images = browser.execute_script("return [...document.images].map(i => i.naturalWidth)")
    assert len(images) >= 4
    assert all(width > 1 for width in images)
    for chart in browser.find_elements("css selector", ".chart"):
        points = chart.find_elements("tag name", "circle")
        for point in (points[0], points[-1]):
            browser.execute_script("arguments[0].focus()", point)
            assert chart.find_element("tag name", "output").text == point.get_attribute("aria-label")
    assert browser.get_log("browser") == []  # type: ignore[attr-defined]


def test_the_explorer_answers_to_every_control(reproduced: Clone, tmp_path: Path, browser: WebDriver) -> None:
    clone = reproduced.copy(tmp_path / "checkout")
    wait = WebDriverWait(browser, 120)

    def shown() -> list[str]:
        return list(browser.execute_script("return [...document.images].map(image => image.src)"))

    def changes(act: Callable[[], object]) -> None:
        before = shown()
        act()
        wait.until(lambda _: len(set(shown()) - set(before)) >= len(RUNS))

    def slide(number: int) -> None:
        thumb = browser.find_elements("css selector", "input[type=range]")[number]
        browser.execute_script("arguments[0].focus()", thumb)
        ActionChains(browser).send_keys(Keys.END).perform()

    def upload(name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        browser.find_element("css selector", "input[type=file]").send_keys(str(tmp_path / name))

    image = io.BytesIO()
    Image.new("RGB", (50, 70), "red").save(image, "PNG")
    ready = ("You can now view",)
    with serving(clone, "python", "-m", "pipeline", "explore", "--port", "{port}", ready=ready) as (_, address):
        browser.get(address)
        wait.until(lambda _: len(shown()) == 10 and all(run in page_text(browser) for run in RUNS))
        tabs = browser.find_elements("css selector", "[role=tab]")
        changes(lambda: slide(0))
        tabs[1].click()
        changes(lambda: upload("mine.png", image.getvalue()))
        upload("broken.png", b"no image")
        wait.until(lambda _: "broken.png: is no image that can be read" in page_text(browser))
        tabs[2].click()
        changes(lambda: slide(1))
        tabs[3].click()
        changes(lambda: slide(2))
        log = browser.get_log("browser")  # type: ignore[attr-defined]
    assert [entry for entry in log if entry["level"] == "SEVERE"] == []


def page_text(browser: WebDriver) -> str:
    return str(browser.execute_script("return document.body.innerText"))


def loaded_images(browser: WebDriver, kind: str) -> list[str]:
    """Addresses of the images of that kind that the page shows."""
    sources = browser.execute_script("return [...document.images].filter(i => i.naturalWidth > 1).map(i => i.src)")
    return [source for source in sources if re.search(rf"images(%2F|/){kind}\W", source)]
