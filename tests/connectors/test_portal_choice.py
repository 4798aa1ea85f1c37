"""Which portals become paths, and in which order."""

import socket
from pathlib import Path

import pytest

from embedded_host.target_process import free_port
from weft.connection import LOOP_PORTAL, NvmeofConnection, NvmeofPortal
from weft.connectors.portal_choice import choose_portals, reachable, spoken_transports
from weft.errors import UnsupportedError
from weft.model import Transport, VolumeId
from weft.names import new_id, subsystem_nqn

TCP = NvmeofPortal(transport=Transport.TCP, address="192.0.2.1", port=4420)
TCP6 = NvmeofPortal(transport=Transport.TCP, address="2001:db8::1", port=4420)
RDMA = NvmeofPortal(transport=Transport.RDMA, address="192.0.2.1", port=4420)
BOTH = {Transport.TCP, Transport.RDMA}


def _connection(*portals: NvmeofPortal) -> NvmeofConnection:
    volume_id = VolumeId(new_id())
    return NvmeofConnection(
        volume_id=volume_id, nqn=subsystem_nqn(volume_id), portals=portals, host_nqn="ALL"
    )


@pytest.mark.parametrize(
    ("portals", "spoken", "told", "chosen"),
    [
        ((TCP, RDMA, TCP6), BOTH, "", (RDMA, TCP, TCP6)),
        ((TCP, RDMA, TCP6), {Transport.TCP}, "", (TCP, TCP6)),
        ((TCP, RDMA, TCP6), BOTH, "tcp", (TCP, TCP6)),
        ((TCP, RDMA), {Transport.TCP}, "rdma", (RDMA,)),
        ((TCP, LOOP_PORTAL, RDMA), {*BOTH, Transport.LOOP}, "", (LOOP_PORTAL,)),
        ((TCP, LOOP_PORTAL), BOTH, "", (TCP,)),
        ((TCP, LOOP_PORTAL), BOTH, "loop", (LOOP_PORTAL,)),
        ((TCP, TCP), BOTH, "", (TCP,)),
    ],
)
def test_the_best_portals_come_first(
    portals: tuple[NvmeofPortal, ...],
    spoken: set[Transport],
    told: str,
    chosen: tuple[NvmeofPortal, ...],
) -> None:
    assert choose_portals(_connection(*portals), spoken, told) == chosen


@pytest.mark.parametrize(
    ("portals", "told", "why"),
    [
        ((RDMA,), "", "no active RDMA link"),
        ((LOOP_PORTAL,), "", "not the storage node"),
        ((TCP,), "rdma", "told to use rdma"),
        ((), "", "no portal"),
    ],
)
def test_a_host_that_can_speak_none_is_told_why(
    portals: tuple[NvmeofPortal, ...], told: str, why: str
) -> None:
    with pytest.raises(UnsupportedError, match=why):
        choose_portals(_connection(*portals), {Transport.TCP}, told)


def test_rdma_is_spoken_by_an_active_link_alone(tmp_path: Path) -> None:
    port = tmp_path / "sys/class/infiniband/rxe0/ports/1"
    port.mkdir(parents=True)
    for state, spoken in (("1: DOWN", {Transport.TCP}), ("4: ACTIVE", BOTH)):
        (port / "state").write_text(f"{state}\n")
        assert spoken_transports(_connection(TCP), tmp_path) == spoken


def test_loop_is_spoken_where_the_subsystem_is_at_a_loop_port_of_this_machine(tmp_path: Path) -> None:
    connection = _connection(TCP, LOOP_PORTAL)
    port = tmp_path / "sys/kernel/config/nvmet/ports/1"
    (port / "subsystems" / connection.nqn).mkdir(parents=True)
    for kind, spoken in (("tcp", {Transport.TCP}), ("loop", {Transport.TCP, Transport.LOOP})):
        (port / "addr_trtype").write_text(f"{kind}\n")
        assert spoken_transports(connection, tmp_path) == spoken
    assert Transport.LOOP not in spoken_transports(_connection(TCP), tmp_path)


def test_portals_where_nobody_listens_are_found_without_the_kernels_connector() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as listening:
        answers = NvmeofPortal(transport=Transport.TCP, address="127.0.0.1", port=listening.getsockname()[1])
        refuses = NvmeofPortal(transport=Transport.TCP, address="127.0.0.1", port=free_port())
        assert reachable([refuses, RDMA, answers], 5) == (RDMA, answers)
