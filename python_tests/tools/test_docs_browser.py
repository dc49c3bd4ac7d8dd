"""The site in a browser, opened as a file: it asks nobody for anything, its search finds ops, pictures compare.

It needs playwright and Chromium, and skips without them.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "docs").is_dir():
    pytest.skip("the tests of an installed package", allow_module_level=True)
sys.path.insert(0, str(ROOT / "tools"))
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("zensical")

import docs_site  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt install chromium)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return docs_site.build(tmp_path_factory.mktemp("docs"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """Return a page, and check at the end that nothing came from elsewhere and no script failed."""
    opened = browser.new_page(viewport={"width": 1400, "height": 900})
    troubles: list[str] = []
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    local = ("file:", "data:", "blob:", "about:")
    opened.on("request", lambda request: None if request.url.startswith(local) else troubles.append(request.url))
    yield opened
    opened.close()
    assert troubles == []


def test_the_search_finds_an_op_without_a_server(site: Path, page: Any) -> None:
    page.goto((site / "index.html").as_uri())
    page.keyboard.press("Control+k")
    page.keyboard.type("panoptic_inference", delay=20)
    found = page.locator("a", has_text="panoptic_inference").first
    playwright.expect(found).to_be_visible(timeout=30_000)
    found.click()
    page.wait_for_url("**/*panoptic_inference*", timeout=30_000)


def test_no_page_is_wider_than_a_telephone(site: Path, page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    wide = []
    for path in sorted(site.rglob("*.html")):
        page.goto(path.as_uri())
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wide.append(str(path.relative_to(site)))
    assert wide == []


def test_pictures_are_compared_with_the_keyboard(site: Path, page: Any) -> None:
    page.goto((site / "index.html").as_uri())
    handle = page.locator(".compare input")
    handle.focus()
    page.keyboard.press("Home")
    share = "getComputedStyle(document.querySelector('.compare-frame')).getPropertyValue('--share')"
    assert page.evaluate(share) == "0%"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(share) == "1%"
