"""Portals that cannot be bound are told of, and bound later."""

import socket
from pathlib import Path

import pytest

from embedded_target.processes import configure, make_volume
from embedded_target.workshop import HOST_A, MIB, free_portal, nqn_of
from eventually import eventually
from nvme_tcp_host import RawHost
from weft.errors import UnavailableError
from weft.targets import EmbeddedTarget


def test_a_portal_that_is_taken_is_said_to_be_unbound_and_bound_later(short_path: Path) -> None:
    free, taken = free_portal(), free_portal()
    config = configure(short_path, (free, taken))
    target = EmbeddedTarget(config)
    with socket.create_server((taken.address, taken.port)):
        target.ensure_running().close()
        try:
            export = make_volume(short_path, HOST_A)
            (connection,) = target.create_export(export).values()
            assert connection.portals == (free,)
            found = target.export(export.volume_id)
            assert found is not None
            assert (found.complete, found.portals) == (False, (str(free),))
            status = target.status().portals
            assert [(each.bound, each.reason) for each in status] == [
                (True, ""),
                (False, "Address already in use"),
            ]
        except BaseException:
            target.stop_target()
            raise
    try:
        eventually(lambda: all(each.bound for each in target.status().portals))
        with RawHost(taken, nqn_of(export), HOST_A) as host:
            assert host.namespace().nsze * 512 == 4 * MIB
    finally:
        target.stop_target()


def test_an_export_without_any_bound_portal_says_why(short_path: Path) -> None:
    taken = free_portal()
    target = EmbeddedTarget(configure(short_path, (taken,)))
    with socket.create_server((taken.address, taken.port)):
        target.ensure_running().close()
        try:
            with pytest.raises(UnavailableError, match="Address already in use"):
                target.create_export(make_volume(short_path, HOST_A))
        finally:
            target.stop_target()
