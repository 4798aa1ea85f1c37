"""Whom an export lets in, by which keys, and how one host is cut off."""

import logging
from dataclasses import replace

import pytest

from fakes.configfs import ROOT
from fakes.crash import Crash
from fakes.nvmet import nvmet_parts
from targets.nvmet_node import HOST_A, HOST_B, Node, keys, without
from weft.errors import InvalidValueError, PermissionDeniedError, UnsupportedError, WeftError
from weft.model import DhChapSecrets, Export
from weft.names import subsystem_nqn
from weft.nvme.dhchap_key import DhChapHash
from weft.targets import NvmetTarget
from weft.targets.configfs import Configfs
from weft.targets.nvmet_hosts import Patience


def test_a_host_that_has_disconnected_is_removed_unnoticed_by_the_others(node: Node) -> None:
    target, export = node.start(), node.export(HOST_A, HOST_B)
    target.create_export(export)
    node.connect(export, HOST_A)
    node.connect(export, HOST_B)
    node.kernel.disconnect(subsystem_nqn(export.volume_id), HOST_A)
    target.create_export(without(export, HOST_A))
    assert node.kernel.cuts == 0
    with pytest.raises(PermissionDeniedError):
        node.connect(export, HOST_A)


@pytest.mark.parametrize("log", ["complete", "not complete"])
def test_a_host_that_is_still_connected_is_cut_off_and_the_others_come_back(node: Node, log: str) -> None:
    node.kernel.log_is_complete = log == "complete"
    target, export = node.start(), node.export(HOST_A, HOST_B)
    target.create_export(export)
    node.connect(export, HOST_A)
    node.connect(export, HOST_B)
    target.create_export(without(export, HOST_A))
    assert node.connected(export) == {HOST_B}
    assert node.kernel.cuts == 1


def test_without_a_complete_log_a_host_is_cut_off_also_if_it_may_have_gone(node: Node) -> None:
    node.kernel.log_is_complete = False
    target, export = node.start(), node.export(HOST_A, HOST_B)
    target.create_export(export)
    node.connect(export, HOST_B)
    target.create_export(without(export, HOST_A))
    assert node.kernel.cuts == 1


def test_a_host_is_cut_off_that_is_connected_by_a_portal_which_is_configured_no_more(node: Node) -> None:
    target, export = node.start(), node.export(HOST_A, HOST_B)
    target.create_export(export)
    node.connect(export, HOST_A)
    target = node.start("192.0.2.2")
    target.create_export(without(export, HOST_A))
    assert node.connected(export) == frozenset()


def test_a_host_that_somebody_took_off_the_list_by_hand_is_cut_off_when_it_is_to_go(node: Node) -> None:
    target, export = node.start(), node.export(HOST_A, HOST_B)
    target.create_export(export)
    node.connect(export, HOST_A)
    node.connect(export, HOST_B)
    _take_off_the_list(node, export, HOST_A)
    assert node.connected(export) == {HOST_A, HOST_B}
    target.create_export(without(export, HOST_A))
    assert node.connected(export) == {HOST_B}
    assert node.kernel.cuts == 1


def test_a_host_that_somebody_took_off_the_list_by_hand_and_that_is_to_stay_is_put_on_it_again(
    node: Node,
) -> None:
    target, export = node.start(), node.export(HOST_A, HOST_B)
    target.create_export(export)
    node.connect(export, HOST_A)
    _take_off_the_list(node, export, HOST_A)
    target.create_export(export)
    assert node.connected(export) == {HOST_A}
    assert node.kernel.cuts == 0
    node.kernel.disconnect(subsystem_nqn(export.volume_id), HOST_A)
    node.connect(export, HOST_A)


def test_nvmet_is_not_asked_twice_about_a_host_that_has_gone(node: Node) -> None:
    target, export = node.start(), node.export(HOST_A, HOST_B)
    target.create_export(export)
    node.connect(export, HOST_A)
    node.kernel.disconnect(subsystem_nqn(export.volume_id), HOST_A)
    for _ in range(3):
        target.create_export(without(export, HOST_A))
    assert (node.kernel.probes, node.kernel.cuts) == (1, 0)


def test_nvmet_is_asked_less_and_less_often_about_a_host_that_does_not_go(node: Node) -> None:
    export = node.export(HOST_A, HOST_B)
    parts = replace(nvmet_parts(node.kernel), patience=Patience(underway=0.0, leaving=0.5, ending=0.0))
    target = NvmetTarget(node.config, parts)
    target.start()
    try:
        target.create_export(export)
        node.connect(export, HOST_A)
        target.create_export(without(export, HOST_A))
    finally:
        target.stop()
    assert node.connected(export) == frozenset()
    assert node.kernel.probes < 8


def _take_off_the_list(node: Node, export: Export, host: str) -> None:
    nqn = subsystem_nqn(export.volume_id)
    Configfs(ROOT, node.kernel).unlink(f"subsystems/{nqn}/allowed_hosts/{host}")


def test_where_nobody_can_ask_nvmet_who_is_connected_a_host_is_cut_off_once(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    node.kernel.probe_answers = False
    target, export = node.start(), node.export(HOST_A, HOST_B)
    target.create_export(export)
    node.connect(export, HOST_A)
    node.connect(export, HOST_B)
    target.create_export(without(export, HOST_A))
    target.create_export(without(export, HOST_A))
    assert node.connected(export) == {HOST_B}
    assert node.kernel.cuts == 1
    assert "cannot be found out" not in caplog.text, "each detaching would say so"


def test_a_crash_between_the_list_and_the_cut_does_not_leave_the_host_connected(node: Node) -> None:
    target, export = node.start(), node.export(HOST_A, HOST_B)
    target.create_export(export)
    node.connect(export, HOST_A)
    node.connect(export, HOST_B)
    node.kernel.plan.crash_at("configfs.write")  # the one of attr_qid_max
    with pytest.raises(Crash):
        target.create_export(without(export, HOST_A))
    assert node.connected(export) == {HOST_A, HOST_B}
    target = node.start()
    found = target.export(export.volume_id)
    assert found is not None
    assert not found.complete
    target.create_export(without(export, HOST_A))
    assert node.connected(export) == {HOST_B}
    assert f"hosts/{HOST_A}" not in str(node.kernel.tree())


@pytest.mark.parametrize("both", [False, True], ids=["one way", "both ways"])
def test_keys_are_written_to_closed_files_and_found_again_by_their_digest(node: Node, both: bool) -> None:  # noqa: FBT001
    target = node.start()
    secrets = keys(both=both, used_hash=DhChapHash.SHA_384)
    export = node.export(HOST_A, secrets=secrets)
    target.create_export(export)
    found = target.export(export.volume_id)
    assert found is not None
    assert found.key_digests == {HOST_A: secrets.digest}
    assert node.kernel.mode(f"{ROOT}/hosts/{HOST_A}") == 0o700
    assert node.kernel.mode(f"{ROOT}/hosts/{HOST_A}/dhchap_key") == 0o600
    assert node.kernel.mode(f"{ROOT}/hosts/{HOST_A}/dhchap_ctrl_key") == 0o600
    assert node.kernel.read(f"{ROOT}/hosts/{HOST_A}/dhchap_hash") == b"hmac(sha384)\n"


def test_keys_can_be_exchanged_and_taken_away_under_a_live_session(node: Node) -> None:
    target, export = node.start(), node.export(HOST_A, secrets=keys(both=True))
    target.create_export(export)
    node.connect(export, HOST_A)
    for secrets in (keys(), keys(both=True), None):
        (host,) = export.hosts
        target.create_export(replace(export, hosts=(replace(host, secrets=secrets),)))
        found = target.export(export.volume_id)
        assert found is not None
        assert found.key_digests == ({HOST_A: secrets.digest} if secrets else {})
    assert node.connected(export) == {HOST_A}


def test_who_shows_a_key_is_watched_also_after_a_restart(node: Node) -> None:
    node.start().create_export(node.export(HOST_A, secrets=keys()))
    assert node.kernel.keys_watched
    node.kernel.keys_watched = False
    node.start().exports()
    assert node.kernel.keys_watched


def test_a_key_that_the_kernel_would_take_and_never_accept_is_refused(node: Node) -> None:
    target, empty = node.start(), node.kernel.tree()
    with pytest.raises(InvalidValueError) as refused:
        target.create_export(node.export(HOST_A, secrets=DhChapSecrets(host_key="DHHC-1:00:abc:")))
    assert "abc" not in str(refused.value)
    assert node.kernel.tree() == empty


def test_a_kernel_without_authentication_is_named_as_the_reason(node: Node) -> None:
    node.kernel.has_keys = False
    target = node.start()
    with pytest.raises(UnsupportedError, match="no DH-HMAC-CHAP"):
        target.create_export(node.export(HOST_A, secrets=keys()))
    target.create_export(node.export(HOST_A))


def test_no_key_is_in_any_error(node: Node) -> None:
    secrets = keys(both=True)
    export = node.export(HOST_A, secrets=secrets)
    said = []
    for each in range(20):
        target = node.start()
        node.kernel.refuse_at = each
        try:
            target.create_export(export)
        except WeftError as error:
            said.append(str(error))
        node.kernel.refuse_at = None
        target.remove_export(export.volume_id)
    assert any("dhchap_key" in each for each in said)
    assert not any(secrets.host_key in each or str(secrets.controller_key) in each for each in said)


def test_any_host_is_let_in_only_when_the_configuration_says_so(node: Node) -> None:
    target, export = node.start(any_host=True), node.export(HOST_A)
    target.create_export(export)
    node.connect(export, HOST_B)
    found = target.export(export.volume_id)
    assert found is not None
    assert found.complete
    assert found.initiators == {HOST_A}
    with pytest.raises(UnsupportedError, match="allow_any_host"):
        target.create_export(node.export(HOST_A, secrets=keys()))
    target = node.start()
    target.create_export(export)
    assert node.connected(export) <= {HOST_A}
    with pytest.raises(PermissionDeniedError):
        node.connect(export, HOST_B)
