"""From a call of the API to a usable device with weft, and from a made export to a usable device with os-brick.

Both are processes that run already; weft serves in a process of its own, on a thin pool.
"""

import argparse
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.inside.rounds import print_round, timed, wait_until
from weft.client import Client
from weft.config import Config, ConnectorKind, load_config
from weft.connection import NvmeofConnection, to_data
from weft.connectors import open_connector
from weft.errors import UnavailableError
from weft.model import HostId, Protocol, StateStatus, VolumeId
from weft.requests import CreateAttachmentRequest, CreateVolumeRequest, HostRequest

_FOLDER: Final = Path("/var/tmp/weft-bench")
_OS_BRICK: Final = "/opt/os-brick"
_SIZE: Final = 1 << 30
_SECONDS: Final = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    with _serving(options.address) as config, _os_brick() as os_brick:
        client, connector = Client.for_config(config, timeout=_SECONDS), open_connector("nvmeof", config)
        host = client.create_host(HostRequest(name="bench", initiators=(connector.initiator(),)))
        ours, theirs = (_volume(client, name) for name in ("weft", "os-brick"))
        weft = _Weft(client, connector, ours, host.id)
        exported = to_data(_attachment(client, theirs, host.id))
        for number in range(options.rounds + 1):
            measured = {"weft": weft.attach(), "plain": os_brick.ask("connect", exported)}
            os_brick.ask("disconnect", exported)
            weft.detach()
            if number:  # the first loads modules and programs
                print_round(measured)


@dataclass(slots=True)
class _Weft:
    client: Client
    connector: Any
    volume_id: VolumeId
    host_id: HostId

    def attach(self) -> float:
        """Seconds from the call of the API to the device."""
        with timed() as watch:
            connection = _attachment(self.client, self.volume_id, self.host_id)
            path = self.connector.attach(connection)
        if not path.is_block_device():
            raise RuntimeError(f"{path} is no block device")
        return watch.seconds

    def detach(self) -> None:
        for view in self.client.attachments(self.volume_id, self.host_id):
            if view.connection is not None:
                self.connector.detach(view.connection)
            self.client.delete_attachment(view.attachment.id, wait=_SECONDS)


class _OsBrick:
    """The other process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, verb: str, data: Mapping[str, object]) -> float:
        """Seconds that it took. Raises RuntimeError when it has failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"verb": verb, "data": data}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("os-brick has ended")
        return float(json.loads(line)["seconds"])


def _volume(client: Client, name: str) -> VolumeId:
    return client.create_volume(CreateVolumeRequest(name=name, size=_SIZE), wait=_SECONDS).volume.id


def _attachment(client: Client, volume_id: VolumeId, host_id: HostId) -> NvmeofConnection:
    view = client.create_attachment(
        CreateAttachmentRequest(volume_id=volume_id, host_id=host_id), wait=_SECONDS
    )
    if not isinstance(view.connection, NvmeofConnection) or view.connection.protocol is not Protocol.NVMEOF:
        raise RuntimeError(f"volume {volume_id} is not exported: {view.reason}")
    return view.connection


@contextmanager
def _serving(address: str) -> Iterator[Config]:
    """`weft serve` on a thin pool in the volume group `bench`."""
    _FOLDER.mkdir(mode=0o700, exist_ok=True)
    path = _FOLDER / "weft.toml"
    path.write_text(
        f'data_dir = "{_FOLDER}/data"\nruntime_dir = "{_FOLDER}/run"\nnode_name = "bench"\n'
        f'[target]\nkind = "nvmet"\nportals = ["{address}:4420"]\n'
        f'[host]\nconnector = "{ConnectorKind.KERNEL.value}"\n'
        '[[pools]]\nname = "bench"\nkind = "lvm"\nvolume_group = "bench"\nover_commit = 100\n',
        "utf-8",
    )
    config = load_config(path)
    with (_FOLDER / "log").open("wb") as log:
        process = subprocess.Popen(
            ["/opt/weft/bin/weft", "--config", str(path), "serve"],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        client = Client.for_config(config)
        wait_until(lambda: _is_ready(client), seconds=_SECONDS, what="weft serve with its pool", pause=0.2)
        yield config
    finally:
        process.terminate()
        process.wait(_SECONDS)


@contextmanager
def _os_brick() -> Iterator[_OsBrick]:
    words = ["python3", "-Wignore", str(Path(__file__).with_name("brick_process.py"))]
    environment = {**os.environ, "PYTHONPATH": _OS_BRICK, "OSLO_LOCK_PATH": "/run/os-brick"}
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield _OsBrick(process)
        finally:
            process.kill()


def _is_ready(client: Client) -> bool:
    """Whether the API answers, and the pool was looked at."""
    try:
        return all(each.status is StateStatus.AVAILABLE for each in client.pools())
    except UnavailableError:
        return False


if __name__ == "__main__":
    main()
