"""Runs in a VM of the lab: verbs of the kernel's target, one after the other, in a process of their own.

Reads JSON from standard input: {"portals": [...], "expect": [...] or null, "verbs": [...], "wait": seconds for portals to open, "hold":
whether to live on until told}. A verb is ["create", volume id, path, size, {host NQN: [host key, controller key] or null}] or
["remove", volume id]. Writes JSON: what each verb gave or the error's class and text, then what there is. Each run is a restart of weft: all else is in configfs.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from weft.config import ConfigFile, TargetKind, TargetSection, check_config
from weft.errors import UnavailableError, WeftError
from weft.model import DhChapSecrets, Export, ExportHost, HostId, VolumeId
from weft.targets import NvmetTarget

TRIES = 60
STAYING = Path("/root/nvmet_verbs.staying")


def run(target: NvmetTarget, verb: list[Any]) -> object:
    said = ""
    for _ in range(TRIES):
        try:
            return run_once(target, verb)
        except UnavailableError as error:
            said = f"{type(error).__name__}: {error}"
            time.sleep(1)
        except WeftError as error:
            return f"{type(error).__name__}: {error}"
    return said


def run_once(target: NvmetTarget, verb: list[Any]) -> object:
    if verb[0] == "remove":
        target.remove_export(verb[1])
        return None
    _, volume_id, path, size, hosts = verb
    export = Export(
        volume_id=VolumeId(volume_id),
        path=Path(path),
        size=size,
        hosts=tuple(
            ExportHost(
                host_id=HostId(nqn),
                initiator=nqn,
                secrets=DhChapSecrets(host_key=keys[0], controller_key=keys[1]) if keys else None,
            )
            for nqn, keys in hosts.items()
        ),
    )
    return {nqn: [str(each) for each in made.portals] for nqn, made in target.create_export(export).items()}


def stay_until_told() -> None:
    """Until the file that says so is taken away, two minutes at most."""
    STAYING.touch()
    deadline = time.monotonic() + 120
    while STAYING.exists() and time.monotonic() < deadline:
        time.sleep(0.1)


def main() -> None:
    asked = json.load(sys.stdin)
    target = NvmetTarget(
        check_config(
            ConfigFile(
                data_dir="/root/weft-nvmet",
                target=TargetSection(kind=TargetKind.NVMET, portals=tuple(asked["portals"])),
            )
        )
    )
    target.start()
    target.expect(frozenset(asked.get("expect") or ()))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda verb: run(target, verb), asked["verbs"]))
    deadline = time.monotonic() + asked.get("wait", 0)
    while target.troubles() and time.monotonic() < deadline:
        time.sleep(0.1)
    if asked.get("hold"):
        stay_until_told()
    found = target.exports()
    json.dump(
        {
            "answers": answers,
            "exports": {
                each.volume_id: {
                    "complete": each.complete,
                    "portals": each.portals,
                    "initiators": sorted(each.initiators),
                    "size": each.size,
                    "digests": dict(each.key_digests),
                }
                for each in found.values()
            },
            "refusals": {
                volume_id: [[each.initiator, each.reason.value] for each in target.refusals(volume_id)]
                for volume_id in found
            },
            "troubles": list(target.troubles()),
        },
        sys.stdout,
    )
    target.stop()


main()
