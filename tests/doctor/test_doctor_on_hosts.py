"""What doctor says of machines as hosts."""

import json
import os
from dataclasses import replace

import msgspec
import pytest

from doctor.machines import DEFAULTS, MachineFiles, finding, report_of, storage_node, without_module
from weft.config import ConfigFile, ConnectorKind, HostSection
from weft.doctor import Verdict
from weft.names import host_nqn

HOST_ID = "11111111-2222-4333-8444-555555555555"
OTHER_ID = "99999999-2222-4333-8444-555555555555"
MULTIPATH_ON = "echo options nvme_core multipath=Y > /etc/modprobe.d/zz-weft-multipath.conf"


def on_host(**values: object) -> ConfigFile:
    return msgspec.structs.replace(DEFAULTS, host=msgspec.convert(values, HostSection))


def test_a_host_without_multipath_is_told_how_to_have_it(files: MachineFiles) -> None:
    machine, _ = storage_node(files)
    files.unload("nvmet")
    files.load("nvme-fabrics", "nvme-tcp")
    files.write("sys/module/nvme_core/parameters/multipath", "N\n")
    found = finding(machine, "native multipath", on_host())
    assert found.verdict is Verdict.MISSING
    reload = "modprobe --remove nvme-tcp nvme-fabrics nvme-core && modprobe nvme-core"
    assert found.command == f"{MULTIPATH_ON} && {reload}"
    files.write("sys/class/nvme/nvme0/transport", "pcie\n")
    assert finding(machine, "native multipath", on_host()).command.endswith("&& reboot")


def test_the_file_that_turns_multipath_off_is_named_before_the_module_is_loaded(files: MachineFiles) -> None:
    machine, _ = storage_node(files)
    files.unload("nvme-core")
    assert "not loaded yet" in finding(machine, "native multipath").sentence
    files.write("etc/modprobe.d/dm.conf", "options nvme-core multipath=N\n")
    assert finding(machine, "native multipath").command == (
        "sed -i -E '/^options +nvme[-_]core/s/multipath=[N0]/multipath=Y/' /etc/modprobe.d/dm.conf"
    )


def test_a_kernel_without_a_fabrics_device_in_its_container_is_told_of(files: MachineFiles) -> None:
    machine, _ = storage_node(files)
    files.load("nvme-fabrics")
    found = finding(machine, "/dev/nvme-fabrics")
    assert found.verdict is Verdict.MISSING
    assert found.command.startswith("mknod --mode 600 /dev/nvme-fabrics c ")


def test_nvme_rdma_is_missed_where_there_is_an_rdma_link_to_use_it_with(files: MachineFiles) -> None:
    machine, _ = storage_node(files)
    without_module(files, "nvme-rdma")
    assert finding(machine, "nvme-rdma").verdict is Verdict.WARN
    assert finding(machine, "nvme-rdma", on_host(transport="rdma")).verdict is Verdict.MISSING
    files.remove("sys/class/infiniband")
    assert finding(machine, "nvme-rdma", on_host()).verdict is Verdict.IRRELEVANT


def test_fuse_matters_where_the_embedded_host_attaches(files: MachineFiles) -> None:
    machine, _ = storage_node(files)
    machine = replace(machine, why_not_fuse=lambda: "fusermount3 is not installed")
    assert finding(machine, "FUSE").verdict is Verdict.IRRELEVANT
    found = finding(machine, "FUSE", on_host(connector=ConnectorKind.EMBEDDED))
    assert (found.verdict, found.command) == (Verdict.MISSING, "apt-get install --yes fuse3")
    files.remove("dev/fuse")
    assert finding(machine, "FUSE").command == "modprobe fuse"


def test_an_identity_that_is_not_there_is_made_by_attaching(files: MachineFiles) -> None:
    machine, _ = storage_node(files)
    assert finding(machine, "identity").verdict is Verdict.OK
    assert not (files.root / "etc/nvme").exists()


@pytest.mark.parametrize(
    ("nqn", "identifier", "command"),
    [
        (host_nqn(HOST_ID), "", f"echo {HOST_ID} > /etc/nvme/hostid"),
        ("", HOST_ID, f"echo {host_nqn(HOST_ID)} > /etc/nvme/hostnqn"),
        ("nqn.2024-01.com.example:web1", "", "cat /proc/sys/kernel/random/uuid > /etc/nvme/hostid"),
    ],
)
def test_half_an_identity_is_completed(files: MachineFiles, nqn: str, identifier: str, command: str) -> None:
    machine, _ = storage_node(files)
    files.identity(nqn, identifier)
    found = finding(machine, "identity")
    assert (found.verdict, found.command) == (Verdict.MISSING, command)


@pytest.mark.parametrize(
    ("nqn", "identifier"),
    [("not an nqn", HOST_ID), (host_nqn(HOST_ID), "00000000-0000-0000-0000-000000000000")],
)
def test_a_damaged_identity_is_made_anew(files: MachineFiles, nqn: str, identifier: str) -> None:
    machine, _ = storage_node(files)
    files.identity(nqn, identifier)
    found = finding(machine, "identity")
    assert found.verdict is Verdict.MISSING
    assert "/proc/sys/kernel/random/uuid" in found.command


def test_an_identity_that_disagrees_with_a_live_controller_is_put_back(files: MachineFiles) -> None:
    machine, _ = storage_node(files)
    files.identity(host_nqn(HOST_ID), HOST_ID)
    files.write("sys/class/nvme/nvme3/hostnqn", f"{host_nqn(OTHER_ID)}\n")
    files.write("sys/class/nvme/nvme3/hostid", f"{HOST_ID}\n")
    found = finding(machine, "identity")
    assert found.verdict is Verdict.MISSING
    assert found.command.startswith(f"echo {host_nqn(OTHER_ID)} > /etc/nvme/hostnqn")
    files.write("sys/class/nvme/nvme3/hostnqn", f"{host_nqn(HOST_ID)}\n")
    assert finding(machine, "identity").verdict is Verdict.OK


def test_an_identity_older_than_the_machine_may_come_from_its_image(files: MachineFiles) -> None:
    machine, _ = storage_node(files)
    files.identity(host_nqn(HOST_ID), HOST_ID)
    born = files.write("etc/machine-id", "0" * 32).stat().st_mtime
    assert finding(machine, "identity").verdict is Verdict.OK
    os.utime(files.root / "etc/nvme/hostid", (born - 86400, born - 86400))
    assert finding(machine, "identity").verdict is Verdict.WARN


def test_a_node_that_does_not_answer_its_host_is_a_warning(files: MachineFiles) -> None:
    machine, _ = storage_node(files)
    assert "login" not in {each.about for each in report_of(machine).findings}
    url = "https://192.0.2.1:50040"
    files.write("var/lib/weft/login", json.dumps({"url": url, "token": "secret", "pin": None})).chmod(0o600)
    machine = replace(machine, user_id=os.geteuid())
    assert finding(machine, "login").verdict is Verdict.OK
    found = finding(replace(machine, why_no_node=lambda _: "the token is not known there"), "login")
    assert (found.verdict, found.command) == (Verdict.WARN, f"weft login {url}")
    assert "secret" not in found.sentence
