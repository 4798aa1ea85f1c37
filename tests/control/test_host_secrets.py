"""Keys of hosts: who may set and read them, what the target is told, and where they rest."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from control.control_plane import ADMIN, ALICE, BOB, ControlPlane
from fakes.crash import crashes
from fakes.interrupted_store import InterruptedStore
from weft.control.service import Service
from weft.errors import ConflictError, NotFoundError, PermissionDeniedError, UnsupportedError
from weft.model import (
    DhChapSecrets,
    Host,
    HostId,
    Refusal,
    RefusalReason,
    VolumeId,
)
from weft.names import host_nqn, new_id
from weft.nvme.dhchap_key import generate_dhchap_key
from weft.ports import ATTACHMENT_STATES, HOST_SECRETS
from weft.requests import Caller, CreateAttachmentRequest, OneHost
from weft.store.sqlite import SqliteStore
from weft.tokens import TokenId


def keys(*, both_ways: bool = False) -> DhChapSecrets:
    return DhChapSecrets(
        host_key=generate_dhchap_key(), controller_key=generate_dhchap_key() if both_ways else None
    )


def only(host: Host | None) -> Caller:
    """Who acts for one host."""
    bound = OneHost(token_id=TokenId(new_id()), host_id=host.id if host is not None else None)
    return Caller(tenant_id=ALICE.tenant_id, only=bound)


def attach(plane: ControlPlane, volume_id: VolumeId, host_id: HostId) -> None:
    plane.service.attachments.create(ALICE, CreateAttachmentRequest(volume_id=volume_id, host_id=host_id))
    plane.settle()


def test_a_host_with_keys_is_exported_to_with_them(plane: ControlPlane) -> None:
    host, volume = plane.host("a"), plane.volume()
    wanted = keys(both_ways=True)
    plane.service.secrets.put(ALICE, host.id, wanted)
    attach(plane, volume.id, host.id)
    found = plane.target.export(volume.id)
    assert found is not None
    assert found.key_digests == {host.initiators[0].port_name: wanted.digest}


def test_changed_keys_reach_every_export_of_the_host_and_cut_nobody(plane: ControlPlane) -> None:
    host, other = plane.host("a"), plane.host("b")
    volumes = [plane.volume(name, multi_attach=True) for name in ("v1", "v2")]
    for volume in volumes:
        attach(plane, volume.id, host.id)
        attach(plane, volume.id, other.id)
        plane.target.connect(volume.id, other.initiators[0].port_name)
    nqn = host.initiators[0].port_name
    for wanted in (keys(), keys(both_ways=True), None):
        if wanted is None:
            plane.service.secrets.remove(ALICE, host.id, force=True)
        else:
            plane.service.secrets.put(ALICE, host.id, wanted, force=True)
        plane.settle()
        for volume in volumes:
            found = plane.target.export(volume.id)
            assert found is not None
            assert found.key_digests == ({nqn: wanted.digest} if wanted is not None else {})
    assert plane.target.cut == []


def test_keys_of_a_host_with_volumes_change_by_force_alone(plane: ControlPlane) -> None:
    host, volume = plane.host("a"), plane.volume()
    before = keys()
    plane.service.secrets.put(ALICE, host.id, before)
    attach(plane, volume.id, host.id)
    with pytest.raises(ConflictError, match="volumes are attached to host a"):
        plane.service.secrets.put(ALICE, host.id, keys())
    with pytest.raises(ConflictError, match="volumes are attached to host a"):
        plane.service.secrets.remove(ALICE, host.id)
    plane.service.secrets.put(ALICE, host.id, before)  # no change
    assert plane.service.secrets.of(ALICE, host.id) == before


def test_only_who_owns_a_host_sets_and_reads_its_keys(plane: ControlPlane) -> None:
    host = plane.host("a")
    wanted = keys()
    for caller in (BOB, only(plane.host("b")), only(None)):
        with pytest.raises(NotFoundError):
            plane.service.secrets.of(caller, host.id)
    for caller, refusal_ in ((BOB, NotFoundError), (only(host), PermissionDeniedError)):
        with pytest.raises(refusal_):
            plane.service.secrets.put(caller, host.id, wanted)
        with pytest.raises(refusal_):
            plane.service.secrets.remove(caller, host.id)
    with pytest.raises(NotFoundError):
        plane.service.secrets.put(ALICE, HostId(new_id()), wanted)
    plane.service.secrets.put(ADMIN, host.id, wanted)
    assert plane.service.secrets.of(only(host), host.id) == wanted


def test_the_keys_go_with_the_host(plane: ControlPlane) -> None:
    host = plane.host("a")
    plane.service.secrets.put(ALICE, host.id, keys())
    plane.service.hosts.delete(ALICE, host.id)
    assert plane.store.list(HOST_SECRETS) == []


def test_keys_rest_in_their_own_table_and_in_no_other_row_or_log(
    plane: ControlPlane, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host, volume = plane.host("a"), plane.volume()
    wanted = keys(both_ways=True)
    plane.service.secrets.put(ALICE, host.id, wanted)
    caplog.set_level("DEBUG")
    attach(plane, volume.id, host.id)
    (view,) = plane.service.attachments.list(ALICE)
    shown = plane.service.attachments.get(ALICE, view.attachment.id, with_secrets=True)
    assert shown.connection is not None
    assert shown.connection.secrets == wanted
    told = f"{shown!r} {view!r} {plane.store.list(HOST_SECRETS)!r} {caplog.text}"
    assert isinstance(plane.store, SqliteStore)
    rows = plane.store._database.execute("SELECT name, body FROM rows").fetchall()
    for key in (wanted.host_key, wanted.controller_key or ""):
        assert key not in told
        assert {name for name, body in rows if key in body} == {"host_secrets"}
    plane.service.attachments.delete(ALICE, view.attachment.id)
    plane.settle()
    plane.service.secrets.remove(ALICE, host.id)
    plane.store.close()
    left = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert wanted.host_key.encode() not in left


def test_a_state_that_is_given_keys_drops_them(plane: ControlPlane) -> None:
    host, volume = plane.host("a"), plane.volume()
    attach(plane, volume.id, host.id)
    (row,) = plane.store.list(ATTACHMENT_STATES)
    assert row.value.connection is not None
    given = replace(row.value, connection=replace(row.value.connection, secrets=keys()))
    assert given == row.value


def test_a_key_is_not_handed_out_before_the_target_has_it(plane: ControlPlane) -> None:
    host, volume = plane.host("a"), plane.volume()
    attach(plane, volume.id, host.id)
    (view,) = plane.service.attachments.list(ALICE)
    wanted = keys()

    def handed_out() -> DhChapSecrets | None:
        shown = plane.service.attachments.get(ALICE, view.attachment.id, with_secrets=True)
        return shown.connection.secrets if shown.connection is not None else None

    plane.service.secrets.put(ALICE, host.id, wanted, force=True)
    shown = plane.service.attachments.get(ALICE, view.attachment.id, with_secrets=True)
    assert (shown.connection, shown.reason) == (None, "the host's key is being changed")
    assert plane.service.attachments.get(ALICE, view.attachment.id).connection == view.connection
    plane.settle()
    assert handed_out() == wanted
    plane.service.secrets.put(ALICE, host.id, keys(), force=True)
    plane.service.secrets.put(ALICE, host.id, wanted, force=True)  # as the target has it already
    assert handed_out() is None
    plane.settle()
    assert handed_out() == wanted


def test_a_key_that_is_set_while_another_is_asked_for_is_not_handed_out(plane: ControlPlane) -> None:
    host, volume = plane.host("a"), plane.volume()
    in_force = keys()
    plane.service.secrets.put(ALICE, host.id, in_force)
    attach(plane, volume.id, host.id)
    (view,) = plane.service.attachments.list(ALICE)
    store = InterruptedStore(plane.store)
    asked = Service(store)
    calls = 0
    while True:
        store.interrupt(calls, lambda: plane.service.secrets.put(ALICE, host.id, keys(), force=True))
        shown = asked.attachments.get(ALICE, view.attachment.id, with_secrets=True)
        assert shown.connection is None or shown.connection.secrets == in_force
        if store.is_waiting():
            break
        calls += 1
        plane.service.secrets.put(ALICE, host.id, in_force, force=True)
        plane.settle()
    assert calls >= 3


def test_a_target_that_cannot_take_the_key_says_why_and_none_is_handed_out(plane: ControlPlane) -> None:
    host, volume = plane.host("a"), plane.volume()
    attach(plane, volume.id, host.id)
    (view,) = plane.service.attachments.list(ALICE)
    plane.plan.fail("target.keys", UnsupportedError("this kernel knows no keys"), times=100)
    plane.service.secrets.put(ALICE, host.id, keys(), force=True)
    plane.settle()
    shown = plane.service.attachments.get(ALICE, view.attachment.id, with_secrets=True)
    assert (shown.connection, shown.reason) == (None, "this kernel knows no keys")


@pytest.mark.parametrize("countdown", range(12))
def test_a_crash_at_any_point_leaves_keys_set_or_not_and_the_export_as_they_are(
    memory: ControlPlane, countdown: int
) -> None:
    host, volume = memory.host("a"), memory.volume()
    attach(memory, volume.id, host.id)
    wanted = keys()
    memory.plan.crash_after(countdown)
    if not crashes(lambda: memory.service.secrets.put(ALICE, host.id, wanted, force=True)):
        crashes(memory.settle)
    memory.plan.clear()
    memory.restart()
    memory.settle()
    present = memory.service.secrets.of(ALICE, host.id)
    found = memory.target.export(volume.id)
    assert present in {None, wanted}
    assert found is not None
    assert found.key_digests == ({host.initiators[0].port_name: wanted.digest} if present else {})


# -- why a host was not let in --------------------------------------------------------------------------------


def refusal(volume_id: VolumeId, nqn: str, reason: RefusalReason) -> Refusal:
    at = datetime.now(UTC) - timedelta(seconds=30)
    return Refusal(volume_id=volume_id, initiator=nqn, reason=reason, at=at)


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (RefusalReason.NOT_LISTED, "is not attached to a host with NQN"),
        (RefusalReason.NO_KEY, "must authenticate and offered no key"),
        (RefusalReason.WRONG_KEY, "authenticated with another key"),
    ],
)
def test_what_the_target_saw_is_told_in_a_sentence(
    plane: ControlPlane, reason: RefusalReason, sentence: str
) -> None:
    volume, nqn = plane.volume("data"), host_nqn(new_id())
    plane.target.refused = [refusal(volume.id, nqn, reason), refusal(VolumeId(new_id()), nqn, reason)]
    (view,) = plane.service.refusals.list(ALICE, volume.id)
    assert (view.initiator, view.reason) == (nqn, reason)
    assert view.age is not None
    assert 30 <= view.age < 60
    assert sentence in view.message
    assert "data" in view.message
    assert plane.service.refusals.list(ALICE, volume.id, nqn)[0].message == view.message


def test_a_host_that_has_not_tried_hears_from_the_rows_whether_it_is_let_in(plane: ControlPlane) -> None:
    host, volume = plane.host("a"), plane.volume()
    nqn = host.initiators[0].port_name
    (view,) = plane.service.refusals.list(ALICE, volume.id, nqn)
    assert (view.reason, view.at) == (RefusalReason.NOT_LISTED, None)
    attach(plane, volume.id, host.id)
    assert plane.service.refusals.list(ALICE, volume.id, nqn) == []
    assert plane.service.refusals.list(ALICE, volume.id) == []


def test_a_host_hears_of_itself_alone(plane: ControlPlane) -> None:
    host, volume, stranger = plane.host("a"), plane.volume(), host_nqn(new_id())
    own = host.initiators[0].port_name
    plane.target.refused = [
        refusal(volume.id, stranger, RefusalReason.NOT_LISTED),
        refusal(volume.id, own, RefusalReason.NO_KEY),
    ]
    assert [each.initiator for each in plane.service.refusals.list(only(host), volume.id)] == [own]
    assert plane.service.refusals.list(only(host), volume.id, stranger) == []
    assert plane.service.refusals.list(only(None), volume.id) == []
    with pytest.raises(NotFoundError):
        plane.service.refusals.list(BOB, volume.id)
