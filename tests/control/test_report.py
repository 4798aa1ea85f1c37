"""What is written down after a pass: nothing is forgotten before it is done, and every failure is said."""

from dataclasses import replace

import pytest

from control.planning import (
    HERE,
    KEPT,
    SNAPSHOT,
    VOLUME,
    A,
    B,
    attachment,
    connection,
    export,
    let_in,
    snapshot,
    state,
)
from weft.connection import AttachmentState
from weft.control.reconcile import plan
from weft.control.report import report, report_unobserved
from weft.control.steps import (
    CreateVolume,
    DeleteSnapshot,
    DeleteVolume,
    ExtendVolume,
    Failure,
    Found,
    MakeExport,
    Outcome,
    RemoveExport,
    RevertVolume,
    Step,
    TakeSnapshot,
    Wanted,
    WantedAttachment,
    WantedSnapshot,
)
from weft.errors import ConflictError, NoSpaceError, UnavailableError, UnsupportedError, WeftError
from weft.model import GIB, Revert, SnapshotState, StateStatus, Volume, VolumeState
from weft.ports import Delete, Key, Put, Write

GROWN = replace(VOLUME, size=5 * GIB, generation=2)
DELETED = replace(VOLUME, deleting=True, generation=2)
DOWN, FULL = UnavailableError("the pool is down"), NoSpaceError("the pool is full")


def failed(step: Step, error: WeftError) -> Outcome:
    return Outcome(failed=(Failure(step, error),))


def written(writes: tuple[Write, ...], kind: type[object]) -> list[object]:
    return [each.value for each in writes if isinstance(each, Put) and isinstance(each.value, kind)]


def volume_state(writes: tuple[Write, ...]) -> VolumeState:
    (found,) = written(writes, VolumeState)
    assert isinstance(found, VolumeState)
    return found


def attachment_state(writes: tuple[Write, ...]) -> AttachmentState:
    (found,) = written(writes, AttachmentState)
    assert isinstance(found, AttachmentState)
    return found


def snapshot_state(writes: tuple[Write, ...]) -> SnapshotState:
    (found,) = written(writes, SnapshotState)
    assert isinstance(found, SnapshotState)
    return found


def removed(writes: tuple[Write, ...]) -> set[Key]:
    return {each.key for each in writes if isinstance(each, Delete)}


# -- the volume ---------------------------------------------------------------------------------------------------


def test_a_volume_that_was_made_is_available_with_what_was_found() -> None:
    writes = report(Wanted(volume=VOLUME), Found(volume=HERE), Outcome(done=(CreateVolume(VOLUME, None),)))
    assert writes == (Put(writes[0].table, state()),)  # type: ignore[union-attr]


def test_nothing_is_written_when_nothing_has_changed() -> None:
    wanted = Wanted(volume=VOLUME, state=state(), snapshots=(snapshot(),), attachments=(attachment(A),))
    assert report(wanted, Found(volume=HERE, snapshots=KEPT, export=export(A)), Outcome()) == ()


@pytest.mark.parametrize(
    ("error", "status", "generation"),
    [(DOWN, StateStatus.PENDING, 0), (FULL, StateStatus.ERROR, 1)],
)
def test_a_volume_that_could_not_be_made_waits_or_is_an_error(
    error: WeftError, status: StateStatus, generation: int
) -> None:
    writes = report(Wanted(volume=VOLUME), Found(), failed(CreateVolume(VOLUME, None), error))
    reason = f"creating volume volume failed: {error}"
    assert volume_state(writes) == state(status, generation=generation, size=0, reason=reason)


@pytest.mark.parametrize(("error", "generation"), [(DOWN, 1), (FULL, 2)])
def test_a_volume_that_could_not_grow_stays_available_and_says_why(error: WeftError, generation: int) -> None:
    wanted = Wanted(volume=GROWN, state=state())
    writes = report(wanted, Found(volume=HERE), failed(ExtendVolume(GROWN), error))
    reason = f"extending volume volume failed: {error}"
    assert volume_state(writes) == state(generation=generation, reason=reason)


def test_an_intent_that_was_not_tried_is_not_settled() -> None:
    outcome = Outcome(
        failed=(Failure(TakeSnapshot(SNAPSHOT), ConflictError("too slow")),), left=(ExtendVolume(GROWN),)
    )
    wanted = Wanted(volume=GROWN, state=state(), snapshots=(snapshot(None),))
    writes = report(wanted, Found(volume=HERE), outcome)
    assert snapshot_state(writes).status is StateStatus.ERROR
    assert written(writes, VolumeState) == []


def test_why_a_verb_failed_stands_until_the_next_intent() -> None:
    said = state(generation=2, reason="reverting volume v failed: x")
    reverted = replace(VOLUME, generation=2, revert=Revert(snapshot_id=SNAPSHOT.id, generation=2))
    assert report(Wanted(volume=reverted, state=said), Found(volume=HERE), Outcome()) == ()
    done = report(
        Wanted(volume=replace(GROWN, generation=3), state=said),
        Found(volume=replace(HERE, size=5 * GIB)),
        Outcome(done=(ExtendVolume(GROWN),)),
    )
    assert volume_state(done) == state(generation=3, size=5 * GIB)


@pytest.mark.parametrize("found", [None, replace(HERE, size=GIB)])
def test_a_volume_that_lost_bytes_is_an_error_that_keeps_its_size_and_open_intent(found: object) -> None:
    writes = report(Wanted(volume=GROWN, state=state()), Found(volume=found), Outcome())  # type: ignore[arg-type]
    lost = volume_state(writes)
    assert (lost.status, lost.size, lost.generation) == (StateStatus.ERROR, 2 * GIB, 1)
    assert "weft does not make data anew" in lost.reason
    back = report(Wanted(volume=VOLUME, state=lost), Found(volume=HERE), Outcome())
    assert volume_state(back) == state()


@pytest.mark.parametrize(
    ("volume", "step"),
    [
        (GROWN, ExtendVolume(GROWN)),
        (GROWN, RevertVolume(GROWN, SNAPSHOT.id)),
        (DELETED, RemoveExport(VOLUME.id)),
        (DELETED, DeleteVolume(DELETED)),
    ],
    ids=["extend", "revert", "remove", "delete"],
)
@pytest.mark.parametrize("error", [DOWN, FULL])
def test_a_volume_that_vanished_in_the_middle_of_a_verb_is_not_made_anew(
    volume: Volume, step: Step, error: WeftError
) -> None:
    wanted = Wanted(volume=volume, state=state())
    writes = report(wanted, Found(), failed(step, error))
    later = Wanted(volume=VOLUME, state=volume_state(writes))
    assert later.was_made
    assert plan(later, Found()) == ()


def test_a_growth_that_was_refused_is_still_said_when_the_volume_was_lost_and_is_back() -> None:
    lost = state(StateStatus.ERROR, generation=2, reason="vanished")
    back = volume_state(report(Wanted(volume=GROWN, state=lost), Found(volume=HERE), Outcome()))
    assert back.status is StateStatus.AVAILABLE
    assert back.reason == f"volume volume did not grow to {5 * GIB} bytes; ask for it again"
    assert report(Wanted(volume=GROWN, state=back), Found(volume=HERE), Outcome()) == ()


def test_a_deletion_that_failed_is_an_error_and_forgets_nothing() -> None:
    wanted = Wanted(volume=DELETED, state=state())
    writes = report(wanted, Found(volume=HERE), failed(DeleteVolume(DELETED), ConflictError("it is busy")))
    assert not removed(writes)
    reason = "deleting volume volume failed: it is busy"
    assert volume_state(writes) == state(StateStatus.ERROR, generation=2, reason=reason)


def test_the_rows_of_a_volume_go_once_its_bytes_have_gone() -> None:
    wanted = Wanted(volume=DELETED, state=state())
    assert removed(report(wanted, Found(), Outcome())) == set()
    writes = report(wanted, Found(), Outcome(done=(DeleteVolume(DELETED),)))
    assert removed(writes) == {Key("volumes", VOLUME.id), Key("volume_states", VOLUME.id)}
    assert len(writes) == 2


# -- attachments --------------------------------------------------------------------------------------------------


def test_the_row_of_a_host_that_is_to_go_stays_until_it_was_cut_off() -> None:
    wanted = Wanted(volume=VOLUME, state=state(), attachments=(attachment(A), attachment(B, deleting=True)))
    found = Found(volume=HERE, export=export(A))
    gone = {Key("attachments", "to b"), Key("attachment_states", "to b")}
    assert removed(report(wanted, found, Outcome())) == set()
    for error in (DOWN, FULL, UnsupportedError("x")):
        assert removed(report(wanted, found, failed(MakeExport(VOLUME.id, let_in(A)), error))) == set()
    cut = Outcome(done=(MakeExport(VOLUME.id, let_in(A)),), connections={A.id: connection(A)})
    assert removed(report(wanted, found, cut)) == gone
    assert removed(report(wanted, found, Outcome(done=(RemoveExport(VOLUME.id),)))) == gone


def test_other_work_on_the_volume_does_not_count_as_cutting_a_host_off() -> None:
    wanted = Wanted(volume=GROWN, state=state(), attachments=(attachment(B, deleting=True),))
    done = Outcome(done=(ExtendVolume(GROWN), TakeSnapshot(SNAPSHOT)))
    assert removed(report(wanted, Found(volume=HERE), done)) == set()


def test_a_cut_that_failed_is_tried_again_and_says_why() -> None:
    wanted = Wanted(volume=VOLUME, state=state(), attachments=(attachment(A, deleting=True),))
    writes = report(wanted, Found(volume=HERE, export=export(A)), failed(RemoveExport(VOLUME.id), FULL))
    said = attachment_state(writes)
    assert (said.status, said.reason, said.connection) == (StateStatus.PENDING, str(FULL), None)
    assert said.generation == 1


def test_a_host_gets_its_connection_once_the_export_is_made() -> None:
    wanted = Wanted(volume=VOLUME, state=state(), attachments=(attachment(A, connected=False),))
    done = Outcome(done=(MakeExport(VOLUME.id, let_in(A)),), connections={A.id: connection(A)})
    assert attachment_state(report(wanted, Found(volume=HERE), done)) == attachment(A).state


@pytest.mark.parametrize(
    ("error", "status", "generation"),
    [(DOWN, StateStatus.PENDING, 0), (UnsupportedError("no IPv6"), StateStatus.ERROR, 1)],
)
def test_an_attachment_whose_export_failed_waits_or_is_an_error(
    error: WeftError, status: StateStatus, generation: int
) -> None:
    wanted = Wanted(volume=VOLUME, state=state(), attachments=(attachment(A, connected=False),))
    writes = report(wanted, Found(volume=HERE), failed(MakeExport(VOLUME.id, let_in(A)), error))
    said = attachment_state(writes)
    assert (said.status, said.generation, said.reason) == (status, generation, str(error))


def test_a_host_that_is_connected_keeps_its_connection_when_the_export_cannot_be_repaired() -> None:
    wanted = Wanted(volume=VOLUME, state=state(), attachments=(attachment(A),))
    writes = report(wanted, Found(volume=HERE), failed(MakeExport(VOLUME.id, let_in(A)), DOWN))
    said = attachment_state(writes)
    assert said == replace(attachment_state_of(attachment(A)), reason=str(DOWN))
    whole = Wanted(volume=VOLUME, state=state(), attachments=(replace(attachment(A), state=said),))
    again = report(whole, Found(volume=HERE, export=export(A)), Outcome())
    assert attachment_state(again) == attachment(A).state


def attachment_state_of(wanted: WantedAttachment) -> AttachmentState:
    assert wanted.state is not None
    return wanted.state


def test_an_attachment_of_a_host_without_identity_says_what_to_do() -> None:
    wanted = Wanted(volume=VOLUME, state=state(), attachments=(attachment(A, connected=False, known=False),))
    said = attachment_state(report(wanted, Found(volume=HERE), Outcome()))
    assert said.status is StateStatus.ERROR
    assert said.reason == "host a has no nvmeof initiator; give it one and attach again"


def test_attachments_and_snapshots_of_a_volume_that_vanished_do_not_wait_for_ever() -> None:
    wanted = Wanted(
        volume=VOLUME,
        state=state(),
        snapshots=(snapshot(None),),
        attachments=(attachment(A, connected=False),),
    )
    writes = report(wanted, Found(), Outcome())
    assert attachment_state(writes).status is snapshot_state(writes).status is StateStatus.ERROR
    assert "has vanished" in attachment_state(writes).reason
    assert "has vanished" in snapshot_state(writes).reason


# -- snapshots ----------------------------------------------------------------------------------------------------


def test_a_snapshot_is_available_once_it_is_found() -> None:
    wanted = Wanted(volume=VOLUME, state=state(), snapshots=(snapshot(None),))
    writes = report(wanted, Found(volume=HERE, snapshots=KEPT), Outcome(done=(TakeSnapshot(SNAPSHOT),)))
    assert snapshot_state(writes) == snapshot().state


@pytest.mark.parametrize(
    ("error", "status", "generation"),
    [(DOWN, StateStatus.PENDING, 0), (FULL, StateStatus.ERROR, 1)],
)
def test_a_snapshot_that_could_not_be_taken_waits_or_is_an_error(
    error: WeftError, status: StateStatus, generation: int
) -> None:
    wanted = Wanted(volume=VOLUME, state=state(), snapshots=(snapshot(None),))
    said = snapshot_state(report(wanted, Found(volume=HERE), failed(TakeSnapshot(SNAPSHOT), error)))
    assert (said.status, said.generation) == (status, generation)
    assert said.reason == f"taking snapshot snapshot failed: {error}"


def test_the_rows_of_a_snapshot_go_once_it_has_gone() -> None:
    unwanted = replace(SNAPSHOT, deleting=True, generation=2)
    wanted = Wanted(volume=VOLUME, state=state(), snapshots=(snapshot(wanted=unwanted),))
    found = Found(volume=HERE, snapshots=KEPT)
    assert report(wanted, found, Outcome()) == ()
    busy = failed(DeleteSnapshot(unwanted), ConflictError("it is busy"))
    said = snapshot_state(report(wanted, found, busy))
    assert (said.status, said.generation) == (StateStatus.ERROR, 2)
    done = report(wanted, Found(volume=HERE), Outcome(done=(DeleteSnapshot(unwanted),)))
    assert removed(done) == {Key("snapshots", SNAPSHOT.id), Key("snapshot_states", SNAPSHOT.id)}


def test_a_snapshot_that_has_vanished_is_an_error_until_it_is_back() -> None:
    wanted = Wanted(volume=VOLUME, state=state(), snapshots=(snapshot(),))
    lost = snapshot_state(report(wanted, Found(volume=HERE), Outcome()))
    assert lost.status is StateStatus.ERROR
    assert "has vanished" in lost.reason
    later = replace(wanted, snapshots=(WantedSnapshot(SNAPSHOT, lost),))
    assert snapshot_state(report(later, Found(volume=HERE, snapshots=KEPT), Outcome())) == snapshot().state


# -- when nothing can be seen ----------------------------------------------------------------------------------------


def test_when_nothing_can_be_seen_only_the_reason_is_written() -> None:
    wanted = Wanted(volume=VOLUME, state=state(), snapshots=(snapshot(),), attachments=(attachment(A),))
    writes = report_unobserved(wanted, DOWN)
    assert len(writes) == 1
    unseen = volume_state(writes)
    assert unseen == state(StateStatus.PENDING, reason=str(DOWN))
    back = report(
        replace(wanted, state=unseen), Found(volume=HERE, snapshots=KEPT, export=export(A)), Outcome()
    )
    assert volume_state(back) == state()


def test_a_lasting_reason_is_not_overwritten_by_a_passing_one() -> None:
    for lasting in (
        state(generation=1, reason="extending volume v failed: x"),
        state(StateStatus.ERROR, reason="vanished"),
    ):
        assert report_unobserved(Wanted(volume=VOLUME, state=lasting), DOWN) == ()


def test_whoever_waits_is_told_that_nothing_can_be_seen() -> None:
    wanted = Wanted(
        volume=VOLUME,
        attachments=(attachment(A), attachment(B, connected=False)),
    )
    writes = report_unobserved(wanted, DOWN)
    assert volume_state(writes) == state(StateStatus.PENDING, generation=0, size=0, reason=str(DOWN))
    assert (attachment_state(writes).id, attachment_state(writes).reason) == ("to b", str(DOWN))
    assert report_unobserved(replace(wanted, state=volume_state(writes)), DOWN)
