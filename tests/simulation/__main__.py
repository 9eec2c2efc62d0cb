"""`python -m tests.simulation --schedules N [--every K] [--seed S]`: tell the stories and print what came of them."""

import argparse
import sys
import time

import structlog

from tests.simulation.report import run_all
from tests.simulation.stories import stories


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=250, help="random schedules for each kind of vendor")
    parser.add_argument("--every", type=int, default=1, help="strike at every K-th step only")
    parser.add_argument("--seed", type=int, default=0, help="where the random schedules begin")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    began = time.monotonic()
    report = run_all(stories(asked.schedules, every=asked.every, first=asked.seed))
    print(report.text())
    print(f"\n{time.monotonic() - began:.0f} s")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
