"""How fast the candidates of one request are scored, without HTTP, log and order: ours beside whole rows through torch and ONNX Runtime.

Run `python benchmarks/scoring.py`: the bundles and requests of benchmarks/serving.py, in one process and one thread, in turns, by
processor time. From dictionaries, the plain ways look every value up and score whole rows; from codes that are ready they
only score. It also measures what calls for several requests at once could save.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import measured
import numpy as np
import onnxruntime
import torch
from serving import RECIPES, bodies, bundle, table
from torch import Tensor

from umbel.bundle import Bundle
from umbel.run.export import export
from umbel.serve.served import load

MERGED = 4  # requests that one call would predict
GOAL = 3.0  # times plain torch
WAIT = 5.0  # milliseconds, at the 99th percentile
OURS, TORCH, ONNX = "umbel", "torch", "ONNX Runtime"
READY = ", codes ready"
Asked = tuple[Mapping[str, int], Sequence[Mapping[str, int]]]  # what user and request say, and each item
Fields = dict[str, Tensor]


def requests(count: int, candidates: int) -> list[Asked]:
    """What `serving.bodies` sends, read."""
    sent = [json.loads(body) for body in bodies(count, candidates)]
    return [({"user": int(one["user_id"]), **one["context"]},
             [{"item": int(item["item_id"]), **item["fields"]} for item in one["items"]]) for one in sent]


class Whole:
    """Whole rows: every value of every row looked up in a dictionary, and all of them scored."""

    def __init__(self, one: Bundle) -> None:
        self.model = one.model
        vocabularies = one.encoder.vocabularies
        self.codes = {field.name: {value: code for code, value in enumerate(vocabularies[field.name].frame["value"].to_list(), start=1)}
                      for field in one.schema.fields}

    def fields(self, asked: Asked) -> Fields:
        """A column of codes a field."""
        shared, items = asked
        rows = [{**shared, **item} for item in items]
        return {name: torch.tensor([codes.get(row.get(name), 0) for row in rows], dtype=torch.int32) for name, codes in self.codes.items()}

    def score(self, fields: Fields) -> np.ndarray:
        """Chances by torch."""
        with torch.inference_mode():
            chances: np.ndarray = self.model(fields).sigmoid().numpy()
        return chances


def ways(path: Path) -> tuple[Whole, dict[str, Callable[[Asked, Fields], object]]]:
    """Each way to score a request, of which the codes may be used that are ready."""
    reader, whole = load(path).reader, Whole(Bundle.load(path))
    export(path, path.parent / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path.parent / "model.onnx"), options, providers=["CPUExecutionProvider"])

    def onnx(fields: Fields) -> object:
        return session.run(None, {name: column.numpy() for name, column in fields.items()})

    return whole, {
        OURS: lambda asked, ready: reader.predict(*asked),
        TORCH: lambda asked, ready: whole.score(whole.fields(asked)),
        TORCH + READY: lambda asked, ready: whole.score(ready),
        ONNX: lambda asked, ready: onnx(whole.fields(asked)),
        ONNX + READY: lambda asked, ready: onnx(ready),
    }


def stage(path: Path, *, candidates: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Processor milliseconds a request of each way, and the 99th percentile by the clock, round by round."""
    sent = requests(100, candidates)
    whole, every = ways(path)
    coded = [whole.fields(one) for one in sent]
    found: dict[str, dict[str, list[float]]] = {name: {"cpu": [], "p99": []} for name in every}
    for number in range(rounds + 2):
        for name, way in every.items():
            began, took = time.process_time(), []
            for asked, ready in zip(sent, coded, strict=True):
                start = time.perf_counter()
                way(asked, ready)
                took.append(1e3 * (time.perf_counter() - start))
            if number > 1:  # before that, items are met for the first time
                found[name]["cpu"].append(1e3 * (time.process_time() - began) / len(sent))
                found[name]["p99"].append(float(np.percentile(took, 99)))
    return found


def told(recipe: str, found: Mapping[str, Mapping[str, Sequence[float]]], candidates: int) -> list[measured.Ratio]:
    """Every way over ours, and how long ours takes at most."""
    what, own = f"{recipe}, {candidates} candidates", found[OURS]
    return [
        *(measured.ratio(f"{what}: {name} over {OURS}", measured.over(one["cpu"], own["cpu"]), goal=GOAL if name == TORCH else None)
          for name, one in found.items() if name != OURS),
        measured.ratio(f"{what}: p99 of {OURS}, ms", own["p99"], goal=WAIT, most=True),
    ]  # fmt: skip


def merging(path: Path, candidates: int, *, rounds: int) -> list[float]:
    """Predicting the candidates of `MERGED` requests in one call over that in a call each, by processor time.

    The one call has one user for all, so that it bounds from below what a call for several requests could cost.
    """
    reader, read = load(path).reader, requests(20 * MERGED, candidates)
    merged = [(read[at][0], [item for _, items in read[at : at + MERGED] for item in items]) for at in range(0, len(read), MERGED)]
    took: dict[int, list[float]] = {1: [], MERGED: []}
    for _ in range(1 + rounds):
        for count, asked in ((1, read), (MERGED, merged)):
            began = time.process_time()
            for shared, items in asked:
                reader.predict(shared, items)
            took[count].append(time.process_time() - began)
    return measured.over(took[MERGED][1:], took[1][1:])


def main() -> None:
    """Every recipe; figures to benchmarks/results/scoring.json."""
    parser = measured.parser(__file__, __doc__)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    milliseconds: dict[str, dict[str, dict[str, float]]] = {}
    ratios: list[measured.Ratio] = []
    with tempfile.TemporaryDirectory() as name:
        made = table(Path(name))
        for recipe in asked.recipes:
            path = bundle(made, recipe, Path(name))
            found = stage(path, candidates=asked.candidates, rounds=asked.rounds)
            milliseconds[recipe] = {way: measured.quartiles(one["cpu"]) for way, one in found.items()}
            ratios += told(recipe, found, asked.candidates)
            ratios += [measured.ratio(f"{recipe}: {size} candidates of {MERGED} requests in one call over {MERGED} calls, at the least",
                                      merging(path, size, rounds=asked.rounds)) for size in (20, asked.candidates)]
    measured.write(asked.o, {"processor_milliseconds_a_request": milliseconds}, ratios)
    json.dump(milliseconds, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
