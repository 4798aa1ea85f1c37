"""Keys of hosts: checked at the door, kept in files of the owner, told to nobody."""

import logging
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from embedded_target.authentication import connected, new_secrets, proof, rotate
from embedded_target.workshop import HOST_A, HOST_B, MakeWorkshop, Workshop
from weft.embedded.target.control import encode_line
from weft.errors import InvalidValueError
from weft.model import DhChapSecrets
from weft.nvme.auth import AuthenticationError


@pytest.mark.parametrize(
    "spoil",
    [
        lambda secrets: replace(secrets, host_key="DHHC-1:00:abc:"),
        lambda secrets: replace(secrets, host_key=""),
        lambda secrets: replace(secrets, controller_key=secrets.controller_key[:-3] + "x:"),
    ],
)
def test_what_is_no_key_is_refused_and_changes_nothing(
    workshop: Workshop, spoil: Callable[[DhChapSecrets], DhChapSecrets]
) -> None:
    secrets = new_secrets(both_ways=True)
    export = workshop.export(HOST_A, secrets={HOST_A: secrets})
    before = workshop.target.exports()
    spoilt = spoil(secrets)
    with pytest.raises(InvalidValueError, match=HOST_A) as refused:
        rotate(workshop, export, spoilt)
    assert not any(key and key in str(refused.value) for key in (spoilt.host_key, spoilt.controller_key))
    assert workshop.target.exports() == before


def test_keys_survive_a_restart_and_rest_in_files_of_the_owner(make_workshop: MakeWorkshop) -> None:
    workshop = make_workshop()
    secrets = new_secrets(both_ways=True)
    export = workshop.export(HOST_A, HOST_B, secrets={HOST_A: secrets})
    workshop.target.stop()
    holding = [each for each in workshop.folder.rglob("*") if each.is_file() and _holds(each, secrets)]
    assert [each.parent.name for each in holding] == ["exports"]
    assert [stat.S_IMODE(each.stat().st_mode) for each in holding] == [0o600]
    workshop.target = workshop.start()
    connected(workshop, export).authenticate(proof(export, secrets))
    workshop.attach(export, HOST_B)


def _holds(path: Path, secrets: DhChapSecrets) -> bool:
    text = path.read_text(errors="replace")
    return secrets.host_key in text or str(secrets.controller_key) in text


def test_keys_are_told_to_nobody(workshop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    secrets = new_secrets(both_ways=True)
    with caplog.at_level(logging.DEBUG):
        export = workshop.export(HOST_A, HOST_B, secrets={HOST_A: secrets})
        connected(workshop, export).authenticate(proof(export, secrets))
        with pytest.raises(AuthenticationError):
            connected(workshop, export).authenticate(proof(export, new_secrets()))
    (found,) = workshop.target.exports()
    assert found.key_digests == {HOST_A: secrets.digest}
    said = "\n".join(
        (*caplog.messages, repr(found), repr(export), encode_line(workshop.target.status()).decode())
    )
    for key in (secrets.host_key, secrets.controller_key):
        assert key is not None
        assert key[10:-1] not in said
