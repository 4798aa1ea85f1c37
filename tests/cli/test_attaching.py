"""`weft attach`, `weft detach`, `weft volume read` and `write`, with the processes that a user runs."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.installation import Installation, run_weft
from cli.runner import Cli
from weft.cli.exits import ExitCode
from weft.embedded.host.fuse import missing_for_fuse
from weft.model import GIB

needs_fuse = pytest.mark.skipif(
    missing_for_fuse() is not None, reason=f"no FUSE here: {missing_for_fuse() or ''}"
)


@pytest.fixture
def weft(installation: Installation) -> Iterator[Cli]:
    """The command line, and a volume of 1 GiB named data that is taken away afterwards."""
    installation.cli.ok("volume", "create", "data", "--size", "1GiB")
    yield installation.cli
    installation.cli.ok("detach", "data", "--force")
    installation.cli.ok("volume", "delete", "data")
    assert installation.cli.ok("attachment", "list", "-q").stdout == ""


def test_what_is_written_is_read_again_and_nothing_stays_attached(weft: Cli) -> None:
    content = bytes(range(256)) * 40_000
    written = run_weft(weft, "volume", "write", "data", "--offset", "1MiB", "--json", stdin=content)
    assert (written.returncode, written.stderr) == (0, b"")
    assert b'"written_bytes": 10240000' in written.stdout
    assert weft.ok("attachment", "list", "-q").stdout == ""
    read = run_weft(
        weft, "volume", "read", "data", "--offset", str(2**20 - 1), "--length", str(len(content) + 2)
    )
    assert read.stdout == b"\0" + content + b"\0"
    assert weft.ok("attachment", "list", "-q").stdout == ""


def test_more_than_fits_is_refused_before_anything_is_written_when_it_can_be_known(
    weft: Cli, tmp_path: Path
) -> None:
    with (tmp_path / "large").open("w+b") as large:
        large.write(b"x" * 4096)
        large.truncate(GIB + 1)
        large.seek(0)
        done = subprocess.run(
            [sys.executable, "-m", "weft", "volume", "write", "data", "--config", str(weft.config)],
            stdin=large,
            capture_output=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == ExitCode.INVALID_VALUE
    assert b"nothing was written" in done.stderr
    assert run_weft(weft, "volume", "read", "data", "--length", "4KiB").stdout == bytes(4096)


def test_a_volume_read_into_a_file_keeps_its_holes(weft: Cli, short_path: Path) -> None:
    content = b"first" + bytes(20 * 2**20) + b"last"
    write = [sys.executable, "-m", "weft", "volume", "write", "data", "--config", str(weft.config)]
    subprocess.run(write, input=content, check=True, timeout=60, capture_output=True)
    image = short_path / "image"
    with image.open("wb") as file:
        read = [sys.executable, "-m", "weft", "volume", "read", "data", "--config", str(weft.config)]
        subprocess.run(read, stdout=file, check=True, timeout=60, stderr=subprocess.DEVNULL)
    assert image.stat().st_size == GIB
    assert image.stat().st_blocks * 512 < 20 * 2**20
    with image.open("rb") as file:
        assert file.read(len(content)) == content


def test_a_pipe_that_holds_more_than_fits_is_an_error_that_says_what_was_written(weft: Cli) -> None:
    done = run_weft(weft, "volume", "write", "data", "--offset", str(GIB - 4096), stdin=b"x" * 4097)
    assert done.returncode == ExitCode.INVALID_VALUE
    assert b"the first 0 bytes were written" in done.stderr


@pytest.mark.parametrize(
    "range_", [("--offset", str(GIB + 1)), ("--length", "2GiB"), ("--offset", "1", "--length", "1G")]
)
def test_a_range_that_is_not_within_the_volume_is_refused(weft: Cli, range_: tuple[str, ...]) -> None:
    done = run_weft(weft, "volume", "read", "data", *range_)
    assert (done.returncode, done.stdout) == (ExitCode.INVALID_VALUE, b"")


def test_a_copy_that_is_interrupted_takes_its_attachment_away(weft: Cli) -> None:
    with _reading(weft) as process:
        process.send_signal(signal.SIGINT)
    assert process.returncode == ExitCode.INTERRUPTED
    assert weft.ok("attachment", "list", "-q").stdout == ""


def test_what_a_killed_copy_has_left_is_taken_away_by_the_next(weft: Cli) -> None:
    with _reading(weft) as process:
        process.kill()
    assert len(weft.ok("attachment", "list", "-q").stdout.split()) == 1
    assert run_weft(weft, "volume", "read", "data", "--length", "4").stdout == bytes(4)
    assert weft.ok("attachment", "list", "-q").stdout == ""


def test_a_volume_is_not_copied_twice_at_one_time(weft: Cli) -> None:
    with _reading(weft) as process:
        second = run_weft(weft, "volume", "read", "data")
        assert (second.returncode, second.stdout) == (ExitCode.CONFLICT, b"")
        assert f"copied by process {process.pid}".encode() in second.stderr
        assert weft("detach", "data").exit_code == ExitCode.CONFLICT
        process.terminate()


@needs_fuse
def test_attaching_gives_a_path_and_detaching_takes_it_away(weft: Cli) -> None:
    first, second = (weft.ok("attach", "data").stdout for _ in range(2))
    assert first == second
    path = Path(first.strip())
    assert path.stat().st_size == GIB
    with path.open("r+b") as file:
        file.write(b"hello")
    assert weft.ok("status", "--json").json["attached"][0]["path"] == str(path)
    refused = run_weft(weft, "volume", "read", "data")
    assert refused.returncode == ExitCode.CONFLICT
    assert str(path).encode() in refused.stderr
    assert weft("volume", "delete", "data").exit_code == ExitCode.CONFLICT
    assert weft.ok("detach", "data").stdout == "detached data\n"
    assert not path.exists()
    assert "is not attached" in weft.ok("detach", "data").stdout
    assert run_weft(weft, "volume", "read", "data", "--length", "5").stdout == b"hello"


@needs_fuse
def test_a_volume_whose_file_is_open_stays_attached(weft: Cli) -> None:
    path = Path(weft.ok("attach", "data", "-q").stdout.strip())
    with path.open("rb"):
        ran = weft("detach", "data")
        assert ran.exit_code == ExitCode.CONFLICT
        assert weft.ok("attach", "data").stdout == f"{path}\n"
    weft.ok("detach", "data")


@needs_fuse
def test_a_host_that_is_cut_off_while_it_uses_a_volume_can_clear_up(weft: Cli) -> None:
    path = Path(weft.ok("attach", "data", "-q").stdout.strip())
    (host,) = weft.ok("host", "list", "-q").stdout.split()
    weft.ok("attachment", "delete", "data", "--host", host)
    with pytest.raises(OSError, match="Input/output error"):
        path.read_bytes()
    assert weft.ok("attachment", "list", "-q").stdout == ""
    weft.ok("detach", "data", "--force")
    assert not path.exists()


@needs_fuse
def test_without_the_api_a_volume_is_detached_by_its_id_or_path_and_the_rest_later(
    installation: Installation, weft: Cli
) -> None:
    attached = weft.ok("attach", "data", "--json").json
    installation.stop()
    by_name = weft("detach", "data")
    assert by_name.exit_code == ExitCode.UNAVAILABLE
    assert attached["volume_id"] in by_name.stderr
    for known_by in (attached["path"], attached["volume_id"]):  # the second time there is nothing to do
        ran = weft.ok("detach", known_by, "--json")
        assert ran.json["attachment_deleted"] is False
        assert "may remain" in ran.stderr
        assert not Path(attached["path"]).exists()
    installation.start()
    assert len(weft.ok("attachment", "list", "-q").stdout.split()) == 1
    assert weft.ok("detach", "data", "--json").json["attachment_deleted"] is True
    assert weft.ok("attachment", "list", "-q").stdout == ""


def _reading(weft: Cli) -> "subprocess.Popen[bytes]":
    """A copy that is under way, and waits for its reader."""
    process = subprocess.Popen(
        [sys.executable, "-m", "weft", "volume", "read", "data", "--config", str(weft.config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert process.stdout.read(1) == b"\0"
    return process
