"""Who wins on KuaiRand-Pure with target statistics: recipes, what stands before their experts, balancers, and boosted trees.

Run `python benchmarks/kuairand.py --folder runs/kuairand-study`; a stopped run goes on. Everything but the named changes is
`examples/kuairand-statistics.toml`, whose dropout and statistics were chosen on validation with `ple` and `me_mmoe`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from umbel.run.screen import Screen
from umbel.run.settings import CompareSection, Settings, read
from umbel.study.compare import run_compare
from umbel.study.show import standings

HERE = Path(__file__).parent
RECIPES = ("alone", "mmoe", "ple", "stem", "me_mmoe")
VARIANTS: dict[str, dict[str, dict[str, object]]] = {
    "me_mmoe, target attention": {"model": {"recipe": "me_mmoe", "sequence": "din"}},
    "me_mmoe, cross layers": {"model": {"recipe": "me_mmoe", "interact": "dcn"}},
    "me_mmoe, uncertainty": {"model": {"recipe": "me_mmoe"}, "fit": {"balancer": "uncertainty"}},
    "me_mmoe, pcgrad": {"model": {"recipe": "me_mmoe"}, "fit": {"balancer": "pcgrad"}},
    "me_mmoe, like counts double": {"model": {"recipe": "me_mmoe"}, "fit": {"balancer": "static"}, "balance": {"weights": {"like": 2.0}}},
    "ple, target attention": {"model": {"recipe": "ple", "sequence": "din"}},
    "stem, target attention": {"model": {"recipe": "stem", "sequence": "din"}},
}


def settings(only: Sequence[str], *, seeds: int, controls: bool, trees: bool) -> Settings:
    """The run file of the study, with all entrants or `only` some."""
    plain = read(HERE.parent / "examples" / "kuairand-statistics.toml")
    recipes = [name for name in RECIPES if not only or name in only]
    variants = {name: made for name, made in VARIANTS.items() if not only or name in only}
    asked = {"recipes": recipes, "variants": variants, "seeds": seeds, "controls": controls, "trees": trees}
    return plain.model_copy(update={"compare": CompareSection.model_validate(asked)})


def main() -> None:
    """Compare, print, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/kuairand-study"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=[], help="entrants by name (all)")
    parser.add_argument("--no-trees", action="store_true")
    parser.add_argument("--controls", action="store_true", help="width controls, too")
    parser.add_argument("-o", "--out", type=Path, default=HERE / "results" / "kuairand-statistics.json")
    options = parser.parse_args()
    asked = settings(options.only, seeds=options.seeds, controls=options.controls, trees=not options.no_trees)
    with Screen() as screen:
        found = run_compare(asked, options.folder, jobs=options.jobs, watch=screen)
    standings(found)
    shutil.copy(options.folder / "compare.json", options.out)
    sys.stdout.write(f"{options.out}\n")


if __name__ == "__main__":
    main()
