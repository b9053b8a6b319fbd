"""How fast do the explorer's sliders answer? From a move to the next frame, in ms, over 100 moves of each slider.

The page has untrained networks of the sizes in params.yaml and opens in headless Chromium.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from pipeline.params import MODELS, Model, load_params
from pipeline.sources.shapes import draw_shapes
from pipeline.storage.weights import Trained
from pipeline.tools.explorer import render_page
from pipeline.vae.distributions import DiagonalGaussian
from pipeline.vae.images import generator
from pipeline.vae.networks import architecture, build_vae
from pipeline.vae.priors import GaussianMixture

MOVES = 100
SLIDERS = ("rank", "share", "seed", "temperature", "amount")
MOVE = """
const [id, moves, done] = arguments, slider = document.getElementById(id), taken = [];
const frame = () => new Promise((next) => requestAnimationFrame(() => setTimeout(next)));
(async () => {
  for (let i = 0; i < moves; i++) {
    await frame();
    const began = performance.now();
    slider.value = Number(slider.min) + (slider.max - slider.min) * ((i * 0.618) % 1);
    slider.dispatchEvent(new InputEvent("input", { bubbles: true }));
    await frame();
    taken.push(performance.now() - began);
  }
  done(taken);
})();
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        page = Path(folder, "explore.html")
        page.write_text(render_page(untrained(), dict.fromkeys(MODELS, "untrained"), shapes(200)), encoding="utf-8")
        open_page(browser, page)
        browser.set_script_timeout(120)
        for slider in SLIDERS:
            taken = browser.execute_async_script(MOVE, slider, MOVES)
            print(json.dumps({"slider": slider, "median": statistics.median(taken), "most": max(taken)}), flush=True)


def untrained() -> dict[Model, Trained]:
    """Networks of the sizes in params.yaml, whose mixtures are fitted to random posteriors."""
    trained: dict[Model, Trained] = {}
    for model in MODELS:
        vae = build_vae(architecture(load_params(), model), seed=0).eval()
        vae.encoder[-1].weight.data *= 8  # type: ignore[index]  # means differ, as trained ones do
        assert isinstance(vae.prior, GaussianMixture)
        means, log_stds = torch.randn(2, 3000, vae.architecture.latent_dim, generator=generator(0, "posteriors"))
        vae.prior.refit([DiagonalGaussian(means, 0.1 * log_stds - 1)])
        trained[model] = Trained(model, vae, "shapes", "0" * 32, {"kl_weight": 1.0}, "0" * 32)
    return trained


def shapes(count: int) -> torch.Tensor:
    """uint8 [count, 3, 32, 32]."""
    return draw_shapes(count, generator(0, "explorer")).images


@contextlib.contextmanager
def chromium() -> Iterator[WebDriver]:
    """Headless Chromium, told to reach nothing but this machine; FileNotFoundError where there is none."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        how = "on Debian and Ubuntu type: apt-get install chromium chromium-driver"
        raise FileNotFoundError(f"found no Chromium with its driver; {how}")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1700,4000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def open_page(browser: WebDriver, page: Path) -> None:
    """Open the explorer's page, and wait until its models compute."""
    browser.get(page.as_uri())
    WebDriverWait(browser, 120).until(lambda _: browser.execute_script("return Boolean(window.vae)"))


if __name__ == "__main__":
    main()
