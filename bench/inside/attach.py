"""An export made and attached, by weft's code in a running process and by a shell script."""

import argparse
from pathlib import Path
from typing import Final

from bench.inside.export import both, in_turn
from bench.inside.rounds import print_round, timed
from weft.model import Transport

_DEVICE: Final = Path("/dev/bench/latency")
_MIB: Final = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("transport", type=Transport)
    parser.add_argument("address")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    with both(_DEVICE, _MIB << 20, options.transport, options.address) as ways:
        for number in range(options.rounds + 1):
            measured = {}
            for name, way in in_turn(ways, number):
                with timed() as watch:
                    way.attach()
                measured[name] = watch.seconds
                way.detach()
            if number:  # the first loads modules and programs
                print_round(measured)


if __name__ == "__main__":
    main()
