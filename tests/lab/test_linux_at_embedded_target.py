"""The kernel's NVMe/TCP host at weft's embedded target."""

import json
from collections.abc import Callable, Iterator

import pytest

from lab import CommandFailedError, Lab, Vm
from lab.io import VerifyingFio, digest, ext4_content, make_ext4, wait_until
from lab.world import Host, NodeSetup, StorageNode
from weft.connection import NvmeofConnection
from weft.model import GIB
from weft.names import host_nqn, new_id

PORT = 4420
STRANGER = host_nqn("cccccccc-1111-4111-8111-111111111111")


TARGET = "embedded[.]target_process"


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
    before = linux.discover("10.77.0.1", linux.nqn)
    node.create("mine")
    node.create("nobodys")
    connection = admit(node, "mine")
    for address in ("10.77.0.1", "fd77:0::1"):
        assert linux.discover(address, linux.nqn) == before | {connection.nqn}
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


def target_pid(vm: Vm) -> str:
    return vm.run(["pgrep", "--full", TARGET]).stdout.strip()
