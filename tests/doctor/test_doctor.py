"""What doctor says of machines of different kinds, and the commands by which it would have them mended."""

import ipaddress
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from doctor.machines import (
    DEFAULTS,
    DISK,
    ETH0,
    GROUP,
    LVM_SETTINGS,
    NODE_CONFIG,
    RELEASE,
    RHEL,
    THIN_POOL,
    UBUNTU,
    MachineFiles,
    Programs,
    bare_container,
    finding,
    have_lvm,
    listener,
    one,
    report_of,
    storage_node,
    without_module,
)
from weft.config import ApiSection, TargetKind, TargetSection
from weft.doctor import Machine, Verdict
from weft.errors import CommandError


def test_a_bare_container_can_do_what_the_defaults_ask_for_by_the_embedded_pair(files: MachineFiles) -> None:
    report = report_of(bare_container(files), DEFAULTS)
    assert report.fit, report.with_verdict(Verdict.MISSING)
    assert one(report, "target").sentence.startswith("The embedded target serves here (target.kind = auto)")
    assert "as files, by the embedded host" in one(report, "connector").sentence
    assert one(report, "nvmet").verdict is Verdict.IRRELEVANT
    assert one(report, "nvmet").command == "modprobe nvmet  # on the machine that runs this container"


def test_a_storage_node_with_all_that_its_configuration_asks_for_has_nothing_but_ok(
    files: MachineFiles,
) -> None:
    machine, _ = storage_node(files)
    report = report_of(machine)
    assert report.fit
    assert {each.verdict for each in report.findings} == {Verdict.OK}, report.findings
    assert one(report, "target").sentence == "The kernel's target (nvmet) serves here (target.kind = auto)."
    assert one(report, "RDMA rxe0/1").sentence == (
        "The RDMA link rxe0/1 is active: soft RoCE v2 on eth0, 192.0.2.1, 2001:db8::1."
    )
    assert one(report, "pool fast").sentence == (
        "Thin pool vg0/thinpool is there, zeroes new blocks, and is 12 % full of 95.0 GiB."
    )


def test_looking_changes_nothing(files: MachineFiles) -> None:
    def everything() -> dict[Path, tuple[int, int]]:
        return {each: (each.stat().st_mtime_ns, each.stat().st_mode) for each in files.root.rglob("*")}

    machine, programs = storage_node(files)
    before = everything()
    report_of(machine)
    assert everything() == before
    assert {call[0] for call in programs.calls} == {"pvs", "vgs", "lvs", "lvmconfig"}


# -- what is missing, and the command that mends it -----------------------------------------------------------

Spoil = Callable[[MachineFiles, Programs, Machine], Machine]


def _without_module(name: str) -> Spoil:
    def spoil(files: MachineFiles, _: Programs, machine: Machine) -> Machine:
        without_module(files, name)
        return machine

    return spoil


def _forbidden(files: MachineFiles, _: Programs, machine: Machine) -> Machine:
    files.unload("nvmet-rdma")
    files.write("etc/modprobe.d/hardening.conf", "install nvmet_rdma /bin/false\n")
    return machine


def _without_link(files: MachineFiles, _: Programs, machine: Machine) -> Machine:
    files.remove("sys/class/infiniband")
    return machine


def _with_dead_link(files: MachineFiles, _: Programs, machine: Machine) -> Machine:
    files.rxe("rxe0", "eth0", state="1: DOWN")
    return machine


def _without_address(_: MachineFiles, __: Programs, machine: Machine) -> Machine:
    return replace(machine, addresses=lambda: {**ETH0, "eth0": ()})


def _with_other_listener(files: MachineFiles, _: Programs, machine: Machine) -> Machine:
    files.write("proc/net/tcp", "header\n" + listener("0.0.0.0", 4420))
    return machine


def _with_lvm(**changes: Any) -> Spoil:
    def spoil(_: MachineFiles, programs: Programs, machine: Machine) -> Machine:
        have_lvm(programs, **changes)
        return machine

    return spoil


def _without_lvm(files: MachineFiles, _: Programs, machine: Machine) -> Machine:
    files.remove("usr/sbin/lvm")
    return machine


MISSING: Mapping[str, tuple[str, Spoil, str]] = {
    "no nvmet-rdma": (
        "nvmet-rdma",
        _without_module("nvmet-rdma"),
        'apt-get install --yes "linux-image-$(dpkg --print-architecture)" && reboot',
    ),
    "nvmet-rdma forbidden": (
        "nvmet-rdma",
        _forbidden,
        "sed -i -E '/^[[:space:]]*install[[:space:]]+nvmet[-_]rdma[[:space:]]/d' /etc/modprobe.d/hardening.conf",
    ),
    "no RDMA link": ("RDMA", _without_link, "modprobe rdma_rxe && rdma link add rxe0 type rxe netdev eth0"),
    "no RDMA link at the portal": (
        "portal rdma://192.0.2.1:4420",
        _without_link,
        "modprobe rdma_rxe && rdma link add rxe0 type rxe netdev eth0",
    ),
    "RDMA link down": ("portal rdma://192.0.2.1:4420", _with_dead_link, "ip link set eth0 up"),
    "no address": ("portal 192.0.2.1:4420", _without_address, "ip address add 192.0.2.1/24 dev eth0"),
    "another program on the port": (
        "portal 192.0.2.1:4420",
        _with_other_listener,
        "ss --listening --tcp --numeric --processes 'sport = :4420'",
    ),
    "no lvm": ("LVM", _without_lvm, "apt-get install --yes lvm2"),
    "no volume group": (
        "pool fast",
        _with_lvm(disks=()),
        "weft pool prepare fast /dev/DISK  # DISK: an empty one",
    ),
    "no thin pool": ("pool fast", _with_lvm(pools=()), "weft pool prepare fast"),
    "old bytes readable": (
        "pool fast",
        _with_lvm(pools=({**THIN_POOL, "zero": "0"},)),
        "lvchange --zero y vg0/thinpool",
    ),
    "a disk gone": (
        "pool fast",
        _with_lvm(group={**GROUP, "vg_missing_pv_count": "1"}),
        "pvs --options pv_name,vg_name,pv_missing  # and bring back the disk that is missing",
    ),
}


@pytest.mark.parametrize(("about", "spoil", "command"), MISSING.values(), ids=MISSING.keys())
def test_what_is_missing_on_a_storage_node_comes_with_the_command_that_mends_it(
    files: MachineFiles, about: str, spoil: Spoil, command: str
) -> None:
    machine, programs = storage_node(files)
    report = report_of(spoil(files, programs, machine))
    found = one(report, about)
    assert (found.verdict, found.command) == (Verdict.MISSING, command), found.sentence
    assert not report.fit


USE_DEVICES_FILE = (
    "echo devices/use_devicesfile=1 >> /etc/lvm/lvmlocal.conf && for uuid in group-uuid; do"
    " lvm vgimportdevices --select vg_uuid=$uuid; done"
)

WARNED: Mapping[str, tuple[str, Spoil, str]] = {
    "nearly full": (
        "pool fast",
        _with_lvm(pools=({**THIN_POOL, "data_percent": "80.00"},)),
        "lvextend --extents +50%FREE vg0/thinpool",
    ),
    "nearly full, and so is the group": (
        "pool fast",
        _with_lvm(pools=({**THIN_POOL, "data_percent": "99.9"},), group={**GROUP, "vg_free": "0"}),
        "weft pool prepare fast /dev/DISK && lvextend --extents +50%FREE vg0/thinpool",
    ),
    "metadata nearly full": (
        "pool fast",
        _with_lvm(pools=({**THIN_POOL, "metadata_percent": "81"},)),
        "lvextend --poolmetadatasize +256M vg0/thinpool",
    ),
    "a guest's group is seen": (
        "guests' volume groups",
        _with_lvm(
            disks=(DISK, {**DISK, "pv_name": "/dev/mapper/vg0-vol1", "vg_name": "guest", "vg_uuid": "other"})
        ),
        USE_DEVICES_FILE,
    ),
    "LVM looks into volumes": (
        "guests' volume groups",
        _with_lvm(settings=LVM_SETTINGS.replace("scan_lvs=0", "scan_lvs=1")),
        USE_DEVICES_FILE,
    ),
}


@pytest.mark.parametrize(("about", "spoil", "command"), WARNED.values(), ids=WARNED.keys())
def test_what_may_go_wrong_later_is_a_warning(
    files: MachineFiles, about: str, spoil: Spoil, command: str
) -> None:
    machine, programs = storage_node(files)
    report = report_of(spoil(files, programs, machine))
    found = one(report, about)
    assert (found.verdict, found.command) == (Verdict.WARN, command), found.sentence
    assert report.fit


@pytest.mark.parametrize("spoilt", [*MISSING.values(), *WARNED.values()], ids=[*MISSING, *WARNED])
def test_every_command_is_one_that_a_shell_can_read(
    files: MachineFiles, spoilt: tuple[str, Spoil, str]
) -> None:
    machine, programs = storage_node(files)
    for each in report_of(spoilt[1](files, programs, machine)).findings:
        subprocess.run(["sh", "-n", "-c", each.command], check=True)
        assert "\n" not in each.command


@pytest.mark.parametrize(
    ("os_release", "lvm", "modules"),
    [
        (RHEL, "dnf install --assumeyes lvm2", f"kernel-modules-{RELEASE} kernel-modules-extra-{RELEASE}"),
        (UBUNTU, "apt-get install --yes lvm2", f"linux-modules-extra-{RELEASE}"),
        ("ID=opensuse-leap\nID_LIKE=suse\n", "zypper --non-interactive install lvm2", "kernel-default"),
        ("ID=other\n", "# install lvm2 as this distribution does", "# install a kernel that has the module"),
    ],
    ids=["RHEL", "Ubuntu", "openSUSE", "another"],
)
def test_commands_are_those_of_the_distribution(
    files: MachineFiles, os_release: str, lvm: str, modules: str
) -> None:
    machine, programs = storage_node(files, os_release)
    _without_module("nvmet-rdma")(files, programs, machine)
    _without_lvm(files, programs, machine)
    assert finding(machine, "LVM").command == lvm
    assert modules in finding(machine, "nvmet-rdma").command


def test_a_kernel_that_was_upgraded_under_the_running_one_asks_for_a_reboot(files: MachineFiles) -> None:
    machine, _ = storage_node(files)
    files.unload("nvmet")
    files.remove(f"lib/modules/{RELEASE}")
    files.write("lib/modules/6.13.0/modules.dep")
    assert finding(machine, "nvmet").command.startswith("reboot")


def test_an_address_is_given_to_the_interface_that_has_none_of_its_kind(files: MachineFiles) -> None:
    machine, _ = storage_node(files)
    known = {
        **ETH0,
        "eth0": (ipaddress.ip_address("198.51.100.1"),),
        "eth1": (),
        "eth2": (ipaddress.ip_address("fe80::1"),),
    }
    machine = replace(machine, addresses=lambda: known)
    assert finding(machine, "portal 192.0.2.1:4420").command == "ip address add 192.0.2.1/24 dev eth2"
    known["eth3"] = (ipaddress.ip_address("192.0.2.200"),)
    assert finding(machine, "portal 192.0.2.1:4420").command == "ip address add 192.0.2.1/24 dev eth3"


@pytest.mark.parametrize("holder", ["nvmet", "embedded"])
def test_a_port_on_which_weft_listens_is_not_taken(files: MachineFiles, holder: str) -> None:
    machine, _ = storage_node(files)
    files.write("proc/net/tcp", "header\n" + listener("192.0.2.1", 4420))
    if holder == "nvmet":
        files.write("sys/kernel/config/nvmet/ports/1/addr_traddr", "192.0.2.1\n")
        files.write("sys/kernel/config/nvmet/ports/1/addr_trsvcid", "4420\n")
    else:
        machine = replace(machine, embedded_portals=lambda _: frozenset({"192.0.2.1:4420"}))
    found = finding(machine, "portal 192.0.2.1:4420")
    assert found.verdict is Verdict.OK
    assert found.sentence.endswith("listens there.")


def test_portals_that_only_the_kernel_serves_ask_for_nvmet(files: MachineFiles) -> None:
    machine, _ = storage_node(files)
    machine = replace(machine, why_not_nvmet=lambda _: "the kernel has no module nvmet")
    found = finding(machine, "target")
    assert found.verdict is Verdict.MISSING
    assert found.sentence == (
        "nvmet cannot be used: the kernel has no module nvmet; and the embedded target does not serve "
        "rdma://192.0.2.1:4420."
    )


def test_logical_volumes_are_served_without_nvmet_as_well(files: MachineFiles) -> None:
    machine, _ = storage_node(files)
    machine = replace(machine, why_not_nvmet=lambda _: "the kernel has no module nvmet")
    file = msgspec.structs.replace(NODE_CONFIG, target=TargetSection(portals=("192.0.2.1:4420",)))
    found = finding(machine, "target", file)
    assert (found.verdict, found.sentence) == (
        Verdict.OK,
        "The embedded target serves here (target.kind = auto), for nvmet cannot: the kernel has no module nvmet.",
    )


def test_the_embedded_target_asks_for_nothing_of_the_kernel(files: MachineFiles) -> None:
    machine = bare_container(files)
    file = msgspec.structs.replace(DEFAULTS, target=TargetSection(kind=TargetKind.EMBEDDED))
    assert report_of(machine, file).fit
    assert finding(machine, "target", file).sentence == (
        "The embedded target serves here (target.kind = embedded)."
    )


def test_firewalls_that_are_known_are_asked_for_the_ports(files: MachineFiles) -> None:
    machine, programs = storage_node(files)
    files.write("run/firewalld/locked")
    programs.answers["firewall-cmd --query-port=4420/tcp"] = "yes\n"
    programs.answers["firewall-cmd --query-port=4791/udp"] = CommandError(("firewall-cmd",), 1, "no")
    found = finding(machine, "firewall")
    assert (found.verdict, found.command) == (
        Verdict.WARN,
        "firewall-cmd --permanent --add-port=4791/udp && firewall-cmd --reload",
    )
    files.remove("run/firewalld")
    files.write("etc/ufw/ufw.conf", "ENABLED=yes\n")
    files.write("etc/ufw/user.rules", "-A ufw-user-input -p udp --dport 4791 -j ACCEPT\n")
    assert finding(machine, "firewall").command == "ufw allow 4420/tcp"


def test_the_api_needs_an_address_and_a_port_of_this_machine(files: MachineFiles) -> None:
    machine, _ = storage_node(files)
    listening = ("192.0.2.1:50040", "192.0.2.77:50040")
    file = msgspec.structs.replace(NODE_CONFIG, api=ApiSection(listen=listening))
    assert finding(machine, "API 192.0.2.1:50040", file).verdict is Verdict.OK
    found = finding(machine, "API 192.0.2.77:50040", file)
    assert (found.verdict, found.command) == (Verdict.MISSING, "ip address add 192.0.2.77/24 dev eth0")
    files.write("proc/net/tcp", "header\n" + listener("192.0.2.1", 50040))
    assert finding(machine, "API 192.0.2.1:50040", file).verdict is Verdict.OK, "weft's own"
    machine = replace(machine, why_no_daemon=lambda _: "it does not run")
    assert finding(machine, "API 192.0.2.1:50040", file).verdict is Verdict.MISSING
