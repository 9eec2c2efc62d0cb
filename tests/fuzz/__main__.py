"""The command: `python -m tests.fuzz --minutes 10 [--seed N]`. Ends with 1 when there are findings."""

import argparse
import os
import secrets
import sys

from tests.fuzz.campaign import campaign


def main() -> int:
    """Run the fuzzer and print what it found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the front door.")
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("FUZZ_SEED") or secrets.randbits(32)))
    parser.add_argument("--case", type=int, help="run the few cases from this one on, and no more")
    given = parser.parse_args()
    seconds = 0.0 if given.case is not None else given.minutes * 60 + given.seconds or 60.0
    print(f"seed {given.seed}, {seconds:.0f} s", flush=True)
    report = campaign(given.seed, seconds, given.case or 0)
    print(report.table())
    for finding in report.findings:
        print(finding)
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
