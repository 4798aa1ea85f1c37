"""Hosts that the kernel's target turns away, and what weft says of why: the host's own errno does not tell."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from lab import CommandFailedError, Lab, Vm
from lab.io import digest
from lab.world import Host, NodeSetup, StorageNode
from weft.connection import NvmeofConnection
from weft.model import DhChapSecrets, HostId, RefusalReason
from weft.names import host_nqn, new_id
from weft.nvme.dhchap_key import generate_dhchap_key

PORTAL = "10.77.0.1:4420"

WORDS = {
    RefusalReason.NOT_LISTED: "is not attached to a host with NQN",
    RefusalReason.NO_KEY: "offered no key",
    RefusalReason.WRONG_KEY: "with another key than the one it was given",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A volume that is exported to host1, which must authenticate, and the key that is the right one."""

    node: StorageNode
    host: Vm
    host_id: HostId
    connection: NvmeofConnection
    backing: str
    key: str

    def connect(self, nqn: str, host_id: str, key: str | None = None) -> None:
        """By /dev/nvme-fabrics. Raises CommandFailedError when the kernel does not connect."""
        (portal,) = self.connection.portals
        options = (
            f"nqn={self.connection.nqn},transport=tcp,traddr={portal.address},trsvcid={portal.port}"
            f",hostnqn={nqn},hostid={host_id}" + (f",dhchap_secret={key}" if key else "")
        )
        self.host.run("modprobe nvme-tcp; cat >/dev/nvme-fabrics", stdin=options)

    def assert_refused(self, nqn: str, reason: RefusalReason) -> None:
        """That weft tells this of the host's last try, with a sentence. A host has some seconds to show its key."""
        deadline = time.monotonic() + 60
        while True:
            found = self.node.client.refusals(self.connection.volume_id, nqn)
            if [each.reason for each in found if each.at is not None] == [reason]:
                assert all(WORDS[reason] in each.message for each in found), found
                return
            assert time.monotonic() < deadline, found
            time.sleep(1)

    def assert_not_attached(self) -> None:
        assert self.host.run("ls -d /sys/class/nvme/nvme* || true").stdout == ""


@pytest.fixture(scope="module")
def site(lab_with_weft: Lab) -> Iterator[Site]:
    node = StorageNode(lab_with_weft["node"], NodeSetup(portals=(PORTAL,)))
    node.start()
    host = lab_with_weft["host1"]
    host_id = node.register("host1", Host(host).make_identity())
    key = generate_dhchap_key()
    node.client.set_host_secrets(host_id, DhChapSecrets(host_key=key))
    made = node.create("data")
    connection = replace(node.admit("data", host_id), secrets=None)
    yield Site(node=node, host=host, host_id=host_id, connection=connection, backing=made.path, key=key)
    node.close()


@pytest.fixture
def own_id(site: Site) -> str:
    return site.host.run(["cat", "/etc/nvme/hostid"]).stdout.strip()


def test_a_host_that_is_not_on_the_list_is_refused_and_weft_says_so(site: Site) -> None:
    stranger_id = new_id()
    stranger = host_nqn(stranger_id)
    with pytest.raises(CommandFailedError):
        site.connect(stranger, stranger_id)
    site.assert_refused(stranger, RefusalReason.NOT_LISTED)
    site.assert_not_attached()


def test_a_host_with_a_wrong_key_is_refused_and_weft_says_so(site: Site, own_id: str) -> None:
    with pytest.raises(CommandFailedError):
        site.connect(site.connection.host_nqn, own_id, generate_dhchap_key())
    site.assert_refused(site.connection.host_nqn, RefusalReason.WRONG_KEY)
    site.assert_not_attached()


def test_a_host_without_a_key_is_refused_and_weft_says_so(site: Site, own_id: str) -> None:
    with pytest.raises(CommandFailedError):
        site.connect(site.connection.host_nqn, own_id)
    site.assert_refused(site.connection.host_nqn, RefusalReason.NO_KEY)
    site.assert_not_attached()


def test_weft_attaches_with_the_key_that_it_reads_for_its_host_and_shows_it_nowhere(site: Site) -> None:
    host = Host(site.host)
    host.log_in(site.node)
    device = host.attach("data")
    site.host.run(f"dd if=/dev/urandom of={device} bs=1M count=4 oflag=direct status=none")
    assert digest(site.host, device, 4) == digest(site.node.vm, site.backing, 4)
    secret = site.key.split(":")[2]
    for vm in (site.host, site.node.vm):
        said = vm.run("journalctl --boot --no-pager --output cat; dmesg; ps -eo args").stdout
        assert secret not in said
    host.detach("data")
    site.assert_not_attached()
