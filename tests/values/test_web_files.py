"""The page's files: nothing in them is inline, comes from elsewhere or reads text as markup; they hold no data and ask for no key."""

from __future__ import annotations

import asyncio
import re
from importlib.resources import files

import pytest

from umbel.run.markup import STYLE
from umbel.serve.http.call import Call, Reply, Route
from umbel.serve.http.problem import ProblemError
from umbel.serve.http.web import POLICY, web
from umbel.serve.service import Service

FOLDER = files("umbel.serve").joinpath("web")
NAMES = sorted(one.name for one in FOLDER.iterdir() if one.is_file())
TEXTS = {name: FOLDER.joinpath(name).read_text(encoding="utf-8") for name in NAMES}
KINDS = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "html": "text/html"}
FORBIDDEN = (
    "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser", "localStorage",
    "document.cookie",
)  # fmt: skip
SCRIPTS = [name for name in NAMES if name.endswith(".js")]


def got(path: str, **parts: str) -> Reply:
    route = next(route for route in web() if route.path == path)
    return asyncio.run(_ask(route, parts))


async def _ask(route: Route, parts: dict[str, str]) -> Reply:
    return await route.answer(Call(object.__new__(Service), b"", parts, "", 0.0))


def test_every_route_of_the_page_is_anybody_s() -> None:
    assert [(route.method, route.path, route.scope) for route in web()] == [("GET", "/", None), ("GET", "/web/{name}", None)]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_given_as_it_is_with_its_policy(name: str) -> None:
    reply = got("/web/{name}", name=name)
    assert reply.content == TEXTS[name].encode()
    assert reply.kind == f"{KINDS[name.rpartition('.')[2]]}; charset=utf-8"
    assert reply.headers["content-security-policy"] == POLICY
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_the_look_is_that_of_the_reports() -> None:
    assert got("/web/{name}", name="look.css").content == STYLE.encode()
    assert got("/").content == TEXTS["index.html"].encode()


@pytest.mark.parametrize("name", ["nothing.js", "../page.css", "..%2fapp.py", "", "index", "INDEX.HTML"])
def test_no_other_file_is_given(name: str) -> None:
    with pytest.raises(ProblemError, match="no such file"):
        got("/web/{name}", name=name)


def test_the_policy_allows_the_service_s_own_files_alone() -> None:
    parts = dict(one.strip().partition(" ")[::2] for one in POLICY.split(";"))
    assert parts["default-src"] == "'none'"
    assert {parts[name] for name in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert {parts[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}
    assert "unsafe" not in POLICY


@pytest.mark.parametrize("name", NAMES)
def test_nothing_comes_from_elsewhere(name: str) -> None:
    found = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"')]*", TEXTS[name]))
    assert not {one for one in found if "www.w3.org" not in one}, "a name space is no address; nothing else is allowed"
    assert "@import" not in TEXTS[name]


def test_the_html_has_nothing_inline_and_names_files_that_there_are() -> None:
    html = TEXTS["index.html"]
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", html)
    named = set(re.findall(r"/web/([\w.]+)", html))
    assert named <= {*NAMES, "look.css"}
    assert {"page.js", "page.css", "look.css"} <= named
    assert '<html lang="en">' in html
    assert 'name="viewport"' in html


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_reads_text_as_markup_or_code(name: str) -> None:
    for forbidden in FORBIDDEN:
        assert forbidden not in TEXTS[name], forbidden
    for other in re.findall(r'from "([^"]+)"', TEXTS[name]):
        assert other.removeprefix("./") in SCRIPTS


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_small_and_opens_with_a_sentence(name: str) -> None:
    lines = TEXTS[name].splitlines()
    assert len(lines) <= 300
    assert max(map(len, lines)) <= 200
    if name.endswith((".js", ".css")):
        assert re.match(r"(// |/\* )[A-Z].+[.;:]", lines[0])
