"""The page of a service in a browser: by keyboard, on a phone, in the dark, under keys; it asks nobody but its own service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from tests.browser import Looked, chromium, looking
from tests.filled import Filled, bundles, filled

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Scheme = Literal["light", "dark"]
PAPER = {"light": "rgb(246, 247, 249)", "dark": "rgb(18, 22, 29)"}
VIEWS = ("decisions", "bundles")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def service(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """After the browser, so that nothing is trained where there is none."""
    with filled(bundles(tmp_path_factory.mktemp("web")), tmp_path_factory.mktemp("store")) as made:
        yield made


def enter(page: Page, key: str) -> None:
    """Give the page a key by keyboard alone."""
    page.get_by_role("button", name="Enter a key").focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    page.keyboard.type(key)
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for(state="detached")


def opened(looked: Looked, service: Filled, scope: str = "admin") -> Page:
    """The page, once its key is known; that it was refused before is no fault of it."""
    enter(looked.page, service.keys[scope])
    looked.page.get_by_role("table").first.wait_for()
    looked.wrong.clear()
    return looked.page


def test_without_a_key_nothing_is_shown(browser: Browser, service: Filled) -> None:
    with looking(browser, service.url) as looked:
        looked.page.get_by_role("heading", name="A key is needed").wait_for()
        assert looked.page.get_by_role("table").count() == 0
        assert service.requests[-1] not in looked.page.content()
        enter(looked.page, "umbel_wrong")
        looked.page.get_by_role("heading", name="A key is needed").wait_for()


def test_a_key_is_kept_in_the_tab_alone(browser: Browser, service: Filled) -> None:
    with looking(browser, service.url) as looked:
        page, key = opened(looked, service), service.keys["admin"]
        assert page.evaluate("Object.values(sessionStorage)") == [key]
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        assert not [one for one in [*looked.asked, page.url] if key in one]
        page.reload()
        page.get_by_role("table").first.wait_for()
        page.get_by_role("button", name="Key").click()
        page.get_by_role("button", name="Forget it").click()
        page.get_by_role("heading", name="A key is needed").wait_for()
        assert page.evaluate("sessionStorage.length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_every_view_fits_and_asks_its_own_service_alone(
    browser: Browser, service: Filled, width: int, scheme: Scheme, tmp_path: Path
) -> None:
    with looking(browser, service.url, width=width, scheme=scheme) as looked:
        page = opened(looked, service)
        for view in VIEWS:
            page.get_by_role("navigation").get_by_role("link", name=view.title()).click()
            page.locator(f"nav a[aria-current=page][href='#/{view}']").wait_for()
            page.get_by_role("table").first.wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.screenshot(path=tmp_path / f"{view}.png", full_page=True)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == PAPER[scheme]
        assert not looked.wrong
        assert all(one.startswith((service.url, "data:")) for one in looked.asked)


def test_the_keyboard_reaches_every_view(browser: Browser, service: Filled) -> None:
    with looking(browser, service.url) as looked:
        page = opened(looked, service)
        page.reload()
        page.get_by_role("table").first.wait_for()
        reached = []
        for _ in range(3 + len(VIEWS)):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.getAttribute('href') || document.activeElement.id"))
        assert reached[0] == "#main"
        assert {f"#/{view}" for view in VIEWS} <= set(reached)
        assert "key" in reached
        page.locator("nav a[href='#/bundles']").focus()
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="In service").wait_for()
        assert page.title() == "Bundles · umbel"


def test_the_latest_decisions_are_listed_and_go_on_by_themselves(browser: Browser, service: Filled) -> None:
    with looking(browser, f"{service.url}/#/decisions") as looked:
        page = opened(looked, service)
        latest = service.client.get("/v1/decisions?limit=1").json()["decisions"][0]["request_id"]
        assert page.locator("tbody tr").first.locator("a").get_attribute("id") == f"d{latest}"
        new = service.client.post("/v1/rank", json={"user_id": "newcomer", "items": ["1", "2"]}).json()["request_id"]
        page.locator(f"#d{new}").wait_for()
        assert "newcomer" in page.locator("tbody tr").first.inner_text()


def test_a_canary_is_promoted_and_rolled_back_by_keyboard(browser: Browser, service: Filled) -> None:
    client = service.client
    before = client.get("/v1/bundles").json()["labels"]["stable"]["bundle"]
    with looking(browser, f"{service.url}/#/bundles") as looked:
        page = opened(looked, service)
        assert page.get_by_role("button", name="Promote").count() == 0
        client.post("/v1/bundles/canary", json={"folder": "b/bundle", "share": 0.25}).raise_for_status()
        page.get_by_role("button", name="Promote the canary").wait_for()
        assert "answers 25 % of users" in page.get_by_role("table").first.inner_text()
        canary = client.get("/v1/bundles").json()["labels"]["canary"]["bundle"]

        page.get_by_role("button", name="Promote the canary").focus()
        page.keyboard.press("Enter")
        assert canary in page.get_by_role("dialog").inner_text()
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")
        assert client.get("/v1/bundles").json()["labels"]["stable"]["bundle"] == before, "what is not agreed to is not done"

        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Roll back").wait_for()
        assert client.get("/v1/bundles").json()["labels"]["stable"]["bundle"] == canary
        page.get_by_role("button", name="Roll back").focus()
        page.keyboard.press("Enter")
        page.get_by_role("dialog").get_by_role("button", name="Roll back").press("Enter")
        page.locator("td", has_text="rollback").wait_for()
        assert client.get("/v1/bundles").json()["labels"]["stable"]["bundle"] == before
        assert not looked.wrong


def test_a_key_that_may_only_read_is_told_so(browser: Browser, service: Filled) -> None:
    with looking(browser, f"{service.url}/#/bundles") as looked:
        page = opened(looked, service, "read")
        page.get_by_role("button", name="Roll back").click()
        page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
        page.get_by_role("alert").filter(has_text="no scope admin").wait_for()


def test_a_service_that_is_gone_is_said(browser: Browser, service: Filled) -> None:
    with looking(browser, service.url) as looked:
        page = opened(looked, service)
        page.route("**/v1/**", lambda route: route.abort())
        page.get_by_role("navigation").get_by_role("link", name="Bundles").click()
        page.get_by_role("alert").filter(has_text="does not answer").wait_for()
        page.unroute_all()
        page.get_by_role("button", name="Ask again").click()
        page.get_by_role("heading", name="In service").wait_for()
