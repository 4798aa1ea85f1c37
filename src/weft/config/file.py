"""The file itself: where it is, what it may hold, and which key is wrong when it holds something else."""

import os
import re
import tomllib
from enum import StrEnum
from pathlib import Path

import msgspec

from weft.config.api import ApiAuth, ApiSection
from weft.config.directories import home
from weft.config.host import ConnectorKind, HostSection
from weft.config.pools import PoolKind, PoolSection
from weft.config.section import Section
from weft.config.target import TargetKind, TargetSection
from weft.errors import InvalidValueError, WeftError
from weft.model import Provisioning, Transport

_CHOICES: dict[str, type[StrEnum]] = {
    "api.auth": ApiAuth,
    "pools.kind": PoolKind,
    "pools.provisioning": Provisioning,
    "target.kind": TargetKind,
    "target.portals.transport": Transport,
    "host.connector": ConnectorKind,
}


class ConfigFile(Section, frozen=True):
    data_dir: str = ""
    runtime_dir: str = ""
    node_name: str = ""
    log_level: str = "info"
    api: ApiSection = ApiSection()
    target: TargetSection = TargetSection()
    host: HostSection = HostSection()
    pools: tuple[PoolSection, ...] = (PoolSection(),)


def default_config_path() -> Path | None:
    """The file that is read when none is named: that of WEFT_CONFIG, else the first of the usual ones that is there."""
    if named := os.environ.get("WEFT_CONFIG"):
        return Path(named)
    candidates = [Path("/etc/weft/weft.toml")]
    if os.geteuid() != 0:
        candidates.insert(0, home("XDG_CONFIG_HOME", ".config") / "weft" / "weft.toml")
    return next((each for each in candidates if each.is_file()), None)


def read_config_file(source: Path) -> ConfigFile:
    """Raises InvalidValueError for a file that is not readable, not TOML, or holds a key or type that weft does not know."""
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValueError("config", f"{source} cannot be read: {error}") from None
    try:
        return msgspec.convert(tomllib.loads(text), ConfigFile)
    except tomllib.TOMLDecodeError as error:
        raise InvalidValueError("config", f"{source} is not valid TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise _validation_error(source, str(error)) from None


def _validation_error(source: Path, message: str) -> WeftError:
    what, _, where = message.partition(" - at `$")
    path = where.strip("`.")
    unknown = re.fullmatch(r"Object contains unknown field `(.+)`", what)
    if unknown:
        path = f"{path}.{unknown[1]}" if path else unknown[1]
        what = "is not a key that weft knows"
    choices = _CHOICES.get(re.sub(r"\[.*?\]", "", path))
    if choices is not None:
        what = f"{what}; it is one of {', '.join(choices)}"
    return InvalidValueError(path or "config", f"{what} (in {source})")
