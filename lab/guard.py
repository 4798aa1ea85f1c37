"""The guard of a lab, see lab.runs.guarded: python -m lab.guard PID START_TIME"""

import sys
import time

from lab.processes import ProcessIdentity
from lab.runs import end_orphans

_DYING_SECONDS = 60.0


def _guard(owner: ProcessIdentity) -> None:
    sys.stdin.read()  # nothing comes; it ends with the process that has the other end
    deadline = time.monotonic() + _DYING_SECONDS
    while owner.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    end_orphans()


if __name__ == "__main__":
    _guard(ProcessIdentity(*(int(each) for each in sys.argv[1:])))
