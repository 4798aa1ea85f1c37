"""What iproute2 6.1 tells of the kernel's RDMA connection manager, and what is made of it."""

import pytest

from weft.targets.nvmet_listeners import listening_in


def test_where_nvmet_listens_is_read_from_the_connection_managers_identifiers() -> None:
    report = """[
        {"ifindex":0,"ifname":"siw_wire1","port":1,"cm-idn":0,"state":"LISTEN","ps":"TCP","comm":"nvmet_rdma",
         "src-addr":"10.77.1.1:4421","dst-addr":"0.0.0.0:0"},
        {"ifindex":0,"ifname":"siw_wire1","port":1,"lqpn":2,"cm-idn":1,"state":"CONNECT","ps":"TCP","comm":"nvmet_rdma",
         "src-addr":"10.77.1.1:4422","dst-addr":"10.77.1.2:41000"},
        {"ifindex":1,"ifname":"mlx5_0","port":1,"cm-idn":2,"state":"LISTEN","ps":"TCP","comm":"[nvmet_rdma]",
         "src-addr":"[fd77:1::1]:4421","dst-addr":"[::]:0"},
        {"ifindex":1,"ifname":"mlx5_0","port":1,"cm-idn":3,"state":"LISTEN","ps":"TCP","pid":77,"comm":"perftest",
         "src-addr":"10.77.1.1:18515","dst-addr":"0.0.0.0:0"}
    ]"""
    assert listening_in(report) == {("10.77.1.1", "4421"), ("fd77:1::1", "4421")}


def test_a_machine_without_rdma_devices_listens_nowhere() -> None:
    assert listening_in("") == set()


@pytest.mark.parametrize(
    "report", ["link siw_wire1/1 cm-idn 0", '[{"state":"LISTEN","comm":"nvmet_rdma","src-addr":"?"}]']
)
def test_a_report_that_is_not_understood_is_refused(report: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        listening_in(report)
