"""Waiting for what was asked takes no longer than it must."""

from collections.abc import Callable

import pytest

from control.control_plane import ALICE, BOB, ControlPlane
from weft.model import AttachmentId, SnapshotId, Status, VolumeId
from weft.requests import Caller


def waits(plane: ControlPlane, caller: Caller) -> dict[str, Callable[[str, float], object]]:
    service = plane.service
    return {
        "volume": lambda row_id, seconds: service.wait_for_volume(caller, VolumeId(row_id), seconds),
        "snapshot": lambda row_id, seconds: service.wait_for_snapshot(caller, SnapshotId(row_id), seconds),
        "attachment": lambda row_id, seconds: service.wait_for_attachment(
            caller, AttachmentId(row_id), seconds
        ),
    }


@pytest.mark.parametrize("kind", ["volume", "snapshot", "attachment"])
def test_waiting_for_what_is_settled_or_not_there_takes_no_time(plane: ControlPlane, kind: str) -> None:
    volume, host = plane.volume(), plane.host("h")
    ids = {"volume": volume.id, "snapshot": plane.snapshot(volume), "attachment": plane.attach(volume, host)}
    waits(plane, ALICE)[kind](ids[kind], 60)
    waits(plane, BOB)[kind](ids[kind], 60)
    waits(plane, ALICE)[kind]("x", 60)


def test_waiting_ends_with_its_time_when_nothing_happens(plane: ControlPlane) -> None:
    volume = plane.volume(settle=False)
    plane.service.wait_for_volume(ALICE, volume.id, 0.02)
    assert plane.status(volume) is Status.CREATING
