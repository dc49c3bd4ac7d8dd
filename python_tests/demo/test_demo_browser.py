"""The demo's page in a headless browser: what a person drops, moves, points at and saves.

It needs playwright and Chromium, and skips without them. ``MASKFORMER_EXT_SCREENSHOTS=FOLDER`` keeps pictures of it.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from color_model import INFO, NAMES, color_model, color_picture, encoded, serving
from PIL import Image

from maskformer_ext.demo.model import Limits
from maskformer_ext.demo.samples import samples_of_folder

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt install chromium)")
_OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
# Of three places of the picture, after what waits to be drawn was drawn.
_MAP_COLORS = """async () => {
  for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
  const canvas = document.getElementById("canvas"), context = canvas.getContext("2d");
  const at = (x, y) => [...context.getImageData(x * canvas.width, y * canvas.height, 1, 1).data].slice(0, 3);
  return [at(.2, .5), at(.6, .2), at(.81, .5)];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """A page in a window as wide as a desk's, whose scripts must not fail and must ask nobody but the server."""
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "one.png").write_bytes(encoded(color_picture()))
    samples = samples_of_folder(tmp_path / "samples")
    with serving(color_model(), Limits(upload_mb=1, frames=4), samples) as server:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
        page = context.new_page()
        page.set_default_timeout(30_000)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: problems.extend([request.url] if _is_elsewhere(request.url, server) else []))
        page.goto(server.address)
        page.wait_for_selector("body[data-ready]")
        page.model = server.routes.model
        yield page
        context.close()
    assert not problems


def _is_elsewhere(url: str, server: Any) -> bool:
    return not url.startswith((server.address, "data:", f"blob:{server.address}"))


def _drop(page: Any, path: Path) -> None:
    """Give the page a file and wait until it is shown."""
    page.set_input_files("#file", str(path))
    _wait(page, "#picture-name", path.name)
    page.wait_for_selector("[data-state=shown]")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "colours.png"
    path.write_bytes(encoded(color_picture(300, 400)))
    return path


def _move(page: Any, name: str, value: float) -> None:
    page.locator(f"#set-{name}").fill(str(value))


def _legend(page: Any) -> list[str]:
    return page.locator("#legend b").all_inner_texts()


def _wait(page: Any, place: str, text: str) -> None:
    playwright.expect(page.locator(place)).to_contain_text(text, timeout=30_000)


def _keep(page: Any, name: str) -> None:
    if folder := os.environ.get("MASKFORMER_EXT_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def test_thresholds_move_the_masks_while_the_network_runs_once(opened: Any, picture: Path) -> None:
    _drop(opened, picture)
    assert sorted(_legend(opened)) == sorted(NAMES)  # a class that is called <script> is text
    assert "1 class" not in opened.inner_text("#found-count")
    before = opened.evaluate(_MAP_COLORS)
    _move(opened, "object_mask_threshold", 0.7)
    playwright.expect(opened.locator("#legend li")).to_have_count(2)
    after = opened.evaluate(_MAP_COLORS)
    assert before[:2] == after[:2] and before[2] != after[2]
    opened.get_by_role("radio", name="semantic").click()
    playwright.expect(opened.locator("#legend li")).to_have_count(3)
    assert "once" in opened.inner_text("#times") and opened.model.runs == 1
    opened.click("#reset", timeout=5000)
    _keep(opened, "thresholds")


def test_opacity_and_the_original_need_no_answer(opened: Any, picture: Path) -> None:
    _drop(opened, picture)
    _move(opened, "opacity", 0)
    opened.locator(".check input").uncheck()
    assert opened.evaluate(_MAP_COLORS)[:2] == [[255, 0, 0], [0, 0, 255]]
    _move(opened, "opacity", 1)
    assert opened.evaluate(_MAP_COLORS)[1] == list(INFO.colors[1])
    opened.hover("#original")
    opened.mouse.down()
    assert opened.evaluate(_MAP_COLORS)[1] == [0, 0, 255]
    opened.mouse.up()


def test_what_lies_under_the_pointer_is_named(opened: Any, picture: Path) -> None:
    _drop(opened, picture)
    box = opened.locator("#canvas").bounding_box()
    opened.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.5 * box["height"])
    assert opened.inner_text("#tip b") == "red things"
    assert "score 0.95" in opened.inner_text("#tip span") and "60,000 px" in opened.inner_text("#tip span")
    opened.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.2 * box["height"])
    assert opened.inner_text("#tip b") == "blue ground"
    opened.mouse.move(2, 2)
    assert not opened.is_visible("#tip")


def test_a_click_hides_a_class(opened: Any, picture: Path) -> None:
    _drop(opened, picture)
    shown = opened.evaluate(_MAP_COLORS)
    opened.click("#legend [title='blue ground']")
    opened.mouse.move(2, 2)
    hidden = opened.evaluate(_MAP_COLORS)
    assert hidden[1] == [0, 0, 255] != shown[1] and hidden[0] == shown[0]
    opened.click("#show-all")
    opened.mouse.move(2, 2)
    assert opened.evaluate(_MAP_COLORS) == shown


def test_a_query_shows_its_mask(opened: Any, picture: Path) -> None:
    _drop(opened, picture)
    opened.wait_for_selector("#queries .grid button")
    assert opened.locator("#queries .grid button").count() == 4
    opened.locator("#queries .grid button").nth(1).click()
    opened.wait_for_selector("#query-facts")
    assert opened.locator("#query-facts b").first.inner_text() == "blue ground"
    red, blue, _ = opened.evaluate(_MAP_COLORS)
    assert max(red) < 120 < max(blue)
    _keep(opened, "query")
    opened.click("#query-back")
    assert not opened.is_visible("#query")


def test_files_are_saved(opened: Any, picture: Path, tmp_path: Path) -> None:
    _drop(opened, picture)
    saved = {}
    for kind in ("overlay", "ids", "coco"):
        with opened.expect_download() as told:
            opened.click(f"[data-kind={kind}]")
        saved[kind] = tmp_path / told.value.suggested_filename
        told.value.save_as(saved[kind])
    assert [path.name for path in saved.values()] == ["colours_overlay.png", "colours_ids.png", "colours_coco.json"]
    assert np.unique(np.asarray(Image.open(saved["ids"]))).tolist() == [1, 2, 3]
    assert len(json.loads(saved["coco"].read_text())["annotations"]) == 3


def test_a_file_that_cannot_be_read_leaves_the_picture_before(opened: Any, picture: Path, tmp_path: Path) -> None:
    broken, large = tmp_path / "broken.png", tmp_path / "large.png"
    broken.write_bytes(b"no picture")
    large.write_bytes(bytes(1_100_000))
    opened.set_input_files("#file", str(broken))
    opened.wait_for_selector("#problem")
    assert "broken.png: cannot be read as an image" in opened.inner_text("#problem-text").lower()
    assert opened.is_visible("#empty") and not opened.is_visible("#stage")
    _drop(opened, picture)
    assert not opened.is_visible("#problem")
    opened.set_input_files("#file", str(large))
    opened.wait_for_selector("#problem")
    assert "at most 1 MB" in opened.inner_text("#problem-text")
    opened.set_input_files("#file", str(broken))
    _wait(opened, "#problem-text", "cannot be read")
    opened.wait_for_selector("#busy", state="hidden")
    assert "colours.png" in opened.inner_text("#picture-name") and len(_legend(opened)) == 3
    _keep(opened, "problem")


def test_a_sample_and_a_video_are_opened(opened: Any, tmp_path: Path) -> None:
    opened.locator("#samples button").first.click()
    _wait(opened, "#picture-name", "one.png")
    opened.wait_for_selector("[data-state=shown]")
    frames = [Image.fromarray(np.roll(color_picture(), 10 * shift, axis=1)) for shift in range(6)]
    film = tmp_path / "film.webp"
    frames[0].save(film, save_all=True, append_images=frames[1:], lossless=True)
    _drop(opened, film)
    assert opened.inner_text("#frame-text") == "frame 1 of the first 4"
    opened.click("#play")
    _wait(opened, "#frame-text", "frame 4 ")
    _wait(opened, "#play", "Play")
    assert opened.model.runs == 5
    opened.locator("#frame-number").fill("1")
    _wait(opened, "#frame-text", "frame 2 of the")
    assert opened.model.runs == 5  # frames that were seen are kept


def test_a_narrow_window_shows_everything_without_scrolling_sideways(opened: Any, picture: Path) -> None:
    opened.set_viewport_size({"width": 390, "height": 844})
    _drop(opened, picture)
    opened.wait_for_selector("#queries .grid button")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.evaluate("document.querySelector('aside').offsetTop < document.getElementById('queries').offsetTop")
    _keep(opened, "narrow")


def _hold_network(opened: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Let the network wait; return what is set when it is reached, and what lets it go on."""
    entered, go = threading.Event(), threading.Event()
    see = opened.model.see

    def slow(pixels: np.ndarray) -> object:
        entered.set()
        go.wait(30)
        return see(pixels)

    monkeypatch.setattr(opened.model, "see", slow)
    return entered, go


def test_settings_that_move_while_a_file_is_read_are_kept_for_it(
    opened: Any, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _drop(opened, picture)
    entered, go = _hold_network(opened, monkeypatch)
    other = tmp_path / "other.png"
    other.write_bytes(encoded(color_picture(300, 400)[:, ::-1]))
    opened.set_input_files("#file", str(other))
    assert entered.wait(30)
    box = opened.locator("#canvas").bounding_box()
    opened.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.5 * box["height"])
    _move(opened, "object_mask_threshold", 0.7)
    opened.click("[data-kind=coco]")
    _wait(opened, "#problem-text", "Wait until the picture is shown")
    # no masks of the picture before lie over the new one
    assert opened.evaluate(_MAP_COLORS) == [[0, 255, 0], [255, 0, 0], [255, 0, 0]]
    go.set()
    opened.wait_for_selector("[data-state=shown]")
    playwright.expect(opened.locator("#legend li")).to_have_count(2)
    assert opened.model.runs == 2


def test_the_page_is_used_without_a_pointer(opened: Any, picture: Path) -> None:
    _drop(opened, picture)
    opened.focus("#original")
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.id") != "original"
    opened.focus("#tasks [aria-checked=true]")
    opened.keyboard.press("ArrowRight")  # from the last to the first
    playwright.expect(opened.get_by_role("radio", name="semantic")).to_be_focused()
    playwright.expect(opened.get_by_role("radio", name="semantic")).to_be_checked()
    opened.keyboard.press("ArrowLeft")
    playwright.expect(opened.get_by_role("radio", name="panoptic")).to_be_checked()
    opened.focus("#canvas")
    for _ in range(3):
        opened.keyboard.press("Shift+ArrowLeft")
    assert opened.inner_text("#tip b") == "red things"


def test_the_last_frame_that_was_asked_for_is_shown(
    opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [Image.fromarray(np.roll(color_picture(), 10 * shift, axis=1)) for shift in range(4)]
    film = tmp_path / "film.webp"
    frames[0].save(film, save_all=True, append_images=frames[1:], lossless=True)
    _drop(opened, film)
    entered, go = _hold_network(opened, monkeypatch)
    opened.locator("#frame-number").fill("3")
    assert entered.wait(30)
    opened.locator("#frame-number").fill("1")
    go.set()
    _wait(opened, "#frame-text", "frame 2 ")
    opened.wait_for_selector("#busy", state="hidden")
    assert opened.inner_text("#frame-text").startswith("frame 2 ")
