"""`weft status`, `weft serve --check`, `weft stop`, `weft target` and completion."""

import json
import sqlite3
from contextlib import closing
from typing import Any

from click.shell_completion import BashComplete

from api.world import World
from cli.runner import Cli
from weft.cli.exits import ExitCode
from weft.cli.main import weft
from weft.cli.session import Session
from weft.errors import DataError


def test_status_tells_what_is_there_and_what_is_wrong(world: World, cli: Cli) -> None:
    world.volume("good")
    world.plan.fail("driver.create", DataError("the disk is broken"))
    cli("volume", "create", "bad", "--size", "1")
    ran = cli("status")
    assert ran.exit_code == ExitCode.UNAVAILABLE  # no embedded target runs in this world
    assert "1 available, 1 error" in ran.stdout
    assert "wrong: volume bad is error: " in ran.stdout
    assert "the disk is broken" in ran.stdout
    assert "all is well" not in ran.stdout


def test_the_json_of_status_has_these_keys(world: World, cli: Cli) -> None:
    world.volume("good")
    found = json_of(cli)
    assert list(found) == [
        "version",
        "config",
        "daemon",
        "target",
        "attaching",
        "pools",
        "volumes",
        "snapshots",
        "attachments",
        "attached",
        "problems",
    ]
    assert found["daemon"]["running"]
    assert found["volumes"] == {"total": 1, "by_status": {"available": 1}}
    assert found["target"]["running"] is False
    assert found["attached"] == []
    assert len(found["problems"]) == 1


def test_status_works_when_nothing_runs(cli: Cli) -> None:
    ran = cli("status")
    assert ran.exit_code == ExitCode.UNAVAILABLE
    assert ran.stdout.count("wrong: ") == 2
    assert json_of(cli)["daemon"]["running"] is False
    assert json_of(cli)["daemon"]["error"] == "unavailable"
    assert json_of(cli)["volumes"] is None


def test_checking_the_configuration_changes_nothing(cli: Cli) -> None:
    shown = cli.ok("serve", "--check", "--json").json
    assert shown["config"] == str(cli.config)
    assert shown["pools"][0]["path"].endswith("/data/pools/default")
    assert sorted(each.name for each in cli.config.parent.iterdir()) == ["weft.toml"]


def test_checking_refuses_a_directory_that_is_a_file(cli: Cli) -> None:
    (cli.config.parent / "data").write_text("")
    ran = cli("serve", "--check")
    assert (ran.exit_code, ran.stdout) == (ExitCode.INVALID_VALUE, "")
    assert "data_dir" in ran.stderr


def test_checking_refuses_the_database_of_a_newer_weft(cli: Cli) -> None:
    data = cli.config.parent / "data"
    data.mkdir()
    with closing(sqlite3.connect(data / "weft.db")) as database:
        database.execute("PRAGMA user_version = 1000")
    ran = cli("serve", "--check")
    assert (ran.exit_code, ran.stdout) == (ExitCode.DATA, "")
    assert "schema version 1000" in ran.stderr


def test_stopping_what_does_not_run_does_nothing(cli: Cli) -> None:
    assert cli.ok("stop", "--target", "--json").json == {
        "daemon": {"was_running": False, "running": False},
        "target": {"stopped": True},
    }
    cli.ok("target", "stop")
    assert cli("target", "status").exit_code == ExitCode.UNAVAILABLE


def test_names_are_completed_from_the_api(world: World, cli: Cli) -> None:
    world.volume("data")
    world.volume("other")
    complete = BashComplete(weft, {"obj": Session(config_path=cli.config)}, "weft", "_WEFT_COMPLETE")
    assert [each.value for each in complete.get_completions(["volume", "show"], "da")] == ["data"]
    assert [each.value for each in complete.get_completions(["volume", "list", "--pool"], "")] == ["default"]


def test_completion_keeps_quiet_when_nobody_answers(cli: Cli) -> None:
    complete = BashComplete(weft, {"obj": Session(config_path=cli.config)}, "weft", "_WEFT_COMPLETE")
    assert complete.get_completions(["volume", "show"], "da") == []
    assert [each.value for each in complete.get_completions([], "vol")] == ["volume"]
    assert [each.value for each in complete.get_completions(["volume"], "ext")] == ["extend"]


def test_the_set_up_of_completion_is_printed_for_each_shell(cli: Cli) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_WEFT_COMPLETE" in cli.ok("completion", shell).stdout


def json_of(cli: Cli) -> dict[str, Any]:
    ran = cli("status", "--json")
    found: dict[str, Any] = json.loads(ran.stdout)
    return found
