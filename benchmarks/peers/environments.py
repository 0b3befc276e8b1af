"""The peers' own environments: each made once, from the package index, with the versions that are measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# torch first, since the peers do not bound it
PEERS = {
    "rechub": ("torch-rechub==0.9.0",),
    "deepctr": ("deepctr-torch==0.3.0", "requests", "pandas"),
    "fuxi": ("fuxictr==2.3.10", "polars<2"),
}
READY = "ready.txt"  # in an environment that is whole: what was installed
PATIENCE = ("--disable-pip-version-check", "-q", "--retries", "1", "--timeout", "15")


def made(folder: Path) -> dict[str, str]:
    """Make what is not there yet; of each peer that cannot be had, why."""
    found = {name: missing(name, folder) for name in PEERS}
    return {name: why for name, why in found.items() if why}


def python(name: str, folder: Path) -> Path:
    """The interpreter of a peer's environment."""
    return folder / name / "bin" / "python"


def missing(name: str, folder: Path) -> str | None:
    """Why a peer's environment cannot be had; None when it stands, made now if it did not."""
    wanted = ("torch==2.13.0", *PEERS[name])
    ready = folder / name / READY
    if ready.exists() and ready.read_text().split() == list(wanted):
        return None
    steps = ([sys.executable, "-m", "venv", "--clear", str(folder / name)],
             *([str(python(name, folder)), "-m", "pip", "install", *PATIENCE, *part] for part in (wanted[:1], wanted[1:])))
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip() and "WARNING" not in line and "notice" not in line]
            return f"could not be installed: {lines[-1] if lines else f'exit code {done.returncode}'}"
    ready.write_text("\n".join(wanted) + "\n")
    return None
