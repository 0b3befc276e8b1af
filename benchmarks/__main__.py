"""The benchmarks of speed, one after another; each leaves its figures in benchmarks/results/. Studies train for hours: run one by name."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = [HERE / f"{name}.py" for name in ("balancers", "ingest", "meta_step", "row_optimizers", "seam", "serving", "training")]


def main() -> None:
    """Run each script in a process of its own, so that one's memory and threads are not another's."""
    for script in SCRIPTS:
        print(f"== {script.stem}", flush=True)
        subprocess.run([sys.executable, str(script)], check=True)


main()
