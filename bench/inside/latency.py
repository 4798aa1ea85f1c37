"""4 KiB reads, one at a time, from a logical volume in RAM, over an export by weft and over the same one by hand."""

import argparse
import json
import subprocess
from pathlib import Path
from typing import Final

from bench.inside.export import both, in_turn
from bench.inside.rounds import print_round
from weft.model import Transport

_DEVICE: Final = Path("/dev/bench/latency")
_MIB: Final = 64
_RAMP_SECONDS: Final = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("transport", type=Transport)
    parser.add_argument("address")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    with both(_DEVICE, _MIB << 20, options.transport, options.address) as ways:
        for number in range(options.rounds):
            measured = {}
            for name, way in in_turn(ways, number):
                measured[name] = _mean_latency(way.attach(), options.seconds)
                way.detach()
            print_round(measured)


def _mean_latency(device: Path, seconds: int) -> float:
    """Seconds from the submission of a read to its end: psync, for libaio's figure leaves out what submitting costs."""
    words = [
        "fio", "--name=latency", f"--filename={device}", "--rw=randread", "--bs=4k", "--iodepth=1", "--ioengine=psync",
        "--direct=1", "--time_based", f"--runtime={seconds}", f"--ramp_time={_RAMP_SECONDS}", "--norandommap",
        "--randrepeat=1", "--output-format=json",
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, check=True)
    job = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    return float(job["read"]["lat_ns"]["mean"]) / 1e9


if __name__ == "__main__":
    main()
