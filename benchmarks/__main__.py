"""Every benchmark here, one after another; each leaves its figures in benchmarks/results/."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = sorted(path for path in HERE.glob("*.py") if path.name != "__main__.py")


def main() -> None:
    """Run each script in a process of its own, so that one's memory and threads are not another's."""
    for script in SCRIPTS:
        print(f"== {script.stem}", flush=True)
        subprocess.run([sys.executable, str(script)], check=True)


main()
