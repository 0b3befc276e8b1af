"""Files of a table: schemas as JSON, arrays written piece by piece, folders that appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import numpy as np

from umbel import durable
from umbel.chosen import choose, spell
from umbel.errors import UserError
from umbel.kinds import BINARY, TASK_KINDS
from umbel.objectives import LIKELIHOOD, OBJECTIVES
from umbel.schema import Field, FieldKind, Schema, Task
from umbel.statistic import Statistic

MARK = "meta.json"  # a folder with this file is a table
FORMAT = 2
GOLDEN = "golden.parquet"  # its first raw rows
REQUEST = "request"  # the file of the rows' requests, where they are known
LONGEST = 200  # characters of a file name without its suffix


def schema_to_json(schema: Schema) -> dict[str, object]:
    """A schema as plain JSON values; tasks name their kind and loss, with the parameters of each."""
    fields = [asdict(field) for field in schema.fields]
    tasks = [asdict(task) | {"kind": spell(task.kind), "loss": spell(task.loss)} for task in schema.tasks]
    return {"fields": fields, "tasks": tasks}


def schema_from_json(data: Mapping[str, object]) -> Schema:
    """The schema that `schema_to_json` wrote; :raises UserError: for a kind that is not known."""
    fields, tasks = (cast("list[dict[str, object]]", data[part]) for part in ("fields", "tasks"))
    return Schema(tuple(_field(one) for one in fields), tuple(_task(one) for one in tasks))


def file_name(name: str) -> str:
    """A name as a file name: anything but letters, digits and `_.-~` is percent-encoded.

    One too long for a file system (255 bytes, a suffix and a temporary prefix included) ends in its SHA-256 instead of its rest.
    """
    quoted = quote(name, safe="")
    return quoted if len(quoted) <= LONGEST else f"{quoted[: LONGEST - 65]}~{hashlib.sha256(name.encode()).hexdigest()}"


def write_json(path: Path, data: object) -> None:
    """JSON, indented, keys in the order given."""
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


class Rows:
    """A .npy file of known shape, filled piece by piece at any row (plain writes: mapped pages would count as memory)."""

    def __init__(self, path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self._file = path.open("wb")
        self._width = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._start = self._file.tell()
        self._file.truncate(self._start + self._width * shape[0])

    def put(self, row: int, block: np.ndarray) -> None:
        """Write rows from `row` on."""
        self._file.seek(self._start + row * self._width)
        self._file.write(np.ascontiguousarray(block).data)

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


@contextmanager
def fresh_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its name when the block ends well, and vanishes when it does not.

    :raises UserError: if `folder` exists and is neither empty nor a table, another process makes it, or the disk is full or
        not writable.
    """
    if folder.exists() and not (folder / MARK).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is not a table", mend="name another folder, or remove it yourself")
    with durable.sole(folder), durable.folder(folder) as partial:
        yield partial


def _field(data: Mapping[str, object]) -> Field:
    known = cast("dict[str, Any]", data)
    made = known.get("statistic")
    statistic = Statistic(**{**made, "by": tuple(made["by"]), "tasks": tuple(made["tasks"])}) if made else None
    return Field(**{**known, "kind": FieldKind(known["kind"]), "statistic": statistic})


def _task(data: Mapping[str, object]) -> Task:
    known = cast("dict[str, Any]", data)
    where = f"tasks.{known.get('name')}"
    kind = choose(f"{where}.kind", known.get("kind", BINARY.name), TASK_KINDS)
    loss, scale = choose(f"{where}.loss", known.get("loss", LIKELIHOOD.name), OBJECTIVES), known.get("range")
    return Task(**{**known, "kind": kind, "loss": loss, "range": tuple(scale) if scale else None})
