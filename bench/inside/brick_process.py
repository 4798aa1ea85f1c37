"""os-brick as a process that runs already: a line of JSON with a verb and a connection in, a line of JSON out.

Run by the VM's Python with os-brick's packages on PYTHONPATH; weft's are not there.
"""

import json
import sys
import time
from typing import Any

VERBS = ("connect", "disconnect")


def main() -> None:
    connector = _connector()
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.perf_counter()
        if asked["verb"] == "connect":
            found = connector.connect_volume(asked["data"])["path"]
        else:
            found = connector.disconnect_volume(asked["data"], None)
        answer = {"seconds": time.perf_counter() - began, "path": found}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _connector() -> Any:
    from os_brick import privileged  # type: ignore[import-not-found]  # noqa: PLC0415
    from os_brick.initiator import connector  # type: ignore[import-not-found]  # noqa: PLC0415

    privileged.default.set_client_mode(False)  # root already: no second process, no time for one
    return connector.InitiatorConnector.factory("NVMEOF", "", device_scan_attempts=20)


if __name__ == "__main__":
    main()
