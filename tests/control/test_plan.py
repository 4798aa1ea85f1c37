"""What is done so that a volume becomes what is wanted: the rules that data safety rests on, as tables."""

from dataclasses import replace
from pathlib import Path

import pytest

from control.planning import HERE, KEPT, SNAPSHOT, VOLUME, A, B, attachment, export, let_in, snapshot, state
from weft.control.reconcile import cuts, is_blocked, may_pass, plan
from weft.control.steps import (
    CreateVolume,
    DeleteSnapshot,
    DeleteVolume,
    ExtendVolume,
    Failure,
    Found,
    MakeExport,
    RemoveExport,
    RevertVolume,
    Step,
    TakeSnapshot,
    Wanted,
)
from weft.errors import (
    CommandError,
    ConflictError,
    DataError,
    InvalidValueError,
    NoSpaceError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
    WeftError,
)
from weft.model import GIB, FoundVolume, Revert, SnapshotId, StateStatus, Volume

GROWN = replace(VOLUME, size=5 * GIB, generation=2)
REVERTED = replace(VOLUME, revert=Revert(snapshot_id=SNAPSHOT.id, generation=2), generation=2)
DELETED = replace(VOLUME, deleting=True, generation=2)
UNWANTED_SNAPSHOT = replace(SNAPSHOT, deleting=True, generation=2)


# -- making ---------------------------------------------------------------------------------------------------


def test_a_volume_that_was_never_made_is_made() -> None:
    assert plan(Wanted(volume=VOLUME), Found()) == (CreateVolume(VOLUME, None),)


def test_a_volume_from_a_snapshot_is_made_from_it() -> None:
    copy = replace(VOLUME, source_snapshot_id=SnapshotId("s"))
    assert plan(Wanted(volume=copy, source=SNAPSHOT), Found()) == (CreateVolume(copy, SNAPSHOT),)


def test_making_is_tried_again_after_trouble_that_may_pass_and_not_after_any_other() -> None:
    waiting = state(StateStatus.PENDING, generation=0, size=0)
    given_up = state(StateStatus.ERROR, size=0)
    assert plan(Wanted(volume=VOLUME, state=waiting), Found()) == (CreateVolume(VOLUME, None),)
    assert plan(Wanted(volume=VOLUME, state=given_up), Found()) == ()


def test_nothing_is_done_to_a_volume_that_is_as_it_is_wanted() -> None:
    assert plan(Wanted(volume=VOLUME, state=state()), Found(volume=HERE)) == ()
    whole = Wanted(volume=VOLUME, state=state(), snapshots=(snapshot(),), attachments=(attachment(A),))
    assert plan(whole, Found(volume=HERE, snapshots=KEPT, export=export(A))) == ()


# -- data is never made anew ----------------------------------------------------------------------------------


@pytest.mark.parametrize("volume", [VOLUME, GROWN, REVERTED], ids=["settled", "growing", "reverting"])
@pytest.mark.parametrize("status", list(StateStatus))
@pytest.mark.parametrize("found", [None, replace(HERE, size=GIB)], ids=["vanished", "shrunk"])
def test_bytes_that_were_there_once_are_never_made_anew(
    volume: Volume, status: StateStatus, found: FoundVolume | None
) -> None:
    wanted = Wanted(
        volume=volume,
        state=state(status),
        snapshots=(snapshot(None),),
        attachments=(attachment(A), attachment(B, connected=False)),
    )
    assert plan(wanted, Found(volume=found)) == ()


def test_the_export_of_a_volume_that_has_vanished_is_left_to_the_hosts_that_use_it() -> None:
    wanted = Wanted(volume=VOLUME, state=state(), attachments=(attachment(A),))
    assert plan(wanted, Found(export=export(A, complete=False))) == ()


def test_a_host_is_cut_off_from_a_volume_that_has_vanished_too() -> None:
    both = Wanted(volume=VOLUME, state=state(), attachments=(attachment(A), attachment(B, deleting=True)))
    assert plan(both, Found(export=export(A, B))) == (MakeExport(VOLUME.id, let_in(A)),)
    assert plan(both, Found()) == (RemoveExport(VOLUME.id),)
    last = Wanted(volume=VOLUME, state=state(), attachments=(attachment(B, deleting=True),))
    assert plan(last, Found(export=export(B))) == (RemoveExport(VOLUME.id),)


def test_a_snapshot_that_was_taken_once_is_not_taken_again() -> None:
    for status in (StateStatus.AVAILABLE, StateStatus.ERROR):
        wanted = Wanted(volume=VOLUME, state=state(), snapshots=(snapshot(status),))
        assert plan(wanted, Found(volume=HERE)) == ()


# -- data is deleted only for a row that is being deleted --------------------------------------------------------


@pytest.mark.parametrize("volume", [VOLUME, GROWN, REVERTED])
@pytest.mark.parametrize(
    "volume_state", [None, state(), state(StateStatus.ERROR), state(size=0, generation=0)]
)
@pytest.mark.parametrize("found", [None, HERE, replace(HERE, size=GIB), replace(HERE, size=9 * GIB)])
def test_nothing_is_deleted_that_nobody_asked_to_delete(
    volume: Volume, volume_state: object, found: FoundVolume | None
) -> None:
    wanted = Wanted(volume=volume, state=volume_state, snapshots=(snapshot(),))  # type: ignore[arg-type]
    for everything in (Found(volume=found), Found(volume=found, snapshots=KEPT)):
        steps = plan(wanted, everything)
        assert not [step for step in steps if isinstance(step, DeleteVolume | DeleteSnapshot)]


def test_a_volume_that_is_to_go_is_deleted_after_its_export() -> None:
    wanted = Wanted(volume=DELETED, state=state())
    assert plan(wanted, Found(volume=HERE)) == (DeleteVolume(DELETED),)
    assert plan(wanted, Found(volume=HERE, export=export(A))) == (
        RemoveExport(VOLUME.id),
        DeleteVolume(DELETED),
    )


def test_deletion_is_asked_of_the_driver_also_when_nothing_is_found() -> None:
    """Something half-made may be there that is not found."""
    assert plan(Wanted(volume=DELETED), Found()) == (DeleteVolume(DELETED),)


def test_a_deletion_that_failed_for_good_waits_for_a_person() -> None:
    refused = state(StateStatus.ERROR, generation=2)
    assert plan(Wanted(volume=DELETED, state=refused), Found(volume=HERE)) == ()
    again = replace(DELETED, generation=3)
    assert plan(Wanted(volume=again, state=refused), Found(volume=HERE)) == (DeleteVolume(again),)


def test_a_snapshot_that_is_to_go_is_deleted_once_its_turn_has_come() -> None:
    wanted = Wanted(volume=VOLUME, state=state(), snapshots=(snapshot(wanted=UNWANTED_SNAPSHOT),))
    assert plan(wanted, Found(volume=HERE, snapshots=KEPT)) == (DeleteSnapshot(UNWANTED_SNAPSHOT),)
    refused = snapshot(StateStatus.ERROR, wanted=UNWANTED_SNAPSHOT, generation=2)
    assert plan(replace(wanted, snapshots=(refused,)), Found(volume=HERE, snapshots=KEPT)) == ()


# -- growing, reverting, taking snapshots --------------------------------------------------------------------------


def test_a_volume_grows_when_it_was_asked_to_and_not_again_once_that_was_refused() -> None:
    assert plan(Wanted(volume=GROWN, state=state()), Found(volume=HERE)) == (ExtendVolume(GROWN),)
    refused = Wanted(volume=GROWN, state=state(generation=2))
    assert plan(refused, Found(volume=HERE)) == ()


def test_a_volume_never_shrinks() -> None:
    larger = replace(HERE, size=9 * GIB)
    for volume_state in (None, state(), state(size=9 * GIB)):
        assert plan(Wanted(volume=GROWN, state=volume_state), Found(volume=larger)) == ()


def test_a_volume_is_reverted_once() -> None:
    assert plan(Wanted(volume=REVERTED, state=state()), Found(volume=HERE)) == (
        RevertVolume(REVERTED, SNAPSHOT.id),
    )
    assert plan(Wanted(volume=REVERTED, state=state(generation=2)), Found(volume=HERE)) == ()
    grown_later = replace(REVERTED, generation=3, size=5 * GIB)
    assert plan(Wanted(volume=grown_later, state=state(generation=2)), Found(volume=HERE)) == (
        ExtendVolume(grown_later),
    )


@pytest.mark.parametrize("volume", [GROWN, REVERTED])
def test_a_snapshot_is_taken_before_its_volume_changes(volume: Volume) -> None:
    wanted = Wanted(volume=volume, state=state(), snapshots=(snapshot(None),))
    steps = plan(wanted, Found(volume=HERE))
    assert steps[0] == TakeSnapshot(SNAPSHOT)
    assert len(steps) == 2


def test_an_export_for_nobody_is_ended_before_the_volume_is_reverted() -> None:
    steps = plan(Wanted(volume=REVERTED, state=state()), Found(volume=HERE, export=export(A)))
    assert steps == (RemoveExport(VOLUME.id), RevertVolume(REVERTED, SNAPSHOT.id))


def test_a_snapshot_that_is_still_found_is_not_taken_again() -> None:
    wanted = Wanted(volume=VOLUME, state=state(), snapshots=(snapshot(None),))
    assert plan(wanted, Found(volume=HERE, snapshots=KEPT)) == ()


# -- exports: closed by default, exact, never taken away to be repaired ---------------------------------------------


def test_no_attachment_no_export() -> None:
    assert plan(Wanted(volume=VOLUME, state=state()), Found(volume=HERE)) == ()
    assert plan(Wanted(volume=VOLUME, state=state()), Found(volume=HERE, export=export())) == (
        RemoveExport(VOLUME.id),
    )


def test_an_attachment_of_a_host_without_identity_lets_nobody_in() -> None:
    nameless = replace(A, initiators=())
    for wrong in (attachment(A, known=False), replace(attachment(A, connected=False), host=nameless)):
        assert plan(Wanted(volume=VOLUME, state=state(), attachments=(wrong,)), Found(volume=HERE)) == ()


def test_an_export_names_exactly_the_hosts_that_are_attached_in_one_order() -> None:
    wanted = Wanted(
        volume=VOLUME,
        state=state(),
        attachments=(attachment(B, connected=False), attachment(A, connected=False)),
    )
    assert plan(wanted, Found(volume=HERE)) == (MakeExport(VOLUME.id, let_in(A, B)),)


@pytest.mark.parametrize(
    "found",
    [
        None,
        export(A, complete=False),
        export(),
        export(A, B),
        export(B),
        export(A, size=GIB),
        export(A, path=Path("/elsewhere")),
    ],
    ids=["forgotten", "half-made", "nobody", "one too many", "another", "too small", "another path"],
)
def test_an_export_that_is_not_right_is_made_right_and_never_removed(found: object) -> None:
    wanted = Wanted(volume=VOLUME, state=state(), attachments=(attachment(A),))
    assert plan(wanted, Found(volume=HERE, export=found)) == (MakeExport(VOLUME.id, let_in(A)),)  # type: ignore[arg-type]


def test_an_attachment_that_was_not_told_its_connection_is_told() -> None:
    wanted = Wanted(volume=VOLUME, state=state(), attachments=(attachment(A, connected=False),))
    assert plan(wanted, Found(volume=HERE, export=export(A))) == (MakeExport(VOLUME.id, let_in(A)),)


def test_an_attachment_that_was_told_other_portals_is_told_again() -> None:
    moved = replace(export(A), portals=("192.0.2.9:4420",))
    wanted = Wanted(volume=VOLUME, state=state(), attachments=(attachment(A),))
    assert plan(wanted, Found(volume=HERE, export=moved)) == (MakeExport(VOLUME.id, let_in(A)),)


@pytest.mark.parametrize("found", [None, export(A), export(A, B), export(B)])
def test_a_host_that_is_to_go_is_cut_off_whatever_is_found_until_its_row_has_gone(found: object) -> None:
    wanted = Wanted(volume=VOLUME, state=state(), attachments=(attachment(A), attachment(B, deleting=True)))
    assert plan(wanted, Found(volume=HERE, export=found)) == (MakeExport(VOLUME.id, let_in(A)),)  # type: ignore[arg-type]


def test_the_export_goes_with_its_last_host() -> None:
    wanted = Wanted(volume=VOLUME, state=state(), attachments=(attachment(A, deleting=True),))
    for found in (None, export(A), export(A, complete=False)):
        assert plan(wanted, Found(volume=HERE, export=found)) == (RemoveExport(VOLUME.id),)


def test_hosts_are_shown_growth_after_it_has_happened() -> None:
    wanted = Wanted(volume=GROWN, state=state(), attachments=(attachment(A),))
    assert plan(wanted, Found(volume=HERE, export=export(A))) == (
        ExtendVolume(GROWN),
        MakeExport(VOLUME.id, let_in(A)),
    )
    grown = Wanted(volume=GROWN, state=state(generation=2, size=5 * GIB), attachments=(attachment(A),))
    assert plan(grown, Found(volume=replace(HERE, size=5 * GIB), export=export(A))) == (
        MakeExport(VOLUME.id, let_in(A)),
    )


@pytest.mark.parametrize("volume", [VOLUME, GROWN])
def test_a_host_is_cut_off_before_anything_is_done_to_the_bytes(volume: Volume) -> None:
    unwanted = replace(UNWANTED_SNAPSHOT, id=SnapshotId("unwanted"))
    wanted = Wanted(
        volume=volume,
        state=state(),
        snapshots=(snapshot(None), snapshot(wanted=unwanted)),
        attachments=(attachment(A), attachment(B, deleting=True)),
    )
    narrow = MakeExport(VOLUME.id, let_in(A))
    steps = plan(wanted, Found(volume=HERE, export=export(A, B)))
    assert cuts(steps) == (narrow,)
    data = [step for step in steps if step != narrow]
    assert TakeSnapshot(SNAPSHOT) in data
    assert DeleteSnapshot(unwanted) in data
    # Growth is shown once it has happened, and what has not grown is not shown twice.
    assert steps == ((narrow, *data, narrow) if volume is GROWN else (narrow, *data))


def test_a_host_is_let_in_after_the_work_on_the_bytes() -> None:
    wanted = Wanted(
        volume=VOLUME,
        state=state(),
        snapshots=(snapshot(None),),
        attachments=(attachment(A, connected=False),),
    )
    steps = plan(wanted, Found(volume=HERE))
    assert steps == (TakeSnapshot(SNAPSHOT), MakeExport(VOLUME.id, let_in(A)))
    assert cuts(steps) == ()


def test_a_refused_growth_does_not_have_the_export_made_again_and_again() -> None:
    wanted = Wanted(volume=GROWN, state=state(generation=2), attachments=(attachment(A),))
    assert plan(wanted, Found(volume=HERE, export=export(A))) == ()


# -- what a failure stops -----------------------------------------------------------------------------------------

CREATE, EXTEND, DELETE = CreateVolume(VOLUME, None), ExtendVolume(VOLUME), DeleteVolume(VOLUME)
REVERT, TAKE, DROP = RevertVolume(VOLUME, SNAPSHOT.id), TakeSnapshot(SNAPSHOT), DeleteSnapshot(SNAPSHOT)
SHOW, HIDE = MakeExport(VOLUME.id, let_in(A)), RemoveExport(VOLUME.id)
ALL: list[Step] = [CREATE, EXTEND, DELETE, REVERT, TAKE, DROP, SHOW, HIDE]


@pytest.mark.parametrize(
    ("failed", "stopped"),
    [
        (CREATE, ALL),
        (HIDE, [DELETE, REVERT, DROP]),
        (TAKE, [EXTEND, REVERT]),
        (DROP, [DELETE]),
        (EXTEND, []),
        (REVERT, []),
        (DELETE, []),
        (SHOW, []),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, list) else "",
)
def test_a_failed_step_stops_those_that_would_do_harm_after_it(failed: Step, stopped: list[Step]) -> None:
    assert [step for step in ALL if is_blocked(step, failed)] == stopped


@pytest.mark.parametrize(
    ("step", "lasting"),
    [
        (CREATE, [NoSpaceError("x"), DataError("x"), CommandError(("lvcreate",), 5, ""), NotFoundError("x")]),
        (EXTEND, [NoSpaceError("x"), DataError("x"), UnsupportedError("x")]),
        (DELETE, [ConflictError("x"), DataError("x")]),
        (TAKE, [NoSpaceError("x"), UnsupportedError("x")]),
        (SHOW, [InvalidValueError("x", "y"), UnsupportedError("x")]),
        (HIDE, []),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, list) else "",
)
def test_only_trouble_that_may_pass_by_itself_leaves_the_row_waiting(
    step: Step, lasting: list[WeftError]
) -> None:
    assert may_pass(Failure(step, UnavailableError("x")))
    assert not [error for error in lasting if may_pass(Failure(step, error))]
    if isinstance(step, MakeExport | RemoveExport):
        assert may_pass(Failure(step, DataError("an address is not there yet")))
