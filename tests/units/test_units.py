"""The systemd units that weft installs: what they run, what they may write, and that systemd understands them."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from weft.config import Config, ConfigFile, PoolKind, PoolSection, check_config
from weft.errors import DataError, InvalidValueError
from weft.units import HOST, NODE, Unit, changed, install, make_writable, program, units

WEFT = Path("/opt/weft/bin/weft")
ALL = [*dict.fromkeys([*NODE, *HOST])]


def text_of(name: str, config: Config, weft: Path = WEFT) -> str:
    return units(config, [name], weft)[0].text


def configuration(file: ConfigFile | None = None, source: Path | None = None) -> Config:
    return check_config(file or ConfigFile(data_dir="/var/lib/weft", runtime_dir="/run/weft"), source)


def test_every_unit_that_is_packaged_belongs_to_a_node_or_a_host() -> None:
    packaged = {file.name for file in (Path(__file__).parents[2] / "src/weft/units").glob("*.service")}
    assert packaged == set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_left_to_fill_in(name: str) -> None:
    assert re.findall(r"@[A-Z_]+@", text_of(name, configuration())) == []


def test_they_run_this_weft_with_this_configuration() -> None:
    usual = configuration(source=Path("/etc/weft/weft.toml"))
    other = configuration(source=Path("/srv/weft.toml"))
    assert "ExecStart=/opt/weft/bin/weft serve\n" in text_of("weft.service", usual)
    assert "ExecStart=/opt/weft/bin/weft --config /srv/weft.toml serve\n" in text_of("weft.service", other)


def test_the_control_plane_may_write_what_the_configuration_names_and_no_more(tmp_path: Path) -> None:
    pools = (PoolSection(kind=PoolKind.FILE, path=str(tmp_path / "pool")),)
    usual = ConfigFile(data_dir="/var/lib/weft", runtime_dir="/run/weft")
    named = ConfigFile(data_dir=str(tmp_path / "data"), runtime_dir="/run/weft", pools=pools)

    def writable(file: ConfigFile) -> list[str]:
        line = re.search(r"^ReadWritePaths=(.*)$", text_of("weft.service", check_config(file)), re.MULTILINE)
        assert line is not None
        return [each for each in line[1].split() if not each.startswith("-")]

    assert writable(usual) == []
    assert writable(named) == [str(tmp_path / "data"), str(tmp_path / "pool")]
    make_writable(check_config(named))
    assert (tmp_path / "pool").is_dir()


def test_a_path_that_systemd_would_read_otherwise_is_refused() -> None:
    for path in ("/opt/two words/weft", "/opt/%h/weft", "/opt/$HOME/weft"):
        with pytest.raises(InvalidValueError, match="plain absolute path"):
            text_of("weft.service", configuration(), Path(path))


def test_only_what_differs_is_written(tmp_path: Path) -> None:
    wanted = units(configuration(), ALL, WEFT)
    assert changed(wanted, tmp_path) == wanted
    install(wanted, tmp_path)
    assert changed(wanted, tmp_path) == []
    (tmp_path / "weft.service").write_text("[Unit]\n")
    assert [each.name for each in changed(wanted, tmp_path)] == ["weft.service"]
    assert oct((tmp_path / "weft.service").stat().st_mode)[-3:] == "644"


def test_a_unit_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "weft.service").mkdir()
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "weft.service"))):
        changed([Unit("weft.service", "")], tmp_path)


def test_the_program_is_the_one_of_this_environment() -> None:
    assert program().name == "weft"


@pytest.mark.parametrize("name", ["weft-rxe@.service", "weft-siw@.service"])
def test_a_soft_link_comes_before_and_goes_after_whatever_may_use_it(name: str) -> None:
    ordered = re.search(r"^Before=(.*)$", text_of(name, configuration()), re.MULTILINE)
    assert ordered is not None
    # What attaches a volume comes after network-online.target, what is mounted from it after remote-fs-pre.target.
    users = {"weft.service", "weft-detach.service", "network-online.target", "remote-fs-pre.target"}
    assert users <= set(ordered[1].split())
    assert "network-online.target" in text_of("weft-attach@.service", configuration())


needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")


def verified(*files: Path) -> tuple[int, str]:
    """The exit code and what systemd says of these units; it reads others from their directory too."""
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{files[0].parent}:"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stderr


@needs_systemd
def test_their_order_has_no_cycle(tmp_path: Path) -> None:
    instances = {"weft-attach": "5fd8be8a-4b1a-4e9c-9fb8-4b9f3a2d7c11"}
    files = []
    for name in ALL:
        before, at, after = name.partition("@")
        file = tmp_path / (before + at + instances.get(before, "eth0") + after if at else name)
        file.write_text(verifiable(name, tmp_path))
        files.append(file)
    assert verified(*files) == (0, "")


@needs_systemd
@pytest.mark.parametrize("name", ALL)
def test_systemd_understands_each(name: str, tmp_path: Path) -> None:
    file = tmp_path / name.replace("@.", "@eth0.")
    file.write_text(verifiable(name, tmp_path))
    assert verified(file) == (0, "")


def verifiable(name: str, folder: Path) -> str:
    """The unit, without what is not on every machine that runs the tests: man pages, the programs of a storage node."""
    weft = folder / "weft"
    weft.write_text("#!/bin/sh\n")
    weft.chmod(0o755)
    text = re.sub(r"^Documentation=.*\n", "", text_of(name, configuration(), weft), flags=re.MULTILINE)
    return re.sub(r"=(modprobe|rdma) ", "=/bin/true ", text)
