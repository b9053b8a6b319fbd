"""Does a person who types `make ui` and opens the address see both runs' pictures, curves and test metrics?"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from tests.conftest import Clone, serving

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
        wait.until(lambda _: len(loaded_pictures(browser, "samples")) == len(RUNS))
        wait.until(lambda _: len(loaded_pictures(browser, "reconstructions")) == len(RUNS))
        sliders = browser.find_elements("css selector", "[role=slider]")
    assert len(sliders) >= 2  # of the epochs, one below each kind of picture


def page_text(browser: WebDriver) -> str:
    return str(browser.execute_script("return document.body.innerText"))


def loaded_pictures(browser: WebDriver, kind: str) -> list[str]:
    """Addresses of the pictures of that kind that the page shows."""
    sources = browser.execute_script("return [...document.images].filter(i => i.naturalWidth > 1).map(i => i.src)")
    return [source for source in sources if re.search(rf"images(%2F|/){kind}\W", source)]
