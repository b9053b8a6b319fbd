"""Does a person see in a browser what there is: the runs' comparison in MLflow, and the page of results from disk?"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from tests.fixtures import ROOT, Clone, serving

pytestmark = pytest.mark.slow

RUNS = ("fc kl=1", "conv kl=1")


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


def page_text(browser: WebDriver) -> str:
    return str(browser.execute_script("return document.body.innerText"))


def loaded_images(browser: WebDriver, kind: str) -> list[str]:
    """Addresses of the images of that kind that the page shows."""
    sources = browser.execute_script("return [...document.images].filter(i => i.naturalWidth > 1).map(i => i.src)")
    return [source for source in sources if re.search(rf"images(%2F|/){kind}\W", source)]
