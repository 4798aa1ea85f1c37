"""Another machine with a token and a key of its own, and what weft says to one that has the wrong ones."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from api.world import World, free_port
from cli.installation import Installation, run_weft
from cli.runner import Cli, make_cli
from weft.cli.exits import ExitCode
from weft.cli.explaining import explained
from weft.client import Client
from weft.config import load_config
from weft.connection import Connection
from weft.embedded.host import Volume, VolumeOptions
from weft.errors import PermissionDeniedError, UnavailableError, WeftError
from weft.model import (
    DhChapSecrets,
    HostIdentity,
    Initiator,
    Protocol,
    Refusal,
    RefusalReason,
)
from weft.names import host_nqn, new_id
from weft.nvme.dhchap_key import generate_dhchap_key
from weft.requests import CreateAttachmentRequest, HostRequest

CONTENT = b"as it was written" * 1000


@dataclass(frozen=True, slots=True)
class TwoMachines:
    node: Installation
    host: Cli

    def connection(self, identity: HostIdentity) -> Connection:
        """Of a host that this makes known and attaches volume data to."""
        client = Client.for_config(load_config(self.node.cli.config))
        initiator = Initiator(port_name=identity.nqn, protocol=Protocol.NVMEOF)
        host = client.create_host(HostRequest(name=f"h-{identity.id}", initiators=(initiator,)))
        self.node.cli.ok("host", "set-key", host.name, "--both-ways")
        (volume,) = client.volumes(name="data")
        request = CreateAttachmentRequest(volume_id=volume.volume.id, host_id=host.id)
        view = client.create_attachment(request, wait=20)
        connection = client.attachment(view.attachment.id, 20, secrets=True).connection
        assert connection is not None
        assert connection.secrets is not None
        return connection


@pytest.fixture(scope="module")
def machines() -> Iterator[TwoMachines]:
    with tempfile.TemporaryDirectory(prefix="weft-", dir="/tmp") as folder:
        port = free_port()
        for name in ("node", "host"):
            (Path(folder) / name).mkdir()
        host = make_cli(Path(folder) / "host")
        with host.config.open("a") as config:
            config.write('[host]\nconnector = "embedded"\n')
        node = Installation(Path(folder) / "node", listen=f"0.0.0.0:{port}")
        try:
            node.cli.ok("volume", "create", "data", "--size", "1GiB", "--multi-attach")
            made = node.cli.ok("token", "create", "web1", "--host", "web1", "--json").json
            login = run_weft(
                host,
                "login",
                f"https://127.0.0.1:{port}",
                "--fingerprint",
                made["fingerprint"],
                stdin=made["token"].encode(),
            )
            assert login.returncode == ExitCode.OK, login.stderr
            host.ok("host", "register", "web1")
            yield TwoMachines(node, host)
        finally:
            node.stop("--target")


def test_a_host_with_a_token_and_a_key_uses_a_volume_from_another_machine(machines: TwoMachines) -> None:
    for ways in ([], ["--both-ways"]):
        machines.node.cli.ok("host", "set-key", "web1", *ways)
        written = run_weft(machines.host, "volume", "write", "data", stdin=CONTENT)
        assert (written.returncode, written.stderr) == (ExitCode.OK, b"")
        read = run_weft(machines.host, "volume", "read", "data", "--length", str(len(CONTENT)))
        assert read.stdout == CONTENT
    assert machines.host.ok("attachment", "list", "--json").json == []
    status = machines.host.ok("status", "--json").json
    assert status["daemon"]["url"].startswith("https://127.0.0.1:")
    assert status["pools"] == []


def test_weft_says_which_of_key_and_list_a_host_was_refused_for(machines: TwoMachines) -> None:
    identity = HostIdentity(nqn=host_nqn(new_id()), id=new_id())
    connection = machines.connection(identity)
    stranger = HostIdentity(nqn=host_nqn(new_id()), id=new_id())
    wrong = DhChapSecrets(host_key=generate_dhchap_key())
    with Volume.open(connection, identity, VolumeOptions()) as volume:
        assert volume.size
    for given, who, reason in (
        (replace(connection, secrets=wrong), identity, RefusalReason.WRONG_KEY),
        (replace(connection, secrets=None), identity, RefusalReason.NO_KEY),
        (replace(connection, host_nqn=stranger.nqn), stranger, RefusalReason.NOT_LISTED),
    ):
        with pytest.raises(WeftError):
            Volume.open(given, who, VolumeOptions())
        (told,) = machines.node.cli.ok("volume", "refusals", "data", "--nqn", who.nqn, "--json").json
        assert (told["host_nqn"], told["reason"]) == (who.nqn, reason)
        assert told["age_seconds"] < 60
    machines.node.cli.ok("volume", "refusals", "data")


def test_no_key_is_in_the_log_of_the_node_or_in_what_commands_print(machines: TwoMachines) -> None:
    connection = machines.connection(HostIdentity(nqn=host_nqn(new_id()), id=new_id()))
    assert connection.secrets is not None
    key = connection.secrets.host_key
    (shown,) = [
        each
        for each in machines.node.cli.ok("attachment", "list", "--json").json
        if each["connection"]["host_nqn"] == connection.host_nqn
    ]
    told = [
        machines.node.log,
        json.dumps(shown),
        machines.node.cli.ok("attachment", "show", shown["id"]).stdout,
        machines.node.cli.ok("host", "show", shown["host_id"]).stdout,
        machines.node.cli.ok("status").stdout,
    ]
    assert not [each for each in told if key in each]
    asked = machines.node.cli.ok("attachment", "show", shown["id"], "--secrets", "--json").json
    assert asked["connection"]["dhchap_secret"] == key
    assert asked["connection"]["dhchap_ctrl_secret"] == connection.secrets.controller_key


def test_keys_come_from_a_file_that_others_cannot_read(world: World, cli: Cli, tmp_path: Path) -> None:
    world.host("web1")
    file = tmp_path / "key"
    file.touch(mode=0o600)
    file.write_text(f"{generate_dhchap_key()}\n")
    made = cli.ok("host", "set-key", "web1", "--key-file", str(file), "--json").json
    assert (made["host_key"], made["controller_key"]) == (True, False)
    assert cli("host", "set-key", "web1", "--key-file", str(file), "--both-ways").exit_code == 3
    file.write_text(f"{generate_dhchap_key()}\n{generate_dhchap_key()}\n")
    assert cli.ok("host", "set-key", "web1", "--key-file", str(file), "--both-ways").stdout == (
        "host web1 authenticates both ways from now on\n"
    )
    assert cli.ok("host", "show", "web1", "--json").json["controller_key"] is True
    file.chmod(0o644)
    assert cli("host", "set-key", "web1", "--key-file", str(file)).exit_code == ExitCode.NOT_PERMITTED
    assert cli("host", "set-key", "web1", "--key-file", str(file), "--generate").exit_code == ExitCode.USAGE
    assert cli("host", "set-key", "web1", "--key-file", str(tmp_path / "no")).exit_code == ExitCode.NOT_FOUND
    assert cli.ok("host", "remove-key", "web1").stdout == "host web1 needs no key any more\n"
    assert cli.ok("host", "show", "web1", "--json").json["host_key"] is False


def test_a_key_under_a_hosts_feet_is_changed_by_force_alone(world: World, cli: Cli) -> None:
    host_id = world.host("web1")
    world.attachment(world.volume("data").volume.id, host_id)
    for verb in ("set-key", "remove-key"):
        cli.ok("host", "set-key", "web1", "--force")
        refused = cli("host", verb, "web1")
        assert refused.exit_code == ExitCode.CONFLICT
        assert "volumes are attached to host web1" in refused.stderr
        cli.ok("host", verb, "web1", "--force")


def test_an_attach_that_fails_is_explained_by_what_the_node_saw(world: World) -> None:
    host_id = world.host("web1")
    view = world.attachment(world.volume("data").volume.id, host_id)
    assert view.connection is not None
    failure = UnavailableError("Input/output error")
    assert explained(world.client, failure, view.connection, 1.0) is failure
    for seconds, is_told in ((0, True), (60, False)):
        world.target.refused = [
            Refusal(
                volume_id=view.attachment.volume_id,
                initiator=view.connection.host_nqn,
                reason=RefusalReason.NO_KEY,
                at=datetime.now(UTC) - timedelta(seconds=seconds),
            )
        ]
        error = explained(world.client, failure, view.connection, 1.0)
        assert isinstance(error, PermissionDeniedError) is is_told
    world.server.stop()
    assert explained(world.client, failure, view.connection, 1.0) is failure
