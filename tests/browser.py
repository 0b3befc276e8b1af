"""Debian's chromium, driven by playwright, for journeys through the service's page; what goes wrong in it is gathered."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
ARGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def absent() -> str | None:
    """Why no page can be looked at here; None if one can."""
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "playwright is not installed"
    return None if CHROMIUM is not None else "no chromium here (Debian: apt-get install chromium)"


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser while the block lasts; the test skips, and says so, where there is none."""
    if why := absent():
        pytest.skip(why)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass(frozen=True)
class Looked:
    """A page that is open, what it complained of, and every address that it asked for."""

    page: Page
    wrong: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@contextmanager
def looking(
    browser: Browser, url: str, *, width: int = 1280, scheme: Literal["light", "dark"] = "light"
) -> Iterator[Looked]:
    """The page at an address, in a new session of its own."""
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    looked = Looked(context.new_page())
    looked.page.on("pageerror", lambda error: looked.wrong.append(str(error)))
    looked.page.on("console", lambda said: looked.wrong.append(f"{said.text} {said.location['url']}") if said.type == "error" else None)
    looked.page.on("request", lambda request: looked.asked.append(request.url))
    looked.page.set_default_timeout(30_000)
    try:
        looked.page.goto(url)
        yield looked
    finally:
        context.close()
