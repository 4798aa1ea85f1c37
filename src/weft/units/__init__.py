"""The units by which systemd runs weft, as they are on this machine: with its path, and what it may write."""

import shlex
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from weft.config import Config, PoolKind
from weft.errors import DataError, InvalidValueError, UnsupportedError
from weft.private import write_whole

SYSTEM_DIRECTORY: Final = Path("/etc/systemd/system")
NODE: Final = ("weft.service", "weft-rxe@.service", "weft-siw@.service")
HOST: Final = (
    "weft-attach@.service",
    "weft-detach.service",
    "weft-give-up.service",
    "weft-rxe@.service",
    "weft-siw@.service",
)
_OWN_DIRECTORIES: Final = (Path("/var/lib/weft"), Path("/run/weft"))
"""Those that systemd makes for weft.service (StateDirectory, RuntimeDirectory)."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit file's name and its text."""

    name: str
    text: str


def program() -> Path:
    """The command `weft` of the environment that this runs in. Raises UnsupportedError when it has none."""
    found = Path(sysconfig.get_path("scripts")) / "weft"
    if not found.is_file():
        raise UnsupportedError(
            f"there is no command weft at {found}: install weft with pip, not from its source alone"
        )
    return found


def units(config: Config, names: Sequence[str], weft: Path) -> list[Unit]:
    """The units of these names for a configuration. weft: the path of the command."""
    return [Unit(name, _filled(name, config, weft)) for name in names]


def changed(wanted: Sequence[Unit], directory: Path) -> list[Unit]:
    """Those that are not there as they are wanted. Raises DataError when one cannot be read."""
    return [each for each in wanted if _read(directory / each.name) != each.text]


def install(wanted: Sequence[Unit], directory: Path) -> None:
    """Write them, each in one step. Raises DataError when one cannot be written."""
    for each in wanted:
        write_whole(directory / each.name, each.text.encode(), "a unit of weft's", mode=0o644)


def writable(config: Config) -> Iterator[Path]:
    """The directories beside its own that the control plane must be able to write to; they must be there."""
    wanted = [config.data_dir, config.runtime_dir]
    wanted += [config.pool_path(pool) for pool in config.pools if pool.kind is PoolKind.FILE]
    for path in dict.fromkeys(wanted):
        if not any(path.is_relative_to(each) for each in _OWN_DIRECTORIES):
            yield path


def make_writable(config: Config) -> None:
    """Make those directories that are missing, for weft alone. Raises DataError when one cannot be made."""
    for path in writable(config):
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{path} cannot be made: {error.strerror}") from error


def _filled(name: str, config: Config, weft: Path) -> str:
    text = (resources.files(__name__) / name).read_text("utf-8")
    command = _quoted("the path of weft", weft)
    if config.source is not None and config.source != Path("/etc/weft/weft.toml"):
        command += f" --config {_quoted('config', config.source)}"
    paths = " ".join(_quoted("a directory of the configuration", each) for each in writable(config))
    return text.replace("@WEFT@", command).replace(" @WRITABLE@", f" {paths}" if paths else "")


def _quoted(what: str, path: Path) -> str:
    """Raises InvalidValueError for a path that systemd would read in another way."""
    text = str(path)
    if shlex.quote(text) != text or "%" in text or not path.is_absolute():
        raise InvalidValueError(what, f"{text!r} cannot stand in a unit; choose a plain absolute path")
    return text


def _read(file: Path) -> str | None:
    try:
        return file.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
