"""What several workers tell Prometheus together: of those that are gone what they counted, and nothing of the present."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from umbel.serve.http.metrics import SHARED

WORKER = """
from umbel.serve.http.metrics import Metrics
made = Metrics()
made.bundles.labels("stable", "{bundle}").set(1)
made.at_once.inc({at_once})
made.events.labels("accepted").inc(2)
print(made.text().decode())
{waits}
"""


def worker(folder: Path, bundle: str, *, at_once: int, waits: bool = False) -> subprocess.Popen[str]:
    """A worker that answers so much at once, and tells what Prometheus would be told; it ends without a word, or waits to be killed."""
    wait = "import os, sys, time; sys.stdout.flush(); os.close(1); time.sleep(60)" if waits else ""
    code = WORKER.format(bundle=bundle, at_once=at_once, waits=wait)
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, SHARED: str(folder)}, stdout=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str]) -> set[str]:
    assert process.stdout is not None
    lines = process.stdout.read().splitlines()
    return {one for one in lines if one.startswith(("umbel_bundle{", "umbel_requests_in_flight", "umbel_events_total"))}


def test_workers_that_are_gone_are_counted_and_nothing_else(tmp_path: Path) -> None:
    with worker(tmp_path, "a", at_once=1, waits=True) as lives:
        assert told(lives) == {
            'umbel_bundle{bundle="a",label="stable"} 1.0', "umbel_requests_in_flight 1.0", 'umbel_events_total{result="accepted"} 2.0'
        }  # fmt: skip
        with worker(tmp_path, "b", at_once=5) as gone:
            assert 'umbel_bundle{bundle="b",label="stable"} 1.0' in told(gone)
        with worker(tmp_path, "c", at_once=2) as new:
            assert told(new) == {
                'umbel_bundle{bundle="a",label="stable"} 1.0', 'umbel_bundle{bundle="c",label="stable"} 1.0',
                "umbel_requests_in_flight 3.0", 'umbel_events_total{result="accepted"} 6.0',
            }  # fmt: skip
        assert lives.poll() is None
        lives.kill()
