"""The real os-brick, as OpenStack's Nova and Cinder use it, attaches a volume by weft's connection data."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_host.exported import SIZE, connector, export, grow
from lab import Lab, Rdma, Vm, clean
from lab.packages import archive_packages, put_packages
from weft.connection import NvmeofPortal, to_data
from weft.model import Transport

pytestmark = [pytest.mark.lab_full, pytest.mark.timeout(1800)]

REQUIREMENTS = Path(__file__).with_name("os_brick_requirements.txt")

OS_BRICK = r"""
import json, sys
from os_brick import privileged
privileged.default.set_client_mode(False)  # root already
from os_brick.initiator import connector
verb, data = sys.argv[1], json.load(sys.stdin)
made = connector.InitiatorConnector.factory("NVMEOF", "", device_scan_attempts=20)
if verb == "connect":
    print(made.connect_volume(data)["path"])
elif verb == "extend":
    print(made.extend_volume(data))
else:
    made.disconnect_volume(data, {"path": sys.argv[2]})  # as Nova remembers it; it does nothing without
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """os-brick and all that it needs, for the Python of the VMs."""
    archive = tmp_path_factory.mktemp("archive") / "packages.tar"
    archive_packages(REQUIREMENTS, archive)
    return archive


@pytest.fixture
def pair(lab_with_weft: Lab, packages: Path) -> Iterator[tuple[Vm, Vm]]:
    node, host = lab_with_weft["node"], lab_with_weft["host1"]
    for each in (node, host):
        each.rdma(Rdma.RXE, "wire1")
    put_packages(host, packages, "/root/os-brick")
    yield node, host
    for each in (host, node):
        clean(each)


def _os_brick(host: Vm, verb: str, data: dict[str, object], *more: str) -> str:
    command = [
        "env",
        "PYTHONPATH=/root/os-brick",
        "OSLO_LOCK_PATH=/run/os-brick",
        "python3",
        "-Wignore",
        "-c",
        OS_BRICK,
        verb,
        *more,
    ]
    return host.run(command, timeout=300, stdin=json.dumps(data)).stdout.strip()


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.RDMA])
def test_os_brick_attaches_extends_and_detaches_a_volume(pair: tuple[Vm, Vm], transport: Transport) -> None:
    node, host = pair
    portal = NvmeofPortal(transport=transport, address=node.address("wire1"), port=4420)
    connection = export(node, host, (portal,))
    data = to_data(connection)
    path = connector(
        host, "attach", data
    )  # weft's own connector makes the machine's identity, which both use
    connector(host, "detach", data)

    assert _os_brick(host, "connect", data) == path
    host.run(f"echo -n by-os-brick | dd of={path} oflag=sync status=none")
    assert node.run(f"head -c 11 /root/{connection.volume_id}").stdout == "by-os-brick"
    grow(node, connection, 2 * SIZE)
    assert _os_brick(host, "extend", data) == str(2 * SIZE)
    assert connector(host, "attach", data) == path  # it is the same attachment
    _os_brick(host, "disconnect", data, path)
    assert host.run("ls -A /sys/class/nvme").stdout == ""
