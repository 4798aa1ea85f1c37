"""What a host's units run: `weft boot`; and `weft attach --persist`, where nothing could keep the promise."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.installation import Installation
from cli.runner import Cli
from fakes.connector import FakeAttachedVolume, FakeConnector
from weft.cli.boot import _detach_patiently
from weft.cli.exits import ExitCode
from weft.cli.waiting import Deadline
from weft.connection import Connection, NvmeofConnection
from weft.embedded.host.fuse import missing_for_fuse
from weft.errors import ConflictError
from weft.model import VolumeId
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


def do(*command: str | Path) -> str:
    done = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def mounted_device(tmp_path: Path) -> Iterator[Path]:
    """A real block device, mounted at a folder of the test's."""
    image, point = tmp_path / "image", tmp_path / "mnt"
    image.touch()
    os.truncate(image, 8 << 20)
    point.mkdir()
    try:
        made = do("losetup", "--find", "--show", image)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no loop device can be had here: {error}")
    device = Path(made)
    try:
        do("mke2fs", "-q", device)
        do("mount", device, point)
        yield device
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    finally:
        subprocess.run(["umount", point], check=False, timeout=60, capture_output=True)
        subprocess.run(["losetup", "--detach", device], check=False, timeout=60, capture_output=True)


class Mounted(FakeConnector):
    """Refuses to detach what is mounted from the device, as the kernel's does."""

    detached = False

    def detach(self, connection: Connection, *, force: bool = False) -> None:
        del connection, force
        if f" {self._directory} " in Path("/proc/self/mountinfo").read_text():
            raise ConflictError("it is mounted")
        self.detached = True


def test_what_is_mounted_without_netdev_is_unmounted_only_when_the_machine_goes_down(
    mounted_device: Path, tmp_path: Path
) -> None:
    connector = Mounted(tmp_path / "mnt", "nqn.2020-01.org.example:h", lambda _: mounted_device)
    volume_id = VolumeId(new_id())
    connection = NvmeofConnection(
        volume_id=volume_id, nqn="nqn.2020-01.org.example:v", portals=(), host_nqn=""
    )
    volume = FakeAttachedVolume(volume_id, mounted_device, connection)
    with pytest.raises(ConflictError):
        _detach_patiently(connector, Deadline.after(0), volume, unmount=False)
    assert not connector.detached
    _detach_patiently(connector, Deadline.after(0), volume, unmount=True)
    assert connector.detached
