"""Fifty volumes made, exported and attached at the same time, then detached and deleted at the same time."""

import time
from collections.abc import Callable, Iterator

import pytest

from lab import Lab, Vm
from lab.bulk import attach_all, delete_all, detach_all, export_all, make_all, stamp, stamps, withdraw_all
from lab.traces import attached_to, exported_by, volumes_of
from lab.world import Host, StorageNode

VOLUMES = 50


@pytest.fixture(scope="module")
def node(lab_with_weft: Lab) -> Iterator[StorageNode]:
    node = StorageNode(lab_with_weft["node"])
    node.start()
    yield node
    node.close()


@pytest.mark.timeout(3600)
def test_fifty_volumes_at_once_are_each_its_own_and_leave_nothing(
    node: StorageNode, host1: Vm, record_property: Callable[[str, object], None]
) -> None:
    began = time.monotonic()

    def lap(what: str) -> None:
        nonlocal began
        record_property(f"{VOLUMES} {what}, s", round(time.monotonic() - began, 1))
        began = time.monotonic()

    host_id = node.register("host1", Host(host1).make_identity())
    began = time.monotonic()
    volumes = {made.volume.id: made.path for made in make_all(node, [f"v{n}" for n in range(VOLUMES)])}
    lap("made")
    connections = export_all(node, list(volumes), host_id)
    lap("exported")
    devices = attach_all(host1, connections)
    lap("attached")
    assert len(set(devices.values())) == VOLUMES

    stamp(host1, {path: volume_id for volume_id, path in devices.items()})
    assert stamps(node.vm, [volumes[volume_id] for volume_id in devices]) == list(devices)
    assert stamps(host1, list(devices.values())) == list(devices)

    began = time.monotonic()
    detach_all(host1, connections)
    lap("detached")
    assert attached_to(host1) == []
    withdraw_all(node)
    lap("exports removed")
    assert exported_by(node.vm) == []
    delete_all(node)
    lap("deleted")
    assert node.client.volumes() == []
    assert volumes_of(node.vm) == []
