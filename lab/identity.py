"""What distinguishes one VM from another, though all of them go on from the same saved state."""

import base64
import os
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from lab.errors import LabError
from lab.qemu import WIRES

_NAMESPACE = uuid.UUID("6d1c0a0e-6f5e-4c8a-9c5e-2f4a4b1f9b11")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    name: str
    number: int  # the last part of its addresses; 1 to 254

    @classmethod
    def of(cls, name: str) -> Self:
        """node, node2, ... have the numbers 1, 2, ...; host1, host2, ... have 11, 12, ..."""
        found = re.fullmatch(r"(node|host)([1-9]?)", name)
        if not found:
            raise LabError(f"a VM is called node, node2 to node9 or host1 to host9, not {name}")
        return cls(name=name, number=(10 if found[1] == "host" else 0) + int(found[2] or 1))

    def address(self, wire: str, *, ipv6: bool = False) -> str:
        place = WIRES.index(wire)
        return f"fd77:{place}::{self.number}" if ipv6 else f"10.77.{place}.{self.number}"

    @property
    def macs(self) -> Sequence[str]:
        return [f"52:54:00:00:{place + 1:02x}:{self.number:02x}" for place in range(len(WIRES))]


def personality(identity: Identity) -> str:
    """The script that makes a VM fresh from the saved state this one, now and for its later boots.

    The VMs' random number generators were one: without new randomness their kernels would give out the same uuids.
    """
    macs = dict(zip(WIRES, identity.macs, strict=True))
    wires = "\n".join(
        f"{wire} {macs[wire]} {identity.address(wire)}/24 {identity.address(wire, ipv6=True)}/64"
        for wire in WIRES
    )
    host = uuid.uuid5(_NAMESPACE, f"{identity.name} {uuid.uuid4()}")
    return f"""
date --utc --set=@{time.time():.3f} >/dev/null
python3 -c 'import base64, fcntl, struct
seed = base64.b64decode("{base64.b64encode(os.urandom(64)).decode()}")
with open("/dev/urandom", "wb") as device:
    fcntl.ioctl(device, 0x40085203, struct.pack("ii", len(seed) * 8, len(seed)) + seed)  # RNDADDENTROPY
    fcntl.ioctl(device, 0x5207)  # RNDRESEEDCRNG'
echo {identity.name} >/etc/hostname
hostname {identity.name}
echo {host.hex} >/etc/machine-id
echo InitiatorName=iqn.2024-01.org.weft.lab:{identity.name} >/etc/iscsi/initiatorname.iscsi
mkdir -p /etc/lab
cat >/etc/lab/wires <<'END'
{wires}
END
lab-network
sync
"""
