"""weft's embedded host at the kernel's target."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab import Lab, RemoteProcess, Vm, clean, leftovers
from lab.io import MIB, digest, wait_until
from lab.world import Host
from weft.connection import NvmeofConnection, NvmeofPortal, to_data
from weft.model import Transport, VolumeId
from weft.names import host_nqn, new_id, subsystem_nqn

PORT = 4420

KERNEL_TARGET = r"""
modprobe -a nvmet nvmet-tcp
vgcreate --quiet --yes by-hand $DISK
lvcreate --quiet --yes --size 64M --name volume by-hand
cd /sys/kernel/config/nvmet
mkdir subsystems/$NQN hosts/$HOST subsystems/$NQN/namespaces/1
echo -n /dev/by-hand/volume >subsystems/$NQN/namespaces/1/device_path
echo $VOLUME >subsystems/$NQN/namespaces/1/device_uuid
echo 1 >subsystems/$NQN/namespaces/1/enable
ln -s /sys/kernel/config/nvmet/hosts/$HOST subsystems/$NQN/allowed_hosts/
mkdir ports/1
echo tcp >ports/1/addr_trtype
echo ipv4 >ports/1/addr_adrfam
echo $ADDRESS >ports/1/addr_traddr
echo $PORT >ports/1/addr_trsvcid
ln -s /sys/kernel/config/nvmet/subsystems/$NQN ports/1/subsystems/
"""

GROW = "lvextend --quiet --size 128M by-hand/volume; echo 1 >/sys/kernel/config/nvmet/subsystems/$NQN/namespaces/1/revalidate_size"

# Speaks to whoever runs it in lines: a digest of what it wrote, then the size that the volume has grown to.
EMBEDDED_HOST = r"""
import hashlib, os, sys
from weft.connection import from_data
from weft.embedded.host import HostIdentity, Volume
import json
data, nqn, host_id = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
with Volume.open(from_data(data), HostIdentity(nqn=nqn, id=host_id)) as volume:
    before = volume.size
    content = os.urandom(8 * 2**20)
    volume.write(0, content)
    volume.flush()
    assert volume.read(0, len(content)) == content
    volume.write(12_345, b"unaligned")
    volume.write_zeroes(2**20, 2**20)
    volume.flush()
    print(hashlib.sha256(volume.read(0, 16 * 2**20)).hexdigest(), flush=True)
    volume.wait_for_size(2 * before, 120)
    volume.write(2 * before - 4096, content[:4096])
    volume.flush()
    assert volume.read(2 * before - 4096, 4096) == content[:4096]
    print(volume.size, flush=True)
"""

ATTACH_BY_FUSE = r"""
import json, sys
from weft.connectors import open_connector
connector, data = open_connector("nvmeof"), json.loads(sys.argv[2])
print(connector.attach(data) if sys.argv[1] == "attach" else connector.detach(data))
"""


@dataclass(frozen=True, slots=True)
class ByHand:
    """An export of the kernel's target, made by writes to configfs, and the embedded host that it lets in."""

    connection: NvmeofConnection
    host_id: str
    grow: str

    @property
    def data(self) -> str:
        return json.dumps(to_data(self.connection))


@pytest.fixture
def by_hand(lab_with_weft: Lab) -> Iterator[ByHand]:
    vm = lab_with_weft["node"]
    clean(vm)
    volume_id, host_id = VolumeId(new_id()), new_id()
    portal = NvmeofPortal(transport=Transport.TCP, address=vm.address(), port=PORT + 1)
    connection = NvmeofConnection(
        volume_id=volume_id, nqn=subsystem_nqn(volume_id), portals=(portal,), host_nqn=host_nqn(host_id)
    )
    names = (
        f"NQN={connection.nqn}; HOST={connection.host_nqn}; VOLUME={volume_id}; ADDRESS={portal.address}"
        f"; PORT={portal.port}; DISK={vm.disks[3]}\n"
    )
    vm.run(names + KERNEL_TARGET)
    yield ByHand(connection, host_id, names + GROW)
    clean(vm)


def test_the_embedded_host_reads_writes_flushes_and_grows_at_the_kernels_target(
    by_hand: ByHand, node: Vm, host1: Vm
) -> None:
    python = ["/opt/weft/bin/python", "-c", EMBEDDED_HOST, by_hand.data]
    with host1.spawn([*python, by_hand.connection.host_nqn, by_hand.host_id]) as host:
        written = first_line(host)
        assert digest(node, "/dev/by-hand/volume", 16) == written
        node.run(by_hand.grow)
        said = host.wait(180).stdout.splitlines()
    assert said == [written, str(128 * MIB)]


def test_the_embedded_hosts_file_works_at_the_kernels_target(by_hand: ByHand, node: Vm, host1: Vm) -> None:
    Host(host1).configure(connector="embedded", nqn=by_hand.connection.host_nqn, id=by_hand.host_id)
    python = ["/opt/weft/bin/python", "-c", ATTACH_BY_FUSE]
    path = host1.run([*python, "attach", by_hand.data]).stdout.strip()
    host1.run(
        f"mkfs.ext4 -q {path}; dd if=/dev/urandom of={path} bs=1M seek=40 count=8 conv=notrunc,fsync status=none"
    )
    node.run(by_hand.grow)
    wait_until(f"[ $(stat --format=%s {path}) = {128 * MIB} ]", host1, timeout=60, what="growth of the file")
    host1.run(f"e2fsck -f -p {path}; resize2fs {path}")
    seen = host1.run(f"sha256sum <{path}", timeout=300).stdout.split()[0]
    host1.run([*python, "detach", by_hand.data])
    assert digest(node, "/dev/by-hand/volume", 128) == seen
    assert not [line for line in leftovers(host1) if line.startswith(("mount", "process"))]


def first_line(process: RemoteProcess, timeout: float = 120) -> str:
    deadline = time.monotonic() + timeout
    while "\n" not in process.stdout:
        assert process.is_running, process.stderr
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return process.stdout.splitlines()[0]
