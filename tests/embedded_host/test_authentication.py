"""The embedded host proves who it is, believes nobody without a proof, and says what went wrong."""

import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from embedded_host.fuse_setting import Setting, needs_fuse
from embedded_host.target_process import TargetProcess, free_port
from embedded_target.workshop import MakeWorkshop, Workshop, nqn_of
from weft.config import parse_portal
from weft.connection import NvmeofConnection
from weft.embedded.host import HostIdentity, Volume, VolumeOptions
from weft.embedded.target.settings import Limits
from weft.errors import InvalidValueError, PermissionDeniedError, UnavailableError
from weft.model import DhChapSecrets
from weft.nvme.dhchap_key import DhChapHash, generate_dhchap_key
from weft.nvme.dhchap_proof import DhChapPolicy
from weft.nvme.ffdhe import DhGroup

BLOCK = b"weft" * 1024


def new_secrets(*, both_ways: bool = False) -> DhChapSecrets:
    return DhChapSecrets(
        host_key=generate_dhchap_key(DhChapHash.SHA_384),
        controller_key=generate_dhchap_key() if both_ways else None,
    )


def key_of(secrets: DhChapSecrets | None) -> str:
    """The part of a key that must not be seen."""
    assert secrets is not None
    return secrets.host_key[10:-1]


@pytest.fixture
def make_workshop(short_path: Path) -> Iterator[MakeWorkshop]:
    made: list[Workshop] = []

    def make(policy: DhChapPolicy) -> Workshop:
        portal = parse_portal("portal", f"127.0.0.1:{free_port()}")
        made.append(Workshop(folder=short_path, portals=(portal,), limits=Limits(), policy=policy))
        return made[-1]

    yield make
    for workshop in made:
        workshop.close()


@pytest.mark.parametrize("both_ways", [False, True])
def test_a_volume_is_used_with_the_key(
    target: TargetProcess, identity: HostIdentity, *, both_ways: bool
) -> None:
    connection = target.new_volume(secrets=new_secrets(both_ways=both_ways))
    with Volume.open(connection, identity) as volume:
        volume.write(4096, BLOCK)
        assert volume.read(4096, len(BLOCK)) == BLOCK


@pytest.mark.parametrize("group", DhGroup)
def test_every_group_is_spoken(make_workshop: MakeWorkshop, identity: HostIdentity, group: DhGroup) -> None:
    workshop = make_workshop(DhChapPolicy(groups=(group,)))
    secrets = new_secrets(both_ways=True)
    export = workshop.export(identity.nqn, secrets={identity.nqn: secrets})
    connection = NvmeofConnection(
        volume_id=export.volume_id,
        nqn=nqn_of(export),
        portals=(workshop.portal,),
        host_nqn=identity.nqn,
        secrets=secrets,
    )
    with Volume.open(connection, identity) as volume:
        assert volume.read(0, 512) == bytes(512)


def test_without_a_key_it_says_that_one_is_missing(target: TargetProcess, identity: HostIdentity) -> None:
    connection = target.new_volume(secrets=new_secrets())
    with pytest.raises(PermissionDeniedError, match="given no key") as refused:
        Volume.open(replace(connection, secrets=None), identity)
    assert all(
        part in str(refused.value) for part in (identity.nqn, connection.nqn, str(connection.portals[0]))
    )


def test_a_wrong_key_is_an_error_that_does_not_show_it(target: TargetProcess, identity: HostIdentity) -> None:
    connection = target.new_volume(secrets=new_secrets())
    wrong = replace(connection, secrets=new_secrets())
    with pytest.raises(PermissionDeniedError, match="does not accept the key") as refused:
        Volume.open(wrong, identity)
    assert key_of(wrong.secrets) not in str(refused.value)


def test_a_target_that_does_not_prove_itself_is_not_used(
    target: TargetProcess, identity: HostIdentity
) -> None:
    secrets = new_secrets(both_ways=True)
    connection = target.new_volume(secrets=secrets)
    other = replace(connection, secrets=replace(secrets, controller_key=generate_dhchap_key()))
    with pytest.raises(PermissionDeniedError, match="did not prove"):
        Volume.open(other, identity)


def test_a_target_that_has_no_key_to_prove_itself_with_is_not_used(
    target: TargetProcess, identity: HostIdentity
) -> None:
    secrets = new_secrets(both_ways=True)
    connection = target.new_volume(secrets=replace(secrets, controller_key=None))
    with pytest.raises(PermissionDeniedError):
        Volume.open(replace(connection, secrets=secrets), identity)


def test_a_target_that_asks_for_no_proof_is_used_only_if_it_owes_none(
    target: TargetProcess, identity: HostIdentity
) -> None:
    connection = target.new_volume()
    with Volume.open(replace(connection, secrets=new_secrets()), identity) as volume:
        assert volume.read(0, 512) == bytes(512)
    with pytest.raises(PermissionDeniedError, match="another target"):
        Volume.open(replace(connection, secrets=new_secrets(both_ways=True)), identity)


def test_what_is_no_key_is_refused_before_anything_is_sent(
    identity: HostIdentity, target: TargetProcess
) -> None:
    connection = target.new_volume()
    target.pause()
    secrets = DhChapSecrets(host_key=generate_dhchap_key()[:-2] + ":")
    with pytest.raises(InvalidValueError, match="DH-HMAC-CHAP key") as refused:
        Volume.open(replace(connection, secrets=secrets), identity)
    assert secrets.host_key[10:-3] not in str(refused.value)


def test_it_authenticates_again_when_the_target_was_away(
    target: TargetProcess, identity: HostIdentity, impatient: VolumeOptions
) -> None:
    connection = target.new_volume(secrets=new_secrets(both_ways=True))
    with Volume.open(connection, identity, impatient) as volume:
        volume.write(0, BLOCK)
        target.kill()
        target.start()
        assert volume.read(0, len(BLOCK)) == BLOCK


def test_a_key_that_was_changed_meanwhile_ends_the_volume_at_its_next_connect(
    target: TargetProcess, identity: HostIdentity, impatient: VolumeOptions
) -> None:
    connection = target.new_volume(secrets=new_secrets())
    volume = Volume.open(connection, identity, impatient)
    try:
        target.export(connection.volume_id, volume.size, secrets=new_secrets())
        assert volume.read(0, 512) == bytes(512)
        target.kill()
        target.start()
        with pytest.raises(PermissionDeniedError, match="does not accept the key"):
            volume.read(0, 512)
    finally:
        volume.close()


def test_a_target_that_never_challenges_is_given_up(target: TargetProcess, identity: HostIdentity) -> None:
    connection = target.new_volume(secrets=new_secrets())
    target.pause()
    with pytest.raises(UnavailableError):
        Volume.open(connection, identity, VolumeOptions(connect_timeout=0.5))


@needs_fuse
def test_an_attached_file_uses_its_key_and_shows_it_to_no_other_user(
    short_path: Path, shared_target: TargetProcess
) -> None:
    setting = Setting(short_path, shared_target)
    try:
        connection = setting.target.new_volume(secrets=new_secrets(both_ways=True))
        path = setting.connector.attach(connection)
        with path.open("r+b", buffering=0) as file:
            file.write(BLOCK)
        (attached,) = setting.connector.attached()
        assert attached.connection == connection
        assert key_of(connection.secrets) not in repr(attached)
        command_line = Path(f"/proc/{attached.process.pid}/cmdline").read_bytes()
        environment = Path(f"/proc/{attached.process.pid}/environ").read_bytes()
        assert key_of(connection.secrets).encode() not in command_line + environment
        files = [each for each in setting.config.attached_dir.iterdir() if each.is_file()]
        holding = [each for each in files if key_of(connection.secrets).encode() in each.read_bytes()]
        assert [each.suffix for each in holding] == [".json"]
        assert stat.S_IMODE(holding[0].stat().st_mode) == 0o600
        setting.connector.detach(connection)
        setting.assert_nothing_is_left()
    finally:
        setting.stop()
