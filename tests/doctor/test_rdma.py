"""What weft reads of RDMA links and of addresses."""

import ipaddress
import json
import shutil
import subprocess

import pytest

from doctor.machines import MachineFiles
from weft.rdma import Addresses, RdmaTransport, interface_addresses, link_with, rdma_links

ADDRESSES: Addresses = {
    "eth0": (ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("2001:db8::1")),
    "eth1": (ipaddress.ip_address("192.0.2.9"),),
}


def test_a_machine_without_rdma_has_no_links(files: MachineFiles) -> None:
    assert rdma_links(files.root) == ()


def test_soft_roce_is_found_with_its_interface(files: MachineFiles) -> None:
    files.rxe("rxe0", "eth0")
    (link,) = rdma_links(files.root)
    assert (str(link), link.transport, link.active, link.software) == (
        "rxe0/1",
        RdmaTransport.ROCE,
        True,
        True,
    )
    assert link.gid_types == {"RoCE v2"}
    assert link.addresses(ADDRESSES) == ADDRESSES["eth0"]


def test_soft_iwarp_is_found_by_its_mac_address(files: MachineFiles) -> None:
    files.interface("eth1", "52:54:00:00:00:01")
    files.siw("siw0", "eth0", "52:54:00:12:34:56")
    (link,) = rdma_links(files.root)
    assert (link.transport, link.interfaces, link.software) == (RdmaTransport.IWARP, ("eth0",), True)


def test_the_card_of_an_infiniband_link_leads_to_the_interface_of_the_same_port(files: MachineFiles) -> None:
    files.rdma_device("mlx5_0", link_layer="InfiniBand")
    files.write("sys/class/infiniband/mlx5_0/device/net/ib0/dev_port", "0\n")
    files.write("sys/class/infiniband/mlx5_0/device/net/ib1/dev_port", "1\n")
    (link,) = rdma_links(files.root)
    assert (link.transport, link.interfaces, link.software) == (RdmaTransport.INFINIBAND, ("ib0",), False)


def test_a_link_that_is_down_is_not_active(files: MachineFiles) -> None:
    files.rxe("rxe0", "eth0", state="1: DOWN")
    (link,) = rdma_links(files.root)
    assert (link.active, link.state) == (False, "DOWN")


def test_links_are_listed_in_the_order_of_their_numbers(files: MachineFiles) -> None:
    for number in (10, 2, 1):
        files.rxe(f"rxe{number}", "eth0")
    assert [link.device for link in rdma_links(files.root)] == ["rxe1", "rxe2", "rxe10"]


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_an_address_is_found_on_the_active_one_of_its_links(files: MachineFiles, address: str) -> None:
    files.rxe("rxe0", "eth0", state="1: DOWN")
    files.rxe("rxe1", "eth0")
    found = link_with(address, rdma_links(files.root), ADDRESSES)
    assert found is not None
    assert found.device == "rxe1"
    assert link_with("192.0.2.9", rdma_links(files.root), ADDRESSES) is None


def test_the_zone_of_an_address_names_the_interface(files: MachineFiles) -> None:
    files.rxe("rxe0", "eth0")
    known = {"eth0": (ipaddress.ip_address("fe80::1"),)}
    assert link_with("fe80::1%eth0", rdma_links(files.root), known) is not None
    assert link_with("fe80::1%eth1", rdma_links(files.root), known) is None


def test_the_addresses_are_those_that_ip_shows() -> None:
    found = interface_addresses()
    assert ipaddress.ip_address("127.0.0.1") in found["lo"]
    if shutil.which("ip") is None:
        return
    shown = subprocess.run(["ip", "-json", "address"], capture_output=True, check=True, text=True).stdout
    expected = {
        link["ifname"]: {ipaddress.ip_address(each["local"]) for each in link["addr_info"]}
        for link in json.loads(shown)
    }
    assert {name: set(addresses) for name, addresses in found.items()} == expected
