"""Does the explorer's page, in a browser, compute what PyTorch does, and answer to every control?"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from bench.explorer import open_page, shapes, untrained
from pipeline.metrics.paths import spherical
from pipeline.params import MODELS
from pipeline.tools.explorer import render_page
from pipeline.vae.images import generator, to_float
from pipeline.vae.objective import rate_per_dimension
from tests.fixtures import ROOT, Clone, made_once

pytestmark = pytest.mark.slow

TOLERANCE = 3 / 255  # of pixels, for weights of 8 bits
IMAGES = """return [...document.querySelectorAll(`#${arguments[0]} .${arguments[1]} canvas`)].map(c => c.toDataURL())"""
HAND_OVER = """
const bytes = Uint8Array.from(arguments[2]), data = new DataTransfer();
data.items.add(new File([bytes], arguments[1]));
document.dispatchEvent(arguments[0] === "drop"
  ? new DragEvent("drop", { dataTransfer: data }) : new ClipboardEvent("paste", { clipboardData: data }));
"""


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of untrained networks of the usual sizes, with images."""

    def make(parent: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            text = render_page(untrained(), {"fc": "fc kl=1, run 1234", "conv": "conv kl=1, run 5678"}, shapes(200))
        (parent / "explore.html").write_text(text, encoding="utf-8")

    return made_once(tmp_path_factory, "explorer", make) / "explore.html"


@pytest.fixture
def opened(page: Path, browser: WebDriver) -> WebDriver:
    open_page(browser, page)
    return browser


def computed(browser: WebDriver, script: str, *arguments: Any) -> torch.Tensor:
    """What JavaScript gives for numbers, as a tensor."""
    return torch.tensor(browser.execute_script(script, *arguments))


@torch.no_grad()
def test_pixels_and_posteriors_are_pytorchs(opened: WebDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    latents, images = torch.randn(64, 128, generator=generator(0, "latents")), to_float(shapes(16))
    for model, trained in untrained().items():
        vae = trained.vae
        decode = "return arguments[1].map(z => [...window.vae[arguments[0]].decode(Float32Array.from(z))])"
        decoded = computed(opened, decode, model, latents.tolist()).view(-1, 3, 32, 32)
        off = (decoded - vae.decode(latents).mean).abs().max()
        assert off <= TOLERANCE
        encode = """return arguments[1].map(x => {
            const vae = window.vae[arguments[0]], posterior = vae.encode(Float32Array.from(x));
            return [...posterior.mean, ...posterior.logStd, ...vae.rates(posterior), ...vae.decode(posterior.mean)];
        })"""
        found = computed(opened, encode, model, images.flatten(1).tolist())
        mean, log_std, rates, rebuilt = found.split([128, 128, 128, 3072], dim=1)
        posterior = vae.encode(images)
        rebuilt_off = (rebuilt.view_as(images) - vae.decode(posterior.mean).mean).abs().max()
        print(f"{model}: pixels of latents within {255 * off:.2f}/255, of images within {255 * rebuilt_off:.2f}/255")
        assert rebuilt_off <= TOLERANCE
        torch.testing.assert_close(mean, posterior.mean, atol=0.1, rtol=0)
        torch.testing.assert_close(log_std, posterior.log_std, atol=0.1, rtol=0)
        torch.testing.assert_close(rates, rate_per_dimension(posterior, vae.prior), atol=0.1, rtol=0.02)


@torch.no_grad()
def test_draws_and_arcs_are_pytorchs(opened: WebDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    noise, shares = torch.randn(20, 128, generator=generator(0, "noise")), torch.linspace(0, 0.999, 20)
    for model, trained in untrained().items():
        sample = "return arguments[1].map((z, i) => [...window.vae[arguments[0]].sample(z, arguments[2][i])])"
        drawn = computed(opened, sample, model, noise.tolist(), shares.tolist())
        assert (drawn - trained.vae.prior.sample(noise, shares)).std() < 0.03  # of draws with a deviation of about 1
    arc = "return [0, 0.25, 0.5, 0.75, 1].map(share => PATHS.arc(arguments[0], arguments[1], share))"
    expected = spherical(noise[:1], noise[1:2], 5)[0]
    torch.testing.assert_close(computed(opened, arc, *noise[:2].tolist()), expected, atol=1e-5, rtol=1e-4)
    normals = computed(opened, "const random = uniform(3); return Array.from({length: 100}, () => [...normal(random)])")
    assert abs(normals.mean()) < 4 / 12800**0.5
    assert abs(normals.std() - 1) < 4 / (2 * 12800) ** 0.5


def set_value(browser: WebDriver, selector: str, value: object) -> None:
    """As if a user had moved or chosen it."""
    browser.execute_script(
        """const control = document.querySelector(arguments[0]);
        if (control.type === "radio") control.checked = true; else control.value = arguments[1];
        control.dispatchEvent(new InputEvent("input", { bubbles: true }));""",
        selector,
        value,
    )


def changes(browser: WebDriver, section: str, act: Callable[[], object]) -> None:
    """Assert that another image than before is the first one of each model in a section."""
    differs(browser, lambda: [browser.execute_script(IMAGES, section, model)[0] for model in MODELS], act)


def paints(browser: WebDriver, act: Callable[[], object]) -> None:
    """Assert that the image and the numbers of both models change; untrained, they need not show it in their images."""
    numbers = "return [document.getElementById('editor').toDataURL(), String(vae.fc.rate), String(vae.conv.rate)]"
    differs(browser, lambda: browser.execute_script(numbers), act)


def differs(browser: WebDriver, found: Callable[[], list[str]], act: Callable[[], object]) -> None:
    before = found()
    act()
    WebDriverWait(browser, 30).until(lambda _: all(old != new for old, new in zip(before, found(), strict=True)))


def test_every_control_changes_the_images_of_both(opened: WebDriver) -> None:
    def click(selector: str) -> Callable[[], None]:
        return opened.find_element("css selector", selector).click

    def text(selector: str) -> str:
        return str(opened.execute_script("return document.querySelector(arguments[0]).textContent", selector))

    for section, control, value in [
        ("encode", "[name=image][value='7']", ""),
        ("between", "[name=from][value='3']", ""),
        ("between", "[name=to][value='4']", ""),
        ("between", "#share", 0.9),
        ("between", "[name=path][value=arc]", ""),
        ("samples", "#seed", 7),
        ("samples", "#temperature", 1.7),
        ("samples", "[name=prior][value=normal]", ""),
        ("walk", "#amount", 2),
        *(("walk", "#direction", option) for option in ("1", "2", "3", "4", "5", "ones")),
    ]:
        told = text(f"#{section} output")
        changes(opened, section, partial(set_value, opened, control, value))
        assert text(f"#{section} output") != told
        assert opened.find_element("css selector", f"#{section} output").is_displayed()
    for button in ("#draw", "#still", "#fill", "#restore"):
        changes(opened, "encode", click(button))
    for size, color in (("1", "#00ff00"), ("6", "#0000ff")):
        set_value(opened, "#size", size)
        set_value(opened, "#color", color)
        editor = opened.find_element("id", "editor")
        stroke = ActionChains(opened).move_to_element(editor).click_and_hold().move_by_offset(40, 10).release()
        paints(opened, stroke.perform)
    told = text("#dimension")
    set_value(opened, "#rank", 128)
    assert text("#dimension") != told
    assert "standard deviation" in text("#dimension")
    chart = opened.find_element("css selector", ".chart")
    ActionChains(opened).move_to_element(chart).perform()
    assert 50 < int(opened.find_element("id", "rank").get_attribute("value") or 0) < 80


def test_the_strips_show_the_whole_path(opened: WebDriver) -> None:
    def strips() -> list[list[str]]:
        return [opened.execute_script(IMAGES, part, model)[1:] for part in ("between", "walk") for model in MODELS]

    WebDriverWait(opened, 30).until(lambda _: all(len(set(strip)) == 7 for strip in strips()))


def test_it_can_be_used_by_keyboard_alone(opened: WebDriver) -> None:
    def press(*keys: str) -> None:
        ActionChains(opened).send_keys(*keys).perform()

    reached = []
    for _ in range(60):
        press(Keys.TAB)
        focused = opened.switch_to.active_element
        reached.append(focused.get_attribute("id") or focused.get_attribute("name"))
    expected = ["editor", "color", "size", "fill", "restore", "file", "draw", "still", "image", "rank", "from", "to"]
    expected += ["path", "share", "prior", "seed", "temperature", "direction", "amount"]
    assert [name for name in dict.fromkeys(reached) if name in expected] == expected
    for section, control, key in [
        ("encode", "draw", Keys.ENTER), ("samples", "seed", Keys.ARROW_RIGHT),
        ("between", "share", Keys.END), ("walk", "amount", Keys.PAGE_DOWN),
    ]:  # fmt: skip
        opened.execute_script("document.getElementById(arguments[0]).focus()", control)
        changes(opened, section, partial(press, key))
    opened.execute_script("document.querySelector('[name=image]:checked').focus()")
    changes(opened, "encode", lambda: press(Keys.ARROW_RIGHT))
    opened.execute_script("document.getElementById('editor').focus()")
    paints(opened, lambda: press(Keys.SPACE))
    paints(opened, lambda: press(*[Keys.ARROW_LEFT] * 9, *[Keys.ARROW_UP] * 9, Keys.SPACE))


def test_own_images_are_dropped_pasted_or_opened_and_a_broken_one_is_a_line(opened: WebDriver, tmp_path: Path) -> None:
    def encoded(color: str) -> bytes:
        image = io.BytesIO()
        Image.new("RGB", (50, 70), color).save(image, "PNG")
        return image.getvalue()

    def pick(name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        opened.find_element("id", "file").send_keys(str(tmp_path / name))

    def error() -> str:
        return opened.find_element("id", "error").text

    def give(kind: str, name: str, content: bytes) -> None:
        opened.execute_script(HAND_OVER, kind, name, list(content))

    count = len(opened.find_elements("css selector", "[name=from]"))
    changes(opened, "encode", lambda: give("drop", "red.png", encoded("red")))
    changes(opened, "encode", lambda: give("paste", "blue.png", encoded("blue")))
    changes(opened, "encode", lambda: pick("lime.png", encoded("lime")))
    assert len(opened.find_elements("css selector", "[name=from]")) == count + 3
    center = "return [0, 1, 2].map(c => shelf[chosen('image')].image[1024 * c + 528])"
    assert opened.execute_script(center) == [0, 1, 0]
    for act in (partial(pick, "broken.png", b"no image"), partial(give, "drop", "broken.png", b"no image")):
        act()
        WebDriverWait(opened, 30).until(lambda _: error() == "broken.png: is no image that can be read")
        assert opened.execute_script(center) == [0, 1, 0]
        changes(opened, "encode", lambda: give("drop", "black.png", encoded("black")))
        assert error() == ""
        changes(opened, "encode", lambda: give("drop", "lime.png", encoded("lime")))
    assert opened.get_log("browser") == []  # type: ignore[attr-defined]


def test_it_fits_a_phone_and_follows_the_colour_scheme(opened: WebDriver) -> None:
    def emulate(command: str, **settings: Any) -> None:
        opened.execute_cdp_cmd(f"Emulation.{command}", settings)

    emulate("setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    assert opened.execute_script("return document.documentElement.scrollWidth") == 360
    backgrounds = set()
    for scheme in ("light", "dark"):
        emulate("setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        backgrounds.add(opened.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert len(backgrounds) == 2


def test_a_damaged_page_says_so(page: Path, tmp_path: Path, browser: WebDriver) -> None:
    damaged = tmp_path / "explore.html"
    damaged.write_text(page.read_text().replace('id="fc">H4s', 'id="fc">AAA'))
    browser.get(damaged.as_uri())
    WebDriverWait(browser, 30).until(
        lambda _: browser.find_element("id", "error").text.startswith("The page cannot be shown: ")
    )


def test_the_command_makes_the_page_of_a_clone_with_or_without_its_images(
    reproduced: Clone, tmp_path: Path, browser: WebDriver
) -> None:
    clone = reproduced.copy(tmp_path / "checkout")
    shown = []
    for images in ("there", "gone"):
        finished = clone.stage("explore --no-open")
        assert finished.returncode == 0, finished.stderr
        open_page(browser, clone.folder / "explore.html")
        captions = browser.find_elements("css selector", "figcaption")
        assert all(caption.text.startswith(("fc kl=1, run ", "conv kl=1, run ")) for caption in captions)
        shown.append((images, len(browser.find_elements("css selector", "[name=image]"))))
        changes(browser, "walk", lambda: set_value(browser, "#amount", -2))
        (clone.folder / "data/train.safetensors").unlink(missing_ok=True)
        clone.run("rm", "-rf", ".dvc/cache")
    assert shown == [("there", 21), ("gone", 1)]
    assert clone.run("git", "status", "--porcelain").stdout.split() == []
