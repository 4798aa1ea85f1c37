"""What a client is told of a resource, derived from its rows."""

from dataclasses import replace

import pytest

from control.planning import SNAPSHOT, VOLUME, A, B, attachment, connection, snapshot, state
from weft.connection import AttachmentState
from weft.control.status import is_settled, view_attachment, view_snapshot, view_volume
from weft.model import GIB, Attachment, Revert, StateStatus, Status, Volume, VolumeState

GROWING = replace(VOLUME, size=5 * GIB, generation=2)
REVERTING = replace(VOLUME, revert=Revert(snapshot_id=SNAPSHOT.id, generation=2), generation=2)
DELETING = replace(VOLUME, deleting=True, generation=2)
ERROR, PENDING = StateStatus.ERROR, StateStatus.PENDING

Attached = list[tuple[Attachment, AttachmentState | None]]
READY: Attached = [(attachment(A).attachment, attachment(A).state)]
WAITING: Attached = [(attachment(B).attachment, None)]
GOING: Attached = [(attachment(A, deleting=True).attachment, attachment(A).state)]
STILL_THERE: Attached = [(each, replace(found, status=PENDING)) for each, found in GOING if found is not None]


@pytest.mark.parametrize(
    ("volume", "found", "attached", "status"),
    [
        (VOLUME, None, [], Status.CREATING),
        (VOLUME, state(PENDING, generation=0, size=0), [], Status.CREATING),
        (VOLUME, state(ERROR, size=0), [], Status.ERROR),
        (VOLUME, state(), [], Status.AVAILABLE),
        (VOLUME, state(PENDING, reason="target down"), [], Status.AVAILABLE),
        (VOLUME, state(), WAITING, Status.ATTACHING),
        (VOLUME, state(), READY, Status.IN_USE),
        (VOLUME, state(), [*WAITING, *READY], Status.IN_USE),
        (VOLUME, state(), GOING, Status.IN_USE),
        (VOLUME, state(), STILL_THERE, Status.IN_USE),
        (VOLUME, state(ERROR), READY, Status.ERROR),
        (GROWING, state(), [], Status.EXTENDING),
        (GROWING, state(), READY, Status.EXTENDING),
        (GROWING, state(generation=2, reason="full"), [], Status.AVAILABLE),
        (GROWING, state(generation=2, reason="full"), READY, Status.IN_USE),
        (GROWING, state(generation=2, size=5 * GIB), [], Status.AVAILABLE),
        (GROWING, state(ERROR), [], Status.ERROR),
        (REVERTING, state(), [], Status.REVERTING),
        (REVERTING, state(generation=2), [], Status.AVAILABLE),
        (replace(REVERTING, size=5 * GIB, generation=3), state(generation=2), [], Status.EXTENDING),
        (DELETING, state(), [], Status.DELETING),
        (DELETING, None, [], Status.DELETING),
        (DELETING, state(ERROR), [], Status.DELETING),
        (DELETING, state(ERROR, generation=2), [], Status.ERROR_DELETING),
    ],
)
def test_the_status_of_a_volume_follows_from_its_rows(
    volume: Volume, found: VolumeState | None, attached: Attached, status: Status
) -> None:
    assert view_volume(volume, found, attached).status is status


def test_the_size_of_a_volume_is_what_it_has_and_before_that_what_was_asked_for() -> None:
    assert view_volume(VOLUME, None, []).size == 2 * GIB
    assert view_volume(VOLUME, state(PENDING, size=0), []).size == 2 * GIB
    assert view_volume(GROWING, state(reason="full"), []).size == 2 * GIB
    assert view_volume(GROWING, state(reason="full"), []).reason == "full"


@pytest.mark.parametrize(
    ("deleting", "found", "status"),
    [
        (False, None, Status.CREATING),
        (False, PENDING, Status.CREATING),
        (False, StateStatus.AVAILABLE, Status.AVAILABLE),
        (False, ERROR, Status.ERROR),
        (True, None, Status.DELETING),
        (True, StateStatus.AVAILABLE, Status.DELETING),
        (True, PENDING, Status.DELETING),
        (True, ERROR, Status.DELETING),
    ],
)
def test_the_status_of_a_snapshot_and_an_attachment_follows_from_their_rows(
    *, deleting: bool, found: StateStatus | None, status: Status
) -> None:
    unwanted = replace(SNAPSHOT, deleting=deleting, generation=2 if deleting else 1)
    kept = snapshot(found, wanted=unwanted)
    assert view_snapshot(kept.snapshot, kept.state).status is status

    to = attachment(A, deleting=deleting)
    told = None if found is None or to.state is None else replace(to.state, status=found)
    assert view_attachment(to.attachment, told).status is status


def test_a_deletion_that_failed_for_good_is_an_error_until_it_is_asked_for_again() -> None:
    unwanted = replace(SNAPSHOT, deleting=True, generation=2)
    refused = snapshot(ERROR, wanted=unwanted, generation=2)
    assert view_snapshot(refused.snapshot, refused.state).status is Status.ERROR_DELETING
    assert view_snapshot(replace(unwanted, generation=3), refused.state).status is Status.DELETING


def test_a_connection_is_told_while_the_host_may_use_it_and_no_longer() -> None:
    assert view_attachment(attachment(A).attachment, attachment(A).state).connection == connection(A)
    going = attachment(A, deleting=True)
    assert view_attachment(going.attachment, going.state).connection is None


@pytest.mark.parametrize(
    ("volume", "found", "settled"),
    [
        (VOLUME, None, False),
        (VOLUME, state(PENDING, generation=0, size=0), False),
        (VOLUME, state(), True),
        (VOLUME, state(ERROR, size=0), True),
        (VOLUME, state(PENDING), False),
        (GROWING, state(), False),
        (GROWING, state(generation=2), True),
        (GROWING, state(ERROR), True),
        (DELETING, state(ERROR), False),
        (DELETING, state(ERROR, generation=2), True),
    ],
)
def test_who_waits_is_answered_once_nothing_more_happens_by_itself(
    volume: Volume, found: VolumeState | None, *, settled: bool
) -> None:
    assert is_settled(volume, found) is settled
