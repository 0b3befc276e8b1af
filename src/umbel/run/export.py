"""A bundle's model as ONNX: encoded fields in, calibrated predictions by name out, checked against the bundle's golden rows."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import onnxruntime
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.export import Dim

from umbel import durable
from umbel.bundle import Bundle, chained, golden_batch
from umbel.data.batch import Batch
from umbel.data.storage import schema_to_json
from umbel.errors import UserError
from umbel.evaluate.portable import answered
from umbel.manifest import name_of, read_json

TOLERANCE = 1e-5       # on predictions, across runtimes
MOST = 2**31 - 2**20   # bytes of a protocol buffer, less what a graph may take beside its weights
OPSET = 18


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: the names of its inputs and outputs, its bytes, and how far golden rows came out from what they should be."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    size: int
    worst: float


@final
class Portable(nn.Module):
    """What `Bundle.predict` does, as one module of torch operations: logits, what training raised them by off, links, calibration."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.model, self.schema, self.calibrators = bundle.model, bundle.schema, bundle.calibrators
        self.register_buffer("raised", torch.from_numpy(bundle.schema.raised))

    def forward(self, fields: Mapping[str, Tensor]) -> tuple[Float32[Tensor, "rows"], ...]:
        """A prediction a column, in the order of `Bundle.columns`."""
        schema, logits = self.schema, self.model(fields).double()[:, : len(self.schema.raised)] - self.raised
        found = {task.name: answered(task.kind, self.calibrators[task.name], logits[:, part])
                 for task, part in zip(schema.tasks, schema.outputs, strict=True)}
        whole = [torch.cat([found[step] for step in schema.chain(name)], dim=1).log().sum(1).exp() for name in chained(schema)]
        return tuple(column.float() for column in (*(column for one in found.values() for column in one.unbind(1)), *whole))


def export(folder: Path, out: Path) -> Exported:
    """Write the model of a bundle as one ONNX file, whole or not at all.

    Inputs are the fields, encoded as the bundle's `encoder` has them (codes as int32, numbers standardised as float32; `rows`, or
    `rows length`), any number of rows; outputs are `Bundle.columns` as float32. The file's metadata has the bundle's name, the schema and
    the columns. Users' own states, fusion and retrieval are not in it.

    :raises UserError: for a bundle that cannot be read, one too large for the format, predictions that differ by more than
        1e-5 (relative to amounts above 1), or a full disk.
    """
    bundle = Bundle.load(folder)
    if bundle.built.tables != "float32":
        raise UserError(f"{folder}: its tables are {bundle.built.tables}", mend="export the bundle that `umbel shrink` was given")
    size = sum(tensor.numel() * tensor.element_size() for tensor in bundle.model.state_dict().values())
    if size > MOST:
        mend = "an ONNX file holds 2 GiB; train with a smaller dim, or a larger min_count"
        raise UserError(f"{folder}: weights of {size / 2**30:.1f} GiB", mend=mend)
    golden, expected = golden_batch(folder, bundle.encoder), np.array(read_json(folder, "golden.json")["scores"])
    with durable.file(out) as made:
        _write(bundle, golden, made, about={"bundle": name_of(folder), "schema": schema_to_json(bundle.schema), "columns": bundle.columns})
        worst = _worst(made, golden, expected)
        if not worst <= TOLERANCE:
            raise UserError(f"{out}: golden rows score otherwise as ONNX, by up to {worst:.2g} (allowed {TOLERANCE:g})",
                            mend="serve the bundle itself")
        written = made.stat().st_size
    return Exported(tuple(golden.fields), bundle.columns, written, worst)


def _write(bundle: Bundle, golden: Batch, path: Path, *, about: Mapping[str, object]) -> None:
    rows = Dim("rows", min=1)
    with warnings.catch_warnings(), _silent(logging.getLogger("torch.onnx")):  # torch's exporter warns of itself, and of torchvision
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Portable(bundle).eval(), (), kwargs={"fields": dict(golden.fields)},
            dynamic_shapes={"fields": {name: {0: rows} for name in golden.fields}},
            input_names=list(golden.fields), output_names=list(bundle.columns), opset_version=OPSET, dynamo=True, verbose=False,
        )  # fmt: skip
    assert program is not None
    program.model.metadata_props.update({name: json.dumps(value) for name, value in about.items()})
    program.save(str(path), external_data=False)


@contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _worst(path: Path, golden: Batch, expected: Float[np.ndarray, "rows columns"]) -> float:
    """The greatest difference of a prediction, of all rows at once and one by one; of amounts above 1 relative to them."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    fields = {name: tensor.numpy() for name, tensor in golden.fields.items()}

    def runs() -> Iterator[tuple[slice, list[np.ndarray]]]:
        for part in (slice(None), *(slice(row, row + 1) for row in range(len(expected)))):
            yield part, session.run(None, {name: column[part] for name, column in fields.items()})

    return max(float((np.abs(np.stack(found, 1) - expected[part]) / np.maximum(1, np.abs(expected[part]))).max()) for part, found in runs())
