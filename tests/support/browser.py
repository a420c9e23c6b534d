"""A real Chromium for tests, and a watch over what its pages say, ask for and refuse."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.stack_processes import DEADLINE_SECONDS

NAMES = ("chromium", "chromium-browser", "google-chrome")

expect.set_options(timeout=1000 * DEADLINE_SECONDS)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the system's Chromium; skip where there is none, which in CI is a failure."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Chromium is not installed")
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        # Without its sandbox, which the superuser cannot have: it opens nothing but our own pages.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """A page, and what it did wrong so far."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)

    def assert_well_behaved(self, origin: str, *allowed: str) -> None:
        """Check that it asked nobody else, broke no policy and had no error but the allowed."""
        assert {one for one in self.asked if one != origin} == set()
        assert [one for one in self.said if not any(text in one for text in allowed)] == []


@contextmanager
def watched(browser: Browser, scheme: str = "light") -> Iterator[Watched]:
    """Open an empty page."""
    dark = "dark" if scheme == "dark" else "light"
    context = browser.new_context(color_scheme=dark, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(1000 * DEADLINE_SECONDS)
    seen = Watched(page)
    page.on("console", lambda said: seen.said.append(f"{said.type}: {said.text}"))
    page.on("pageerror", lambda error: seen.said.append(f"uncaught: {error}"))
    page.on("request", lambda request: seen.asked.add(_origin(request.url)))
    try:
        yield seen
    finally:
        context.close()


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
