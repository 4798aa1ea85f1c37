"""`weft doctor` on the machine that the tests run on, asked for what it has."""

import json
import os
from pathlib import Path

import pytest

from cli.runner import Cli
from weft.cli.exits import ExitCode

EMBEDDED = """
data_dir = "{folder}/data"
runtime_dir = "{folder}/run"
[target]
kind = "embedded"
portals = ["127.0.0.1:14420"]
[host]
connector = "embedded"
"""


@pytest.fixture
def cli(short_path: Path) -> Cli:
    config = short_path / "weft.toml"
    config.write_text(EMBEDDED.format(folder=short_path), encoding="utf-8")
    return Cli(config)


def change(cli: Cli, old: str, new: str) -> None:
    text = cli.config.read_text(encoding="utf-8")
    assert old in text
    cli.config.write_text(text.replace(old, new), encoding="utf-8")


def test_a_node_that_serves_by_the_embedded_target_is_fit_anywhere(cli: Cli) -> None:
    ran = cli.ok("doctor", "--node")
    assert ran.stdout.endswith("This machine can do what its configuration asks for.\n")
    assert "As a storage node" in ran.stdout
    assert "As a host" not in ran.stdout
    assert cli.ok("doctor", "--node", "--quiet").stdout == ""


def test_json_says_the_same_to_a_program(cli: Cli) -> None:
    told = cli.ok("doctor", "--node", "--json").json
    assert told["fit"] is True
    assert told["kernel"] == os.uname().release
    assert {"part", "about", "verdict", "sentence", "command"} == set(told["findings"][0])
    assert {each["part"] for each in told["findings"]} == {"machine", "node"}


def test_an_address_that_is_not_this_machines_is_missing(cli: Cli) -> None:
    change(cli, "127.0.0.1:14420", "192.0.2.77:14420")
    ran = cli("doctor", "--node")
    assert ran.exit_code == ExitCode.UNSUPPORTED
    assert "missing: This machine has no address 192.0.2.77" in ran.stdout
    assert "    $ ip address add 192.0.2.77/24 dev " in ran.stdout
    assert cli("doctor", "--node", "-q").stdout == "portal 192.0.2.77:14420\n"


@pytest.mark.parametrize(
    "wrong", ["[target]\nspeed = 1", "[target", "[host]"], ids=["a key", "TOML", "a table"]
)
def test_a_refused_configuration_is_a_finding(cli: Cli, wrong: str) -> None:
    change(cli, "[target]", wrong)
    ran = cli("doctor", "--json")
    assert ran.exit_code == ExitCode.INVALID_VALUE
    told = json.loads(ran.stdout)
    assert told["fit"] is False
    assert told["findings"][0]["verdict"] == "missing"
    assert told["findings"][0]["command"].endswith(f"weft serve --check --config {cli.config}")


def test_a_configuration_that_is_not_there_is_a_finding(cli: Cli) -> None:
    cli.config.unlink()
    assert cli("doctor").exit_code == ExitCode.INVALID_VALUE


def test_doctor_makes_none_of_wefts_directories(cli: Cli) -> None:
    cli("doctor")
    assert list(cli.config.parent.iterdir()) == [cli.config]
