"""What a user can cause: every such failure is one `UserError`, one line long."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A failure the user can mend: one line that says what, where (file, column, row, key) and the mend; exit code 2.

    Example
    -------
    >>> str(UserError("log.csv: no column 'clik'", mend="did you mean 'click'?"))
    "log.csv: no column 'clik'; did you mean 'click'?"
    """

    def __init__(self, what: str, *, mend: str) -> None:
        super().__init__(f"{what}; {mend}".replace("\n", " "))
        self.what, self.mend = what, mend


class DivergedError(UserError):
    """A training whose numbers ran away: of several trainings, the others may go on."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The mend for an unknown name: the nearest known one, or the list of all.

    Example
    -------
    >>> nearest("clik", ["click", "like"])
    "did you mean 'click'?"
    >>> nearest("zzz", ["click", "like"])
    'known: click, like'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names) or 'none'}"
