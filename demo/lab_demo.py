"""The main job on the real thing, in virtual machines: LVM, nvmet, RDMA and TCP, a storage node and a host.

Ends its machines, and with exit code 0 only if every step held.
"""

import signal
import sys
import time

from rich.console import Console

from lab import Lab, LabUnavailableError
from lab_story import LabStory
from stage import Stage


def main() -> int:
    console = Console(highlight=False, soft_wrap=True)
    stage = Stage(console)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the machines are ended on the way out
    started = time.monotonic()
    failure = ""
    lab = Lab(["node", "host1"], say=lambda line: console.print(line, markup=False))
    try:
        with stage.step("start a storage node and a host, on two wires") as step:
            lab.__enter__()
            step.result = ", ".join(f"{vm.name} {vm.address('wire0')}" for vm in lab.vms.values())
        LabStory(stage, lab).run()
    except LabUnavailableError as error:
        failure = str(error)
    except KeyboardInterrupt:
        failure = "interrupted"
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
        for vm in lab.vms.values():
            console.print(f"kernel of {vm.name}:\n{vm.kernel_log()[-2000:]}", markup=False)
    finally:
        lab.__exit__()
    stage.summarise("weft in the lab")
    console.print(f"in {time.monotonic() - started:.0f} s; the machines have ended")
    if failure:
        console.print(failure, style="red", markup=False)
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
