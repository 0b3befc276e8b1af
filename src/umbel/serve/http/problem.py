"""What is wrong with a request, as its answer says it: RFC 9457, in one line, without anything of the inside."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

import msgspec

from umbel.errors import UserError
from umbel.serve.requests import MalformedError
from umbel.serve.store.engine import UnavailableError

NONE: Mapping[str, str] = MappingProxyType({})
AGAIN: Mapping[str, str] = MappingProxyType({"retry-after": "1"})


class ProblemError(UserError):
    """A request that is not done, with the status and headers of its answer."""

    def __init__(self, status: HTTPStatus, what: str, *, mend: str, headers: Mapping[str, str] = NONE) -> None:
        super().__init__(what, mend=mend)
        self.status, self.headers = status, headers

    def body(self) -> bytes:
        """The answer."""
        told = {"type": "about:blank", "title": self.status.phrase, "status": int(self.status), "detail": str(self)}
        return msgspec.json.encode(told)


def problem(error: Exception) -> ProblemError:
    """What a failure is answered by: the client's own faults are named, of ours only that there is one.

    Example
    -------
    >>> problem(ValueError("/secret")).body()
    b'{"type":"about:blank","title":"Internal Server Error","status":500,"detail":"a failure of the service; try again"}'
    """
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, UnavailableError):
        return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "the store does not answer", mend="try again", headers=AGAIN)
    if isinstance(error, MalformedError):
        return ProblemError(HTTPStatus.BAD_REQUEST, error.what, mend=error.mend)
    if isinstance(error, UserError):
        return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, error.what, mend=error.mend)
    return ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "a failure of the service", mend="try again")
