"""The Ansible collection on freshly booted machines: it makes a pair of them, which lives through reboots and upgrades."""

import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import Debian, Lab, Vm
from lab.ansible import Ansible, Played
from lab.io import VerifyingFio, digest
from lab.layers import wheels_folder
from lab.wheels import CHECKOUT, next_wheel, weft_wheel

pytestmark = [pytest.mark.lab_full, pytest.mark.timeout(3600)]

PAIR = "weft.storage.pair"
DISK = "/dev/disk/by-id/virtio-disk1"
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a device that holds a file system": (
        {
            "storage_node_pools": [
                {"name": "fast", "volume_group": "vg0", "devices": ["/dev/disk/by-id/virtio-disk4"]}
            ]
        },
        "storage_node_pools: /dev/disk/by-id/virtio-disk4 of pool fast on node holds ext4",
    ),
    "a missing NIC": (
        {"storage_node_soft_rdma": [{"interface": "wire7"}]},
        "node has no network interface wire7, which rdma_soft_links",
    ),
    "an unknown transport": ({"storage_node_transports": ["smoke"]}, "storage_node_transports"),
    "an address of another machine": (
        {"storage_node_addresses": ["10.77.0.99"]},
        "does not have the address 10.77.0.99",
    ),
    "no RDMA where it is required": (
        {"storage_node_soft_rdma": [], "storage_node_rdma_required": True},
        "has no RDMA link on wire0, and RDMA is required",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A node and a host that the playbook has made, and what came of each run until then."""

    lab: Lab
    ansible: Ansible
    refused: dict[str, Played]
    checked: Played
    first: Played
    second: Played

    @property
    def node(self) -> Vm:
        return self.lab["node"]

    @property
    def host(self) -> Vm:
        return self.lab["host1"]

    def device(self) -> str:
        """The volume's, once it is there; by its id, as a person would write it into /etc/fstab."""
        return self.host.run(
            "until path=$(ls /dev/disk/by-id/nvme-uuid.* 2>/dev/null); do sleep 1; done; readlink -f $path",
            300,
        ).stdout.strip()


@pytest.fixture(scope="module")
def fresh() -> None:
    """These machines are not those of other files."""


MACHINES = [
    pytest.param((Debian.BOOKWORM, "rxe"), id="rxe, Debian 12"),
    pytest.param((Debian.BOOKWORM, "siw"), id="siw, Debian 12"),
    pytest.param((Debian.BOOKWORM, None), id="tcp, Debian 12"),
    pytest.param((Debian.TRIXIE, "rxe"), id="rxe, Debian 13"),
]


@pytest.fixture(scope="module", params=MACHINES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    debian, kind = request.param
    soft = [{"interface": "wire0", "kind": kind}] if kind else []
    with Lab(["node", "host1"], debian=debian) as lab:
        wheels = tmp_path_factory.mktemp("wheels") / "wheels.tar"
        with tarfile.open(wheels, "w") as archive:
            archive.add(wheels_folder(debian), "wheels")
        lab.everywhere(lambda vm: make_bare(vm, wheels))
        lab["node"].run("mkfs.ext4 -q /dev/disk/by-id/virtio-disk4")
        ansible = Ansible(lab, variables(soft))
        refused = {}
        if request.param == MACHINES[0].values[0]:
            refused = {what: ansible.play(PAIR, hosts=["node"], **bad) for what, (bad, _) in BAD.items()}
        yield Pair(
            lab=lab,
            ansible=ansible,
            refused=refused,
            checked=ansible.play(PAIR, check=True),
            first=ansible.play(PAIR).require(),
            second=ansible.play(PAIR),
        )


def make_bare(vm: Vm, wheels: Path) -> None:
    """Nothing of weft, and the wheels of what it needs, for want of an index; packages are in the image already."""
    vm.put(wheels, "/srv/wheels.tar")
    vm.run("tar -C /srv -xf /srv/wheels.tar; rm -rf /opt/weft /usr/local/bin/weft /srv/wheels.tar; sync")


def variables(soft: list[dict[str, str]]) -> dict[str, object]:
    return {
        "install_source": str(weft_wheel()),
        "install_pip_arguments": ["--no-index", "--find-links", "/srv/wheels"],
        "install_packages": False,
        "storage_node_addresses": ["10.77.0.1"],
        "storage_node_pools": [{"name": "fast", "volume_group": "vg0", "devices": [DISK]}],
        "storage_node_soft_rdma": soft,
        "host_soft_rdma": soft,
    }


def test_a_bad_variable_is_named_before_anything_is_changed(pair: Pair) -> None:
    for what, played in pair.refused.items():
        assert played.changed == {"node": 0}, what
        assert played.failed == {"node": 1}, what
        assert BAD[what][1] in played.output, what


def test_check_mode_on_bare_machines_fails_nowhere(pair: Pair) -> None:
    assert pair.checked.failed == {"node": 0, "host1": 0}, pair.checked.output
    assert all(pair.checked.changed.values())


def test_the_first_run_changes_things_and_the_second_nothing(pair: Pair) -> None:
    assert all(pair.first.changed.values())
    assert pair.second.failed == {"node": 0, "host1": 0}, pair.second.output
    assert pair.second.changed == {"node": 0, "host1": 0}, pair.second.output


def test_a_machine_without_rdma_says_so_in_one_sentence_and_goes_on(pair: Pair) -> None:
    says = "node has no RDMA link, in hardware or software: it goes on with TCP." in pair.first.output
    assert says == (pair.ansible.variables["storage_node_soft_rdma"] == [])


def test_what_was_written_survives_a_reboot_of_both_with_no_further_command(pair: Pair) -> None:
    transport = "rdma" if pair.ansible.variables["storage_node_soft_rdma"] else "tcp"
    device = pair.device()
    pair.host.run(f"head -c 64M /dev/urandom | dd of={device} bs=1M oflag=direct status=none")
    before = digest(pair.host, device, 64)
    pair.lab.everywhere(Vm.reboot)
    device = pair.device()
    assert digest(pair.host, device, 64) == before
    used = pair.host.run("cat /sys/class/nvme/nvme*/transport").stdout.split()
    assert transport in used


def test_an_upgrade_and_the_way_back_disturb_no_io(pair: Pair, tmp_path: Path) -> None:
    newer = next_wheel(tmp_path)
    with VerifyingFio(pair.host, pair.device(), iops=20) as fio:
        fio.wait_for_progress()
        for wheel, version in ((newer, "0.1.1"), (weft_wheel(), "0.1.0")):
            played = pair.ansible.play(PAIR, install_source=str(wheel)).require()
            assert all(played.changed.values())
            for vm in (pair.node, pair.host):
                assert version in vm.run(["weft", "--version"]).stdout
            fio.wait_for_progress()
        report = fio.finish()
    assert report.error == 0, report.output


def test_a_host_whose_node_is_dead_goes_down_within_a_minute(pair: Pair) -> None:
    pair.host.run(
        f"mkfs.ext4 -q -F {pair.device()}; mkdir -p /mnt/data; mount {pair.device()} /mnt/data; echo x >/mnt/data/x"
    )
    pair.node.kill()
    try:
        began = time.monotonic()
        pair.host.run("systemctl --no-block reboot")
        log = pair.host.kernel_log_mark()
        while "reboot: Restarting system" not in pair.host.kernel_log(log):
            assert time.monotonic() - began < 60, pair.host.kernel_log(log)
            time.sleep(0.5)
    finally:
        pair.node.start()
        pair.host.wait()


def test_tokens_and_logins_are_for_root_alone(pair: Pair) -> None:
    assert pair.host.run("stat -c %a /var/lib/weft/login").stdout.strip() == "600"
    assert pair.node.run("stat -c %a /var/lib/weft/token").stdout.strip() == "600"
    assert str(CHECKOUT) not in pair.node.run("cat /etc/weft/weft.toml").stdout
