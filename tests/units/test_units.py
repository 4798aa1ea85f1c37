"""The systemd units that weft installs: what they run, what they may write, and that systemd understands them."""

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


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("name", ALL)
def test_systemd_understands_each(name: str, tmp_path: Path) -> None:
    program_of_all = tmp_path / "weft"
    program_of_all.write_text("#!/bin/sh\n")
    program_of_all.chmod(0o755)
    file = tmp_path / name.replace("@.", "@eth0.")
    text = text_of(name, configuration(), program_of_all)
    # Neither the man pages nor the programs of a storage node are on every machine that runs the tests.
    text = re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE)
    file.write_text(re.sub(r"=(modprobe|rdma) ", "=/bin/true ", text))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", file],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
