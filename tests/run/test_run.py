"""The only place that starts a process."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from weft import run as runner
from weft.errors import CommandError, UnavailableError, UnsupportedError
from weft.run import run, start_daemon


def test_a_program_gets_its_arguments_as_they_are_and_no_shell_reads_them() -> None:
    assert run(["printf", "%s", "$(id); `id` 'x' && y"], timeout=10).stdout == "$(id); `id` 'x' && y"


def test_what_a_program_reads_is_nothing_or_what_it_was_given() -> None:
    assert run(["cat"], timeout=10).stdout == ""
    assert run(["cat"], timeout=10, stdin="grüße").stdout == "grüße"


def test_a_failure_tells_the_program_its_exit_code_and_its_last_words() -> None:
    with pytest.raises(CommandError, match="sh failed with exit code 3: two") as caught:
        run(["sh", "-c", "echo one >&2; echo two >&2; exit 3"], timeout=10)
    assert (caught.value.exit_code, caught.value.stderr) == (3, "one\ntwo\n")
    with pytest.raises(CommandError, match="false failed with exit code 1: it said nothing"):
        run(["false"], timeout=10)


def test_bytes_that_are_no_text_do_no_harm() -> None:
    assert run(["printf", r"a\377b"], timeout=10).stdout == "a\ufffdb"


def test_a_program_that_is_missing_or_may_not_be_run_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="weft-nowhere is not installed on this machine"):
        run(["weft-nowhere"], timeout=10)
    (tmp_path / "text").write_text("no program")
    with pytest.raises(UnavailableError, match="text cannot be started: Permission denied"):
        run([str(tmp_path / "text")], timeout=10)
    with pytest.raises(UnavailableError, match="text cannot be started: Permission denied"):
        start_daemon([str(tmp_path / "text")], log=tmp_path / "log")
    with pytest.raises(UnsupportedError, match="weft-nowhere is not installed"):
        start_daemon(["weft-nowhere"], log=tmp_path / "log")
    with pytest.raises(UnavailableError, match=r"the log .* cannot be written"):
        start_daemon(["true"], log=tmp_path)


def test_a_program_that_does_not_end_is_ended() -> None:
    with pytest.raises(UnavailableError, match=r"sleep did not end within 0\.1 s and was stopped"):
        run(["sleep", "60"], timeout=0.1)
    with pytest.raises(UnavailableError, match="was stopped"):
        run(["sleep", "60"], timeout=0.1, stdin="more than a pipe holds" * 2**16)


def test_a_program_that_no_signal_ends_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that waits in the kernel for a dead device."""
    stuck: list[subprocess.Popen[str]] = []

    def kill_in_vain(process: "subprocess.Popen[str]") -> None:
        stuck.append(process)

    with monkeypatch.context() as changed:
        changed.setattr(subprocess.Popen, "kill", kill_in_vain)
        changed.setattr(runner, "_KILLED_TIMEOUT", 0.1)
        with pytest.raises(
            UnavailableError, match=r"sleep did not end within 0\.1 s, nor when it was killed: .* hangs"
        ):
            run(["sleep", "10"], timeout=0.1)
    (process,) = stuck
    assert process.poll() is None
    process.kill()
    assert process.wait(10) == -9


def test_a_daemon_lives_in_a_session_of_its_own_and_writes_to_a_private_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    daemon = start_daemon(
        ["sh", "-c", 'echo "$GREETING"; pwd; exec sleep 60'], log=log, environment={"GREETING": "hello"}
    )
    assert daemon.exit_code() is None
    assert os.getsid(daemon.pid) == daemon.pid
    assert daemon.wait(0.05) is None
    daemon.kill()
    assert daemon.wait(10) == -9
    assert daemon.exit_code() == -9
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert log.read_text() in {"hello\n/\n", "hello\n", ""}
