"""The page at `/` and its files: no data is in them, so anybody may have them; all data comes from routes that ask for a key."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from importlib.resources import files
from types import MappingProxyType

from umbel.run.markup import STYLE
from umbel.serve.http.call import Call, Reply, Route
from umbel.serve.http.problem import ProblemError

KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
# Nothing but the service's own files, nothing inline, in nobody's frame: what is shown comes from logs, whose texts anybody may choose.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: Mapping[str, str] = MappingProxyType({
    "content-security-policy": POLICY, "x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin", "cross-origin-resource-policy": "same-origin", "cache-control": "no-cache",
})  # fmt: skip


def web() -> list[Route]:
    """The page, and the files that it names."""
    folder = files("umbel.serve").joinpath("web")
    found = {one.name: _reply(one.name, one.read_bytes()) for one in folder.iterdir() if one.is_file()}
    found["look.css"] = _reply("look.css", STYLE.encode())  # that of the reports

    async def page(call: Call) -> Reply:
        return found["index.html"]

    async def file(call: Call) -> Reply:
        name = call.path["name"]
        if name not in found:
            raise ProblemError(HTTPStatus.NOT_FOUND, "no such file", mend="open /")
        return found[name]

    return [
        Route(method="GET", path="/", answer=page, says="The page", scope=None),
        Route(method="GET", path="/web/{name}", answer=file, says="A file of the page", scope=None),
    ]


def _reply(name: str, content: bytes) -> Reply:
    kind = KINDS[name[name.rindex("."):]]
    return Reply(content, kind=f"{kind}; charset=utf-8", headers=HEADERS)
