"""How failures reach the user."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from click.testing import CliRunner

from api.world import World
from cli.runner import Cli
from weft.cli.exits import ExitCode
from weft.cli.failures import report
from weft.cli.main import weft
from weft.cli.session import Session
from weft.cli.texts import printable


def test_without_a_daemon_every_command_says_how_to_start_it(cli: Cli) -> None:
    for line in (["volume", "list"], ["snapshot", "list"], ["attach", "data"], ["volume", "read", "data"]):
        ran = cli(*line)
        assert (ran.exit_code, ran.stdout) == (ExitCode.UNAVAILABLE, "")
        assert "start it with `weft serve`" in ran.stderr


def test_a_wrong_configuration_is_refused_by_its_key(cli: Cli) -> None:
    cli.config.write_text('[target]\nport = "x"\n')
    ran = cli("volume", "list", "--json")
    assert ran.exit_code == ExitCode.INVALID_VALUE
    assert ran.error["field"] == "target.port"


def test_a_named_configuration_comes_before_that_of_the_environment(cli: Cli, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('node_name = "other"\n')
    for line in (["--config", str(cli.config), "serve"], ["serve", "--config", str(cli.config)]):
        runner = CliRunner(env={"WEFT_CONFIG": str(other)})
        checked = json.loads(runner.invoke(weft, [*line, "--check", "--json"]).stdout)
        assert checked["config"] == str(cli.config)


def test_a_configuration_that_is_not_there_is_refused(cli: Cli) -> None:
    cli.config.unlink()
    ran = cli("serve", "--check")
    assert ran.exit_code == ExitCode.INVALID_VALUE
    assert str(cli.config) in ran.stderr


def test_a_defect_is_one_sentence_and_its_traceback_is_kept_for_its_user_alone(
    cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    session = Session(config_path=cli.config)
    session.config.data_dir.mkdir()
    error = ZeroDivisionError("by zero")
    assert report(error, session) is ExitCode.DEFECT
    said = capsys.readouterr().err
    assert said.startswith("weft: this is a defect of weft itself (ZeroDivisionError: by zero)")
    assert "Traceback" not in said
    (kept,) = session.config.data_dir.glob("weft-*.traceback")
    assert str(kept) in said
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "ZeroDivisionError" in kept.read_text()


def test_debug_shows_the_traceback(cli: Cli) -> None:
    ran = cli("volume", "list", "--debug")
    assert ran.exit_code == ExitCode.UNAVAILABLE
    assert "Traceback" in ran.stderr


def test_an_interrupt_ends_with_130(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(KeyboardInterrupt(), Session(json=True, config_path=cli.config)) is ExitCode.INTERRUPTED
    assert json.loads(capsys.readouterr().err)["error"]["kind"] == "interrupted"


def test_an_interrupted_wait_leaves_what_was_asked_for_to_the_same_command(
    still_world: World, cli: Cli
) -> None:
    line = [sys.executable, "-m", "weft", "volume", "create", "data", "--size", "1", "--exist-ok"]
    with subprocess.Popen(
        [*line, "--config", str(cli.config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not still_world.client.volumes():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == ExitCode.INTERRUPTED
    assert stderr == "weft: interrupted; weft goes on with what it was asked for already\n"
    cli("volume", "create", "data", "--size", "1", "--exist-ok", "--wait", "0")
    assert len(still_world.client.volumes()) == 1


def test_on_a_terminal_nothing_is_deleted_without_a_yes(world: World, cli: Cli) -> None:
    world.volume("data")
    for answer in (b"n\n", b"\x04"):
        code, said = _at_a_terminal("volume", "delete", "data", "--config", str(cli.config), answer=answer)
        assert code == ExitCode.FAILED
        assert "weft: nothing was changed, because" in said
    assert len(world.client.volumes()) == 1


def test_on_a_terminal_of_80_columns_ids_stay_in_one_line(world: World, cli: Cli) -> None:
    view = world.volume("a-name-that-is-much-longer-than-what-a-table-has-room-for")
    code, said = _at_a_terminal("volume", "list", "--config", str(cli.config))
    assert code == ExitCode.OK
    assert view.volume.id in said


def _at_a_terminal(*arguments: str, answer: bytes = b"") -> tuple[int, str]:
    """What weft ends with and writes on a terminal of 80 columns, where a person types the answer."""
    terminal, weft_side = pty.openpty()
    termios.tcsetwinsize(weft_side, (24, 80))
    line = [sys.executable, "-m", "weft", *arguments]
    with subprocess.Popen(line, stdin=weft_side, stdout=weft_side, stderr=weft_side) as process:
        os.close(weft_side)
        said = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the other side any more
            while part := os.read(terminal, 4096):
                said += part
                if b"[y/N]: " in part:
                    os.write(terminal, answer)
        code = process.wait(timeout=20)
    os.close(terminal)
    return code, said.decode()


def test_a_reader_that_goes_away_is_no_error_to_talk_about(world: World, cli: Cli) -> None:
    world.volume("data")
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "weft", "volume", "list", "--config", str(cli.config)],
        stdout=write_end,
        stderr=subprocess.PIPE,
        check=False,
        timeout=20,
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (ExitCode.BROKEN_PIPE, b"")


def test_text_from_outside_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x07\r\n\tc\x9b") == "a\\x1b[2Jb\\x07\\r\n\tc\\x9b"


def test_json_may_be_asked_for_anywhere_on_the_line(cli: Cli) -> None:
    line = subprocess.run(
        [sys.executable, "-m", "weft", "--json", "--config", str(cli.config), "volume", "show", "x"],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert json.loads(line.stderr)["error"]["kind"] == "unavailable"


def test_the_common_options_may_stand_before_the_command(cli: Cli, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[pools]\n")
    assert cli("--config", str(other), "volume", "list").exit_code == ExitCode.UNAVAILABLE
