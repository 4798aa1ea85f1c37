"""python -m bench lab [--only NAME]..."""

import argparse
import sys
from pathlib import Path
from typing import Final

from bench.figures import FIGURES, save, table
from bench.lab_figures import METHOD, measure
from lab import LabError, LabUnavailableError

_OUT: Final = Path(__file__).parent / "out" / "bench-lab.json"
_UNAVAILABLE: Final = 77  # as test runners understand it: skipped


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="What weft must reach: see bench/README.md"
    )
    parser.add_argument("what", choices=["lab"], help="lab: the figures that take the real kernel")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        choices=[each.name for each in FIGURES],
        help="measure this figure and keep the others of earlier runs; may be repeated",
    )
    options = parser.parse_args()
    try:
        measured = measure(options.only, _say)
    except LabError as error:
        sys.stderr.write(f"bench: {error}\n")
        return _UNAVAILABLE if isinstance(error, LabUnavailableError) else 1
    save(measured, _OUT, METHOD)
    _say(
        f"\n{table(measured)}\n\nWritten to {_OUT.relative_to(Path.cwd()) if _OUT.is_relative_to(Path.cwd()) else _OUT}"
    )
    return 0 if all(each.holds for each in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
