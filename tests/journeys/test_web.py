"""The page of a service in a browser: by keyboard, on a phone, in the dark, under keys; it asks nobody but its own service."""

from __future__ import annotations

import re
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
VIEWS = ("quality", "decisions", "fusion", "bundles")


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
    looked.page.get_by_role("heading", level=2).first.wait_for()
    looked.page.locator("#told", has_text="as of").wait_for()
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
    with looking(browser, f"{service.url}/#/decisions") as looked:
        page, key = opened(looked, service), service.keys["admin"]
        assert page.evaluate("Object.values(sessionStorage)") == [key]
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        assert not [one for one in [*looked.asked, page.url] if key in one]
        page.reload()
        page.locator("#told", has_text="as of").wait_for()
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
            page.locator("#told", has_text="as of").wait_for()
            if view != "quality":
                page.get_by_role("table").first.wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.screenshot(path=tmp_path / f"{view}.png", full_page=True)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == PAPER[scheme]
        assert looked.wrong == []
        assert all(one.startswith((service.url, "data:")) for one in looked.asked)


def test_the_keyboard_reaches_every_view(browser: Browser, service: Filled) -> None:
    with looking(browser, service.url) as looked:
        page = opened(looked, service)
        page.reload()
        page.locator("#told", has_text="as of").wait_for()
        reached = []
        for _ in range(4 + len(VIEWS)):
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


def test_a_decision_is_opened_and_explained_by_keyboard(browser: Browser, service: Filled) -> None:
    found = service.client.get(f"/v1/decisions/{service.requests[5]}").json()
    with looking(browser, f"{service.url}/#/decisions/{service.requests[5]}") as looked:
        page = opened(looked, service)
        page.get_by_role("heading", name=f"Decision {service.requests[5]}").wait_for()
        shown = page.get_by_role("region", name="Contributions of the tasks").inner_text()
        for item in found["items"]:
            assert f"{item['score']:.4f}" in shown
            assert all(f"+{part:.4f}" in shown for part in item["contributions"].values())
        assert page.get_by_text("Contributions add up to each logged score.").count() == 1
        second = found["items"][1]
        page.get_by_text(f"2. {second['item_id']}", exact=True).last.focus()
        page.keyboard.press("Enter")
        fields = page.get_by_role("region", name=f"Fields that moved item {second['item_id']}")
        fields.wait_for()
        said = f"{abs(second['moved']['click']['item']):.4f}"
        assert said in fields.inner_text()
        page.get_by_role("link", name="Latest decisions").press("Enter")
        page.get_by_role("heading", name="Latest decisions").wait_for()


def test_a_slider_shows_what_it_would_do_and_puts_it_in_force(browser: Browser, service: Filled) -> None:
    before = service.client.get("/v1/fusion").json()
    with looking(browser, f"{service.url}/#/fusion") as looked:
        page = opened(looked, service)
        page.locator("#changed", has_text="0 %").wait_for()
        page.get_by_role("button", name="Put in force").press("Enter")
        page.get_by_role("alert").filter(has_text="nothing was moved").wait_for()
        slider = page.get_by_role("slider", name="like")
        slider.focus()
        page.keyboard.press("End")
        assert page.locator("#o-like").inner_text() == "× 16"
        page.locator("#changed").filter(has_not_text=re.compile(r"^0 %$")).wait_for()
        assert page.get_by_role("region", name="First items").count() == 1
        assert page.get_by_role("img", name="click against").count() + page.get_by_role("img", name="like against click").count() >= 1
        assert service.client.get("/v1/fusion").json() == before, "looking changes nothing"
        page.get_by_role("button", name="Put in force").press("Enter")
        assert "like × 16" in page.get_by_role("dialog").inner_text()
        page.get_by_role("dialog").get_by_role("button", name="Put in force").press("Enter")
        page.locator("#o-like", has_text=re.compile(r"^× 1$")).wait_for()
        now = service.client.get("/v1/fusion").json()
        assert now["tasks"]["like"]["weight"] == pytest.approx(16 * before["tasks"]["like"]["weight"])
        assert now["tasks"]["click"] == before["tasks"]["click"]
        assert not looked.wrong
    service.client.delete("/v1/fusion").raise_for_status()


def test_a_policy_in_force_is_said_to_override_and_taken_back_by_keyboard(browser: Browser, service: Filled) -> None:
    client = service.client
    own = client.get("/v1/bundles").json()["labels"]["stable"]["fusion"]
    policy = {"format": 1, "name": "likes", "family": "log", "tasks": {"like": {"weight": 2.0}}}
    with looking(browser, f"{service.url}/#/fusion") as looked:
        page = opened(looked, service)
        page.get_by_role("heading", name="The policy in force").wait_for()
        assert page.get_by_role("button", name="Back to the bundles' own").count() == 0
        client.put("/v1/fusion", json=policy).raise_for_status()
        page.reload()
        back = page.get_by_role("button", name="Back to the bundles' own")
        back.wait_for()
        assert page.get_by_text(f"It was put in force over {own}, the bundle's own").count() == 1
        page.goto(f"{service.url}/#/bundles")
        page.get_by_role("region", name="Bundles in service").get_by_text(f"over its own, {own}").wait_for()
        page.goto(f"{service.url}/#/fusion")
        back.press("Enter")
        assert f"by {own} instead of likes@" in page.get_by_role("dialog").inner_text()
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")
        assert client.get("/v1/bundles").json()["labels"]["stable"]["own"] == own, "what is not agreed to is not done"
        back.press("Enter")
        page.get_by_role("dialog").get_by_role("button", name="Back to the bundles' own").press("Enter")
        back.wait_for(state="detached")
        assert client.get("/v1/bundles").json()["labels"]["stable"] == client.get("/v1/bundles").json()["labels"]["stable"] | {
            "fusion": own, "own": None,
        }  # fmt: skip
        assert not looked.wrong


def test_a_report_is_saved_under_the_key(browser: Browser, service: Filled, tmp_path: Path) -> None:
    with looking(browser, f"{service.url}/#/bundles") as looked:
        page = opened(looked, service)
        assert "271 of 939" in page.get_by_role("region", name="The run of the stable bundle").inner_text()
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save the whole report").first.press("Enter")
        assert saved.value.suggested_filename == "report-stable.html"
        assert "Results on test" in Path(saved.value.path()).read_text()


def test_a_canary_is_started_by_keyboard_after_it_was_agreed_to(browser: Browser, service: Filled) -> None:
    client = service.client
    with looking(browser, f"{service.url}/#/bundles") as looked:
        page = opened(looked, service)
        form = page.get_by_role("form", name="Start a canary")
        form.get_by_label("Folder of the bundle").focus()
        page.keyboard.press("Enter")
        form.get_by_role("alert").filter(has_text="folder: is empty; name the folder of a bundle").wait_for()
        page.keyboard.type("b/bundle")
        page.keyboard.press("Tab")
        page.keyboard.type("150")  # what a field has is chosen when it is come to by Tab
        page.keyboard.press("Enter")
        form.get_by_role("alert").filter(has_text='share: "150" is no share').wait_for()
        assert page.evaluate("[document.activeElement.id, document.activeElement.getAttribute('aria-invalid')]") == ["share", "true"]
        page.keyboard.press("Control+a")
        page.keyboard.type("25 %")
        form.get_by_text("Guard: when it is dropped").press("Enter")
        form.get_by_label("Keep of like, %").fill("97,5")
        page.keyboard.press("Enter")
        question = page.get_by_role("dialog").inner_text()
        assert "Answer 25 % of users by the bundle in b/bundle? It is to keep like 97.5 %, or is dropped." in question
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")
        assert "canary" not in client.get("/v1/bundles").json()["labels"], "what is not agreed to is not done"
        form.get_by_role("button", name="Start the canary").press("Enter")
        page.get_by_role("dialog").get_by_role("button", name="Start the canary").press("Enter")
        page.get_by_role("button", name="Drop the canary").wait_for()
        assert "answers 25 % of users" in page.get_by_role("table").first.inner_text()
        assert form.count() == 0
        assert not looked.wrong
    detail = client.get("/v1/audit?limit=1").json()["notes"][0]["detail"]
    assert (detail["share"], detail["guard"]) == (0.25, ["like=0.975"])
    client.delete("/v1/bundles/canary").raise_for_status()


@pytest.mark.parametrize(("typed", "said"), [
    ({"folder": "nowhere"}, "nowhere"), ({"folder": "../b"}, "not under the root of bundles"),
    ({"folder": "b/bundle", "session": "soon"}, "session"),
    ({"folder": "b/bundle", "keep-click": "0"}, 'click: "0" is no part; give a percentage above 0, at most 100'),
])  # fmt: skip
def test_a_canary_that_cannot_be_is_refused_in_one_line(browser: Browser, service: Filled, typed: dict[str, str], said: str) -> None:
    with looking(browser, f"{service.url}/#/bundles") as looked:
        page = opened(looked, service)
        form = page.get_by_role("form", name="Start a canary")
        form.locator("summary").click()
        for name, text in typed.items():
            form.locator(f"#{name}").fill(text)
        form.get_by_role("button", name="Start the canary").click()
        if "keep-click" not in typed:
            page.get_by_role("dialog").get_by_role("button", name="Start the canary").click()
        told = form.get_by_role("alert").filter(has_text=said)
        told.wait_for()
        assert "\n" not in told.inner_text()
        assert form.locator("#folder").input_value() == typed["folder"], "nothing that was typed is lost"
        assert "canary" not in service.client.get("/v1/bundles").json()["labels"]


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
