"""The kernel's NVMe/TCP host at weft's embedded target, and weft's embedded host at the kernel's target."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from lab import CommandFailedError, Lab, RemoteProcess, Vm, clean, leftovers
from lab.io import MIB, VerifyingFio, digest, ext4_content, make_ext4, wait_until
from lab.world import Host, NodeSetup, StorageNode
from weft.connection import NvmeofConnection, NvmeofPortal, to_data
from weft.model import GIB, Transport, VolumeId
from weft.names import host_nqn, new_id, subsystem_nqn

PORT = 4420
STRANGER = host_nqn("cccccccc-1111-4111-8111-111111111111")


TARGET = "embedded[.]target_process"

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


class KernelHost:
    """The Linux host, by nvme-cli alone."""

    def __init__(self, vm: Vm) -> None:
        self.vm = vm
        vm.run(["modprobe", "nvme-tcp"])
        self.nqn = Host(vm).make_identity()

    def discover(self, address: str, nqn: str) -> set[str]:
        """The subsystems that a host of this NQN is shown."""
        words = [
            "nvme",
            "discover",
            "-t",
            "tcp",
            "-a",
            address,
            "-s",
            str(PORT),
            "-q",
            nqn,
            "-I",
            new_id(),
            "-o",
            "json",
        ]
        done = self.vm.run(words, check=False)
        if "No discovery log entries" in done.stdout + done.stderr:
            return set()
        assert done.status == 0, done.stderr
        records = json.loads(done.stdout)["records"] if done.stdout.strip() else []
        return {record["subnqn"] for record in records if record["subtype"] == "nvme subsystem"}

    def connect(self, connection: NvmeofConnection, *options: str) -> str:
        """Connect by the first portal; the device's path."""
        portal = connection.portals[0]
        self.vm.run(
            ["nvme", "connect", "-t", "tcp", "-a", portal.address, "-s", str(portal.port), "-n", connection.nqn,
             "--reconnect-delay=1", *options]
        )  # fmt: skip
        link = f"/dev/disk/by-id/nvme-uuid.{connection.volume_id}"
        wait_until(f"[ -b {link} ]", self.vm, timeout=60, what=f"the device of {connection.volume_id}")
        return self.vm.run(["readlink", "-f", link]).stdout.strip()

    def disconnect(self) -> None:
        self.vm.run(["nvme", "disconnect-all"])


@pytest.fixture(scope="module")
def node(lab_with_weft: Lab) -> Iterator[StorageNode]:
    node = StorageNode(
        lab_with_weft["node"],
        NodeSetup(target="embedded", pool="file", portals=(f"10.77.0.1:{PORT}", f"[fd77:0::1]:{PORT}")),
    )
    node.start()
    yield node
    node.close()


@pytest.fixture(scope="module")
def linux(node: StorageNode, lab: Lab) -> KernelHost:
    linux = KernelHost(lab["host1"])
    node.register("host1", linux.nqn)
    return linux


@pytest.fixture
def connected(node: StorageNode, linux: KernelHost) -> Iterator[tuple[str, str]]:
    """A volume's name, and its device on the Linux host."""
    name = f"volume-{new_id()}"
    node.create(name)
    device = linux.connect(admit(node, name))
    yield name, device
    linux.disconnect()


def admit(node: StorageNode, name: str) -> NvmeofConnection:
    return node.admit(name, node.client.hosts(name="host1")[0].id)


def test_linux_discovers_what_it_may_use_and_a_stranger_nothing(node: StorageNode, linux: KernelHost) -> None:
    node.create("mine")
    node.create("nobodys")
    connection = admit(node, "mine")
    for address in ("10.77.0.1", "fd77:0::1"):
        assert linux.discover(address, linux.nqn) == {connection.nqn}
        assert linux.discover(address, STRANGER) == set()
    with pytest.raises(CommandFailedError):
        linux.connect(connection, "--hostnqn", STRANGER, "--hostid", new_id())


def test_linux_makes_a_file_system_that_is_clean_and_sees_the_volume_grow(
    node: StorageNode, linux: KernelHost, connected: tuple[str, str]
) -> None:
    name, device = connected
    content = make_ext4(linux.vm, device)
    backing = node.volume(name).path
    node.extend(name, 2)
    wait_until(
        f"[ $(blockdev --getsize64 {device}) = {2 * GIB} ]", linux.vm, timeout=20, what="growth of the device"
    )
    linux.vm.run(f"e2fsck -f -p {device}; resize2fs {device}")
    assert ext4_content(linux.vm, device) == content
    assert node.vm.run(["stat", "--format=%s", backing]).stdout.strip() == str(2 * GIB)
    assert ext4_content(node.vm, backing) == content


def test_linux_goes_on_when_the_target_is_killed(
    node: StorageNode,
    linux: KernelHost,
    connected: tuple[str, str],
    record_property: Callable[[str, object], None],
) -> None:
    name, device = connected
    before = target_pid(node.vm)
    with VerifyingFio(linux.vm, device) as fio:
        fio.wait_for_progress()
        node.vm.run(["kill", "-KILL", before])
        wait_until(
            f"pid=$(pgrep --full '{TARGET}') && [ $pid != {before} ]",
            node.vm,
            timeout=120,
            what="a new target",
        )
        fio.wait_for_progress(300)
        report = fio.finish()
    record_property("longest pause, s", report.longest_pause)
    assert report.error == 0, report.output
    assert report.writes > 0 < report.reads
    assert digest(linux.vm, device, 64) == digest(node.vm, node.volume(name).path, 64)


def test_linux_writes_nothing_after_its_attachment_is_gone_and_keeps_its_other_volume(
    node: StorageNode, linux: KernelHost, connected: tuple[str, str]
) -> None:
    name, device = connected
    node.create("kept")
    kept = linux.connect(admit(node, "kept"))
    backing = node.volume(name).path
    with VerifyingFio(linux.vm, device) as revoked, VerifyingFio(linux.vm, kept) as other:
        revoked.wait_for_progress()
        other.wait_for_progress()
        node.evict(name, "host1")
        after = digest(node.vm, backing, 64)
        other.wait_for_progress(300)
        assert digest(node.vm, backing, 64) == after
        assert revoked.wait_for_end(60).error != 0
        report = other.finish()
        assert report.error == 0, report.output


@pytest.mark.lab_full
def test_linux_verifies_with_header_and_data_digests(node: StorageNode, linux: KernelHost) -> None:
    node.create("digests")
    device = linux.connect(admit(node, "digests"), "--hdr-digest", "--data-digest")
    with VerifyingFio(linux.vm, device) as fio:
        fio.wait_for_progress(500)
        report = fio.finish()
    linux.disconnect()
    assert report.error == 0, report.output


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
    by_hand: ByHand, node_vm: Vm, host1: Vm
) -> None:
    python = ["/opt/weft/bin/python", "-c", EMBEDDED_HOST, by_hand.data]
    with host1.spawn([*python, by_hand.connection.host_nqn, by_hand.host_id]) as host:
        written = first_line(host)
        assert digest(node_vm, "/dev/by-hand/volume", 16) == written
        node_vm.run(by_hand.grow)
        said = host.wait(180).stdout.splitlines()
    assert said == [written, str(128 * MIB)]


def test_the_embedded_hosts_file_works_at_the_kernels_target(by_hand: ByHand, node_vm: Vm, host1: Vm) -> None:
    Host(host1).configure(connector="embedded", nqn=by_hand.connection.host_nqn, id=by_hand.host_id)
    python = ["/opt/weft/bin/python", "-c", ATTACH_BY_FUSE]
    path = host1.run([*python, "attach", by_hand.data]).stdout.strip()
    host1.run(
        f"mkfs.ext4 -q {path}; dd if=/dev/urandom of={path} bs=1M seek=40 count=8 conv=notrunc,fsync status=none"
    )
    node_vm.run(by_hand.grow)
    wait_until(f"[ $(stat --format=%s {path}) = {128 * MIB} ]", host1, timeout=60, what="growth of the file")
    host1.run(f"e2fsck -f -p {path}; resize2fs {path}")
    seen = host1.run(f"sha256sum <{path}", timeout=300).stdout.split()[0]
    host1.run([*python, "detach", by_hand.data])
    assert digest(node_vm, "/dev/by-hand/volume", 128) == seen
    assert not [line for line in leftovers(host1) if line.startswith(("mount", "process"))]


@pytest.fixture
def node_vm(lab: Lab) -> Vm:
    return lab["node"]


def target_pid(vm: Vm) -> str:
    return vm.run(["pgrep", "--full", TARGET]).stdout.strip()


def first_line(process: RemoteProcess, timeout: float = 120) -> str:
    deadline = time.monotonic() + timeout
    while "\n" not in process.stdout:
        assert process.is_running, process.stderr
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return process.stdout.splitlines()[0]
