"""What tests of hosts share: an export made by plain writes to configfs on the node, and weft's connector on the host."""

import json
import sys

from lab import Vm
from weft.connection import NvmeofConnection, NvmeofPortal
from weft.model import VolumeId
from weft.names import new_id, subsystem_nqn

SIZE = 64 * 2**20

_EXPORT = r"""
modprobe -a nvmet nvmet-tcp nvmet-rdma
cd /sys/kernel/config/nvmet
mkdir -p "subsystems/$NQN" "hosts/$HOST"
truncate -s 64M "/root/$VOLUME"
ln -s "/sys/kernel/config/nvmet/hosts/$HOST" "subsystems/$NQN/allowed_hosts/"
mkdir "subsystems/$NQN/namespaces/1"
echo -n "/root/$VOLUME" >"subsystems/$NQN/namespaces/1/device_path"
echo "$VOLUME" >"subsystems/$NQN/namespaces/1/device_uuid"
echo 1 >"subsystems/$NQN/namespaces/1/enable"
number=0
for portal in $PORTALS; do
    number=$((number + 1))
    IFS=, read -r transport address port <<<"$portal"
    mkdir "ports/$number"
    echo "$transport" >"ports/$number/addr_trtype"
    echo ipv4 >"ports/$number/addr_adrfam"
    echo "$address" >"ports/$number/addr_traddr"
    echo "$port" >"ports/$number/addr_trsvcid"
    ln -s "/sys/kernel/config/nvmet/subsystems/$NQN" "ports/$number/subsystems/"
done
"""

_CONNECTOR = r"""
import json, sys
from weft.connectors import open_connector
verb, data = sys.argv[1], json.load(sys.stdin)
connector = open_connector("nvmeof")
if verb == "initiator":
    print(connector.initiator().port_name)
elif verb == "paths":
    print(json.dumps([[each.transport, each.state] for each in connector.attached()[0].controllers]))
else:
    print(getattr(connector, verb)(data) or "")
"""


def connector(host: Vm, verb: str, data: dict[str, object] | None = None) -> str:
    command = ["/opt/weft/bin/python", "-c", _CONNECTOR, verb]
    done = host.run(command, timeout=120, stdin=json.dumps(data or {}))
    sys.stderr.write(done.stderr)  # warnings, for the report of a test that fails
    return done.stdout.strip()


def export(node: Vm, host: Vm, portals: tuple[NvmeofPortal, ...]) -> NvmeofConnection:
    volume_id = VolumeId(new_id())
    connection = NvmeofConnection(
        volume_id=volume_id,
        nqn=subsystem_nqn(volume_id),
        portals=portals,
        host_nqn=connector(host, "initiator"),
    )
    listed = " ".join(f"{each.transport},{each.address},{each.port}" for each in portals)
    names = f"NQN={connection.nqn} HOST={connection.host_nqn} VOLUME={volume_id} PORTALS='{listed}'\n"
    node.run(names + _EXPORT, timeout=120)
    return connection


def grow(node: Vm, connection: NvmeofConnection, size: int) -> None:
    namespace = f"/sys/kernel/config/nvmet/subsystems/{connection.nqn}/namespaces/1"
    node.run(f"truncate -s {size} /root/{connection.volume_id}; echo 1 >{namespace}/revalidate_size")
