"""One machine, one identity: found, or made once, and never a second one."""

import os
import stat
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from weft.config import Config, ConfigFile, HostSection, check_config
from weft.embedded.host import HostIdentity, load_identity
from weft.embedded.host.identity import publish_identity
from weft.errors import DataError, InvalidValueError
from weft.names import host_nqn

NQN = "nqn.2014-08.org.nvmexpress:uuid:8b095355-30c6-43c8-9122-b61b6cf7672c"
ID = "820f0ab8-7889-490b-9aae-70bc5ac7b2ee"


def _config(folder: Path, host: HostSection | None = None) -> Config:
    return check_config(
        ConfigFile(data_dir=str(folder / "data"), runtime_dir="/tmp/weft", host=host or HostSection())
    )


def _system(folder: Path, *, nqn: str | None = NQN, identifier: str | None = ID) -> Path:
    directory = folder / "nvme"
    directory.mkdir()
    if nqn is not None:
        directory.joinpath("hostnqn").write_text(f"{nqn}\n")
    if identifier is not None:
        directory.joinpath("hostid").write_text(f"{identifier}\n")
    return directory


def test_the_configuration_comes_first(tmp_path: Path) -> None:
    host = HostSection(nqn="nqn.2019-01.com.example:this", id=ID)
    assert load_identity(_config(tmp_path, host), _system(tmp_path)) == HostIdentity(nqn=host.nqn, id=ID)


def test_the_systems_identity_is_used_also_when_its_two_uuids_differ(tmp_path: Path) -> None:
    identity = load_identity(_config(tmp_path), _system(tmp_path))
    assert identity == HostIdentity(nqn=NQN, id=ID)
    assert identity.hostid == uuid.UUID(ID).bytes
    assert not (tmp_path / "data").exists()


def test_an_identity_is_made_once_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    first = load_identity(_config(tmp_path), tmp_path / "none")
    assert first.nqn == host_nqn(first.id)
    assert load_identity(_config(tmp_path), tmp_path / "none") == first
    kept = tmp_path / "data" / "host-identity"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [each.name for each in kept.parent.iterdir()] == ["host-identity"]


def test_a_published_identity_is_the_systems_from_then_on(tmp_path: Path) -> None:
    directory = tmp_path / "nvme"
    identity = load_identity(_config(tmp_path), directory)
    publish_identity(identity, directory)
    assert {each.name: each.read_text() for each in directory.iterdir()} == {
        "hostnqn": f"{identity.nqn}\n",
        "hostid": f"{identity.id}\n",
    }
    assert {stat.S_IMODE(each.stat().st_mode) for each in directory.iterdir()} == {0o644}
    assert load_identity(_config(tmp_path), directory) == identity


def test_an_interrupted_publication_is_completed(tmp_path: Path) -> None:
    directory = tmp_path / "nvme"
    identity = load_identity(_config(tmp_path), directory)
    publish_identity(identity, directory)
    (directory / "hostnqn").unlink()
    assert load_identity(_config(tmp_path), directory) == identity
    publish_identity(identity, directory)
    assert (directory / "hostnqn").read_text() == f"{identity.nqn}\n"


def test_an_identity_that_is_published_already_is_not_replaced(tmp_path: Path) -> None:
    directory = _system(tmp_path)
    publish_identity(HostIdentity(nqn=host_nqn(ID), id=ID), directory)
    assert (directory / "hostnqn").read_text() == f"{NQN}\n"


@pytest.mark.parametrize("missing", ["hostnqn", "hostid"])
def test_half_an_identity_is_an_error_that_names_the_file(tmp_path: Path, missing: str) -> None:
    directory = _system(tmp_path)
    (directory / missing).unlink()
    with pytest.raises(DataError, match=str(directory / missing)):
        load_identity(_config(tmp_path), directory)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("nqn", "identifier", "named"),
    [("not an nqn", ID, "hostnqn"), (NQN, "not a uuid", "hostid"), (NQN, str(uuid.UUID(int=0)), "hostid")],
)
def test_a_damaged_system_identity_is_an_error_that_names_the_file(
    tmp_path: Path, nqn: str, identifier: str, named: str
) -> None:
    directory = _system(tmp_path, nqn=nqn, identifier=identifier)
    with pytest.raises(DataError, match=str(directory / named)):
        load_identity(_config(tmp_path), directory)


@pytest.mark.parametrize("text", ["", "\n", NQN, f"{NQN}\n{NQN}\n", f"{NQN}\n{ID}\nmore\n", "\x00\xff"])
def test_a_damaged_own_identity_is_an_error_and_is_not_replaced(tmp_path: Path, text: str) -> None:
    kept = tmp_path / "data" / "host-identity"
    kept.parent.mkdir()
    kept.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=str(kept)):
        load_identity(_config(tmp_path), tmp_path / "none")
    assert kept.read_text(encoding="latin-1") == text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_system_identity_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    directory = _system(tmp_path)
    (directory / "hostid").chmod(0)
    with pytest.raises(DataError, match=str(directory / "hostid")):
        load_identity(_config(tmp_path), directory)


def test_a_configured_id_that_is_no_uuid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"host\.id"):
        load_identity(_config(tmp_path, HostSection(nqn=NQN, id="7")), tmp_path / "none")


def test_processes_that_start_together_agree_on_one_identity(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from weft.config import ConfigFile, check_config\n"
        "from weft.embedded.host import load_identity\n"
        "folder = Path(sys.argv[1])\n"
        "config = check_config(ConfigFile(data_dir=str(folder / 'data'), runtime_dir='/tmp/weft'))\n"
        "sys.stdin.read()\n"  # until all are there
        "print(load_identity(config, folder / 'none').nqn)\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    said = {process.communicate(timeout=30)[0] for process in processes}
    assert len(said) == 1
    assert said.pop().startswith("nqn.")
