"""What a host's units run: `weft boot`; and `weft attach --persist`, where nothing could keep the promise."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.installation import Installation
from cli.runner import Cli
from weft.cli.exits import ExitCode
from weft.embedded.host.fuse import missing_for_fuse
from weft.names import new_id

needs_fuse = pytest.mark.skipif(missing_for_fuse() is not None, reason="no FUSE here")


@pytest.fixture
def volume(installation: Installation) -> Iterator[str]:
    """The id of a volume of 1 GiB."""
    cli = installation.cli
    volume_id = cli.ok("volume", "create", "data", "--size", "1GiB", "--quiet").stdout.strip()
    yield volume_id
    cli.ok("detach", volume_id, "--force")
    cli.ok("volume", "delete", volume_id)


@needs_fuse
def test_a_volume_is_attached_at_boot_and_detached_at_the_end_and_stays_registered(
    installation: Installation, volume: str
) -> None:
    cli = installation.cli
    path = Path(cli.ok("boot", "attach", volume).stdout.strip())
    assert path.exists()
    assert cli.ok("boot", "detach", "--json").json == {"volumes": [volume]}
    assert not path.exists()
    assert cli.ok("attachment", "list", "-q").stdout != ""
    assert cli.ok("boot", "detach", volume, "--json").json == {"volumes": []}


def test_a_volume_that_is_gone_is_not_tried_again(installation: Installation) -> None:
    ran = installation.cli("boot", "attach", new_id(), "--within", "60")
    assert ran.exit_code == ExitCode.NOT_FOUND
    assert "tried again" not in ran.stderr


def test_a_node_that_does_not_answer_is_tried_until_the_time_is_over(cli: Cli) -> None:
    ran = cli("boot", "attach", new_id(), "--within", "2.5")
    assert ran.exit_code == ExitCode.UNAVAILABLE
    assert ran.stderr.count("it is tried again") == 1


def test_volumes_that_are_files_are_never_given_up(installation: Installation) -> None:
    assert installation.cli.ok("boot", "give-up", "--json").json == {"volumes": []}


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="systemd runs this machine")
def test_persist_is_refused_before_anything_is_attached_where_systemd_does_not_run(
    installation: Installation, volume: str
) -> None:
    ran = installation.cli("attach", volume, "--persist")
    assert ran.exit_code in {ExitCode.UNSUPPORTED, ExitCode.NOT_PERMITTED}
    assert installation.cli.ok("attachment", "list", "-q").stdout == ""
