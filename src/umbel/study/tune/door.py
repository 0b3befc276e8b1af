"""The one way to the test part: every opening is written down before it, and the number of lines is the number of readings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from umbel import durable
from umbel.data.table import Table

FILE = "test_reads.jsonl"


@dataclass(frozen=True, slots=True)
class Door:
    """A study's table: sealed for all, open only inside `opened`."""

    folder: Path

    @property
    def table(self) -> Table:
        """The table with its test part sealed."""
        return Table.open(self.folder / "table").seal("test")

    @property
    def reads(self) -> int:
        """How often the test part was opened, by all processes that ever worked on the study."""
        return len(self._lines())

    @contextmanager
    def opened(self, reader: str) -> Iterator[Table]:
        """The table with its test part, for `reader`, once."""
        lines = [*self._lines(), json.dumps({"read": len(self._lines()) + 1, "by": reader})]
        durable.write(self.folder / FILE, "".join(f"{line}\n" for line in lines))
        yield Table.open(self.folder / "table")

    def _lines(self) -> list[str]:
        path = self.folder / FILE
        return path.read_text().splitlines() if path.exists() else []
