"""A bundle whose tables take fewer bytes: how many, what each figure on a log lost, and how much longer it scores.

Run `umbel train examples/kuairand.toml -o runs/kuairand --set fit.epochs=4`, then, in the same folder, `python benchmarks/shrink.py
runs/kuairand/bundle TEST.parquet`, TEST the rows of the log that are to be judged. Scoring is timed in one thread, all forms in turn.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import measured
import torch

from umbel.bundle import Bundle
from umbel.data.batch import Batch
from umbel.data.raw import rows
from umbel.nn.packed import TABLES, Packed
from umbel.run.shrink import changed, shrink
from umbel.run.use import source_of

FORMS = [name for name, one in TABLES.items() if isinstance(one, Packed)]
SIZES = (1000, 50)  # rows scored at once


def seconds(bundle: Bundle, batch: Batch) -> float:
    """Of one scoring."""
    began = time.perf_counter()
    bundle.predict(batch)
    return time.perf_counter() - began


def main() -> None:
    """Parse, shrink, judge, time in turn, write."""
    parser = measured.parser(__file__, __doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("log")
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        made = {form: shrink(options.bundle, Path(name) / form, form, log=options.log) for form in FORMS}
        bundles = {"float32": Bundle.load(options.bundle), **{form: Bundle.load(Path(name) / form) for form in FORMS}}
        first = bundles["float32"]
        source = source_of(first, options.log, joins=(), labels=False)
        found = [measured.ratio(f"{form}: bytes of the table over float32's", [one.after / one.before]) for form, one in made.items()]
        for size in SIZES:
            _, batch = next(rows(source, first.encoder, size, labels=False))
            took = [{form: seconds(bundle, batch) for form, bundle in bundles.items()} for _ in range(options.rounds)]
            for form in FORMS:
                ratios = measured.over([one[form] for one in took], [one["float32"] for one in took])
                found.append(measured.ratio(f"{form}: seconds to score {size:,} rows over float32's", ratios))
    content = {form: {"golden_moved": one.moved, "changed": [list(figure) for figure in changed(one)]} for form, one in made.items()}
    measured.write(options.o, content, found, threads=1)


if __name__ == "__main__":
    main()
