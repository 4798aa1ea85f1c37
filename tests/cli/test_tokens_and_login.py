"""`weft token` on the node, `weft login` and `weft logout` on another machine: here another configuration."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from api.world import World, free_port, make_world
from cli.runner import Cli, Ran, make_cli
from weft.api.server import ApiServer
from weft.cli.exits import ExitCode
from weft.cli.main import weft
from weft.client import Client
from weft.config import load_config
from weft.model import Initiator, Protocol
from weft.names import host_nqn, new_id
from weft.requests import HostRequest


@dataclass(frozen=True, slots=True)
class TwoMachines:
    """node: where weft serves, off loopback too. host: where it does not. url: how the host gets to the node."""

    world: World
    node: Cli
    host: Cli
    url: str

    @property
    def fingerprint(self) -> str:
        return str(self.node.ok("token", "create", new_id(), "--json").json["fingerprint"])

    def token(self, *more: str) -> str:
        return self.node.ok("token", "create", new_id(), "-q", *more).stdout.strip()

    def login(self, token: str, *more: str, fingerprint: str | None = None) -> Ran:
        known = ["--fingerprint", self.fingerprint if fingerprint is None else fingerprint]
        arguments = ["login", self.url, *known, "--config", str(self.host.config), *more]
        result = CliRunner().invoke(weft, arguments, input=token)
        return Ran(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def machines(short_path: Path) -> Iterator[TwoMachines]:
    port = free_port()
    for name in ("node", "host"):
        (short_path / name).mkdir()
    node, host = make_cli(short_path / "node"), make_cli(short_path / "host")
    with node.config.open("a") as config:
        config.write(f'node_name = "node"\n[api]\nlisten = ["0.0.0.0:{port}"]\n')
    with make_world(load_config(node.config)) as world:
        yield TwoMachines(world, node, host, f"https://127.0.0.1:{port}")


def test_a_host_logs_in_works_and_logs_out(machines: TwoMachines) -> None:
    machines.node.ok("volume", "create", "data", "--size", "1GiB")
    said = machines.login(machines.token("--host", "web1"))
    assert (said.exit_code, said.stderr) == (ExitCode.OK, "")
    assert said.stdout.startswith(f"logged in to {machines.url} with token ")
    assert said.stdout.endswith("for host web1\n")
    volume = machines.host.ok("volume", "show", "data", "--json").json["id"]
    machines.host.ok("host", "register", "web1")
    assert machines.host.ok("host", "list", "--json").json[0]["name"] == "web1"
    assert machines.host.ok("attachment", "list", "--json").json == []
    refused = machines.host("volume", "delete", volume, "--json")
    assert (refused.exit_code, refused.error["kind"]) == (ExitCode.NOT_PERMITTED, "not_permitted")
    assert machines.host.ok("logout").stdout == "logged out\n"
    assert machines.host("volume", "list").exit_code == ExitCode.UNAVAILABLE
    assert machines.host.ok("logout").stdout == "this machine was not logged in\n"


def test_status_tells_that_a_token_opens_nothing_any_more(machines: TwoMachines) -> None:
    token = machines.node.ok("token", "create", "web1", "-q").stdout.strip()
    assert machines.login(token).exit_code == ExitCode.OK

    def daemon() -> Any:
        return json.loads(machines.host("status", "--json").stdout)["daemon"]

    assert daemon()["running"]
    machines.node.ok("token", "revoke", "web1", "--yes")
    assert (daemon()["running"], daemon()["error"]) == (False, "not_permitted")


def test_a_login_is_kept_for_its_user_alone_and_shows_no_token(machines: TwoMachines) -> None:
    token = machines.token()
    said = machines.login(token, "--json")
    file = load_config(machines.host.config).login_file
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text()) == {
        "url": machines.url,
        "token": token,
        "pin": machines.fingerprint,
    }
    assert said.json["fingerprint"] == machines.fingerprint
    assert token not in said.stdout + said.stderr
    assert token not in machines.host.ok("status", "--json").stdout
    file.chmod(0o644)
    assert machines.host("volume", "list").exit_code == ExitCode.NOT_PERMITTED
    file.chmod(0o600)
    file.write_text(f'{{"url": "{token}"')
    damaged = machines.host("volume", "list")
    assert damaged.exit_code == ExitCode.DATA
    assert token not in damaged.stderr


def test_a_token_may_come_from_a_file_that_others_cannot_read(machines: TwoMachines, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(machines.token() + "\n")
    assert machines.login("", "--token-file", str(file)).exit_code == ExitCode.OK
    file.chmod(0o644)
    assert machines.login("", "--token-file", str(file)).exit_code == ExitCode.NOT_PERMITTED
    assert machines.login("", "--token-file", str(tmp_path / "no")).exit_code == ExitCode.NOT_FOUND
    assert machines.login(machines.token(), "--token-file", "-").exit_code == ExitCode.OK


def test_what_fails_leaves_the_machine_as_it_was(machines: TwoMachines) -> None:
    token = machines.token()
    wrong = machines.login(token, fingerprint=f"sha256//{'A' * 43}=")
    assert wrong.exit_code == ExitCode.NOT_PERMITTED
    assert f"another fingerprint: {machines.fingerprint}; nothing was sent to it" in wrong.stderr
    unknown = machines.login(token[:-1] + "!")
    assert (unknown.exit_code, token in unknown.stderr) == (ExitCode.NOT_PERMITTED, False)
    assert machines.login(token, fingerprint="x").exit_code == ExitCode.INVALID_VALUE
    assert machines.login("").exit_code == ExitCode.INVALID_VALUE
    nobody = machines.host("login", machines.url, "--token-file", "-")
    assert nobody.exit_code == ExitCode.FAILED
    assert "there is no terminal to ask at: give the fingerprint by --fingerprint" in nobody.stderr
    elsewhere = machines.host("login", f"https://127.0.0.1:{free_port()}")
    assert elsewhere.exit_code == ExitCode.UNAVAILABLE
    assert not load_config(machines.host.config).login_file.exists()


@pytest.mark.parametrize(("answer", "exit_code"), [("y", ExitCode.OK), ("n", ExitCode.FAILED)])
def test_a_person_compares_the_fingerprint_and_types_the_token(
    machines: TwoMachines, answer: str, exit_code: ExitCode
) -> None:
    token, fingerprint = machines.token(), machines.fingerprint
    controller, terminal = pty.openpty()
    arguments = ["login", machines.url, "--config", str(machines.host.config)]
    process = subprocess.Popen(
        [sys.executable, "-m", "weft", *arguments], stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    try:
        shown = _read_until(controller, b"[y/N]: ")
        assert fingerprint.encode() in shown
        os.write(controller, f"{answer}\n".encode())
        if exit_code is ExitCode.OK:
            _read_until(controller, b"Token: ")
            os.write(controller, f"{token}\n".encode())
            assert token.encode() not in _read_until(controller, b"logged in")
        assert process.wait(30) == exit_code
    finally:
        os.close(controller)
        process.wait(30)
    assert load_config(machines.host.config).login_file.exists() is (exit_code is ExitCode.OK)


def test_a_server_with_another_key_is_refused_after_the_login(machines: TwoMachines) -> None:
    machines.login(machines.token())
    machines.world.server.stop()
    load_config(machines.node.config).certificate_file.unlink()
    server = ApiServer(machines.world.service, load_config(machines.node.config))
    server.start()
    try:
        refused = machines.host("volume", "list")
    finally:
        server.stop()
    assert refused.exit_code == ExitCode.NOT_PERMITTED
    assert "another server answers" in refused.stderr
    assert "nothing was sent to it" in refused.stderr


def test_tokens_are_made_listed_and_revoked(machines: TwoMachines) -> None:
    made = machines.node.ok("token", "create", "web1", "--host", "web1", "--expires", "3", "--json").json
    assert (made["scope"], made["host_name"], made["fingerprint"]) == ("host", "web1", machines.fingerprint)
    machines.node.ok("token", "create", "ops")
    table = machines.node.ok("token", "list").stdout
    assert "ops" in table
    assert made["token"] not in table
    assert machines.node.ok("token", "list", "--scope", "host", "-q").stdout.split() == [made["id"]]
    assert machines.node.ok("token", "list", "--host", "web1", "-q").stdout.split() == [made["id"]]
    assert machines.node.ok("token", "list", "--name", "ops", "--json").json[0]["expires_at"] is None
    assert machines.node.ok("token", "revoke", "web1", "--yes").stdout == "deleted web1\n"
    assert machines.node("token", "revoke", "web1", "--yes").exit_code == ExitCode.NOT_FOUND
    assert machines.node("token", "create", "ops").exit_code == ExitCode.CONFLICT


def test_a_token_that_is_printed_by_itself_can_be_piped(machines: TwoMachines) -> None:
    printed = machines.node.ok("token", "create", "a", "-q").stdout
    assert printed.count("\n") == 1
    assert Client.for_url(machines.url, printed, pin=machines.fingerprint).own_token().name == "a"


def test_a_token_for_a_registered_host_names_it(machines: TwoMachines) -> None:
    initiator = Initiator(port_name=host_nqn(new_id()), protocol=Protocol.NVMEOF)
    host = machines.world.client.create_host(HostRequest(name="web1", initiators=(initiator,)))
    made = machines.node.ok("token", "create", "a", "--host", initiator.port_name, "--json").json
    assert (made["host_id"], made["host_name"]) == (host.id, "web1")


def _read_until(descriptor: int, wanted: bytes) -> bytes:
    shown = b""
    while wanted not in shown:
        shown += os.read(descriptor, 4096)
    return shown
