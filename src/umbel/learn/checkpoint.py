"""A training on disk, so that it survives being killed at any moment: safetensors and JSON, never pickle."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from umbel import durable
from umbel.errors import UserError
from umbel.learn.state import Progress, State

KEPT = 2  # the newest, and the one before it in case the newest does not read back
TENSORS, NUMBERS = "state.safetensors", "state.json"
PARTS = tuple(field.name for field in fields(State) if field.name != "progress")


def save(state: State, folder: Path) -> None:
    """Write the next numbered checkpoint into `folder` and drop all but the one before it.

    A checkpoint is a folder of its own with the tensors, the numbers, and the tensors' SHA-256. It is filled and flushed to the disk
    under a temporary name, so that one with a number is whole.

    :raises UserError: if the disk is full or the place is not writable; older checkpoints stay.
    """
    number = max(_numbers(folder), default=0) + 1
    with durable.folder(_place(folder, number)) as made:
        with durable.disk(made):
            save_file(_flat(state), made / TENSORS)
        about = {"sha256": _digest(made / TENSORS), "progress": asdict(state.progress)}
        (made / NUMBERS).write_text(json.dumps(about, indent=1))
    durable.sweep(folder)
    for other in _numbers(folder):
        if other <= number - KEPT:
            shutil.rmtree(_place(folder, other), ignore_errors=True)


def load(folder: Path) -> State | None:
    """The newest checkpoint that reads back whole; None where none was ever finished.

    :raises UserError: when there are checkpoints and all of them are damaged.
    """
    numbers = _numbers(folder)
    for number in reversed(numbers):
        state = _read(_place(folder, number))
        if state is not None:
            return state
    if numbers:
        raise UserError(f"{folder}: no checkpoint reads back whole", mend="delete the folder and train anew")
    return None


def _read(place: Path) -> State | None:
    """The state in one folder; None where a part of it is missing, truncated or changed."""
    try:
        about = json.loads((place / NUMBERS).read_text())
        if _digest(place / TENSORS) != about["sha256"]:
            return None
        tensors = load_file(place / TENSORS)
        numbers = about["progress"]
        progress = Progress(**{**numbers, "scores": tuple(dict(scores) for scores in numbers["scores"])})
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        parts[part][name] = tensor
    return State(progress, **parts)


def _flat(state: State) -> dict[str, Tensor]:
    parts: dict[str, Mapping[str, Tensor]] = {part: getattr(state, part) for part in PARTS}
    return {f"{part}/{name}": tensor.contiguous() for part, tensors in parts.items() for name, tensor in tensors.items()}


def _numbers(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit())


def _place(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
