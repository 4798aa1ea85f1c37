"""The kernel's host: its own suite in a VM, and two machines between which paths are cut."""

import json
from collections.abc import Iterator

import pytest

from kernel_host.exported import SIZE, connector, export
from kernel_host.suite_in_vm import run_suite
from lab import Lab, Rdma, Vm, clean
from lab.io import VerifyingFio
from weft.connection import NvmeofPortal, to_data
from weft.model import Transport

pytestmark = [pytest.mark.timeout(1800), pytest.mark.lab_full]

PAUSE = 30.0
"""Seconds. A silently cut path is noticed after the keep-alive of 5 s and a half; emulated machines take their time."""


@pytest.fixture
def pair(lab_with_weft: Lab) -> Iterator[tuple[Vm, Vm]]:
    """A storage node and a host that speak tcp on both wires, and RDMA on wire1."""
    machines = lab_with_weft["node"], lab_with_weft["host1"]
    for each in machines:
        each.rdma(Rdma.RXE, "wire1")
    yield machines
    for each in reversed(machines):
        clean(each)


@pytest.mark.parametrize(
    "cut", ["wire1", pytest.param("wire0", marks=pytest.mark.lab_full)], ids=["rdma cut", "tcp cut"]
)
def test_when_one_of_an_rdma_and_a_tcp_path_is_cut_the_other_carries_on(
    pair: tuple[Vm, Vm], cut: str
) -> None:
    node, host = pair
    connection = export(
        node,
        host,
        (
            NvmeofPortal(transport=Transport.TCP, address=node.address("wire0"), port=4420),
            NvmeofPortal(transport=Transport.RDMA, address=node.address("wire1"), port=4421),
        ),
    )
    path = connector(host, "attach", to_data(connection))
    assert host.run("nvme show-hostnqn").stdout.strip() == connection.host_nqn  # there was none before
    assert json.loads(connector(host, "paths")) == [["rdma", "live"], ["tcp", "live"]]
    with VerifyingFio(host, path) as fio:
        fio.wait_for_progress()
        with node.without(cut):
            fio.wait_for_progress(400)
        fio.wait_for_progress()
        report = fio.finish()
    assert report.error == 0, report.output
    assert report.longest_pause < PAUSE
    assert connector(host, "extend", to_data(connection)) == str(SIZE)
    connector(host, "detach", to_data(connection))
    assert host.run("ls /sys/class/nvme /sys/class/nvme-subsystem").stdout.split() == [
        "/sys/class/nvme:",
        "/sys/class/nvme-subsystem:",
    ]
    assert host.run("compgen -G '/dev/nvme[0-9]*' || true").stdout == ""


@pytest.mark.lab_full
@pytest.mark.parametrize(
    "suite",
    ["tests/kernel_host", "tests/contract/test_connector_contract.py"],
    ids=["its own", "the contract"],
)
def test_suites_of_the_kernels_host_pass_in_a_vm(lab_with_weft: Lab, suite: str) -> None:
    said = run_suite(lab_with_weft["host1"], suite, "-k", "kernel", "--timeout=600", timeout=1700)
    assert " passed" in said
