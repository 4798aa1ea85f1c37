"""The configuration: one TOML file, read once, checked whole, passed down.

Without a file every value has a default that serves a file pool in the user's data directory to that user alone.
"""

import ipaddress
import os
import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from pathlib import Path

import msgspec

from weft.connection import NvmeofPortal
from weft.errors import InvalidValueError, WeftError
from weft.model import Transport
from weft.names import (
    DEFAULT_NQN_PREFIX,
    NVMEOF_PORT,
    check_address,
    check_id,
    check_name,
    check_nqn,
    check_port,
    check_text,
    new_id,
)


class ApiAuth(StrEnum):
    """Who may use the API over TCP. The unix socket always goes by its file mode: its owner only."""

    TOKEN = "token"  # noqa: S105 -- a word of the configuration, not a secret
    NONE = "none"


class PoolKind(StrEnum):
    FILE = "file"


class TargetKind(StrEnum):
    EMBEDDED = "embedded"


_CHOICES: dict[str, type[StrEnum]] = {"api.auth": ApiAuth, "pools.kind": PoolKind, "target.kind": TargetKind}


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class ApiSection(_Section, frozen=True):
    """`listen`: host:port addresses on loopback, beside the unix socket that is always there."""

    listen: tuple[str, ...] = ()
    auth: ApiAuth = ApiAuth.TOKEN


class PoolSection(_Section, frozen=True):
    """One pool. `path`: the directory of a file pool. `over_commit`: bytes promised for each byte there is."""

    name: str = "default"
    kind: PoolKind = PoolKind.FILE
    path: str = ""
    over_commit: float = 1.0
    availability_zone: str = "default"
    multi_attach: bool = True
    description: str = ""
    capabilities: dict[str, str] = {}


class TargetSection(_Section, frozen=True):
    """`portals`: where the target listens. Times in seconds."""

    kind: TargetKind = TargetKind.EMBEDDED
    portals: tuple[str, ...] = (f"127.0.0.1:{NVMEOF_PORT}",)
    nqn_prefix: str = DEFAULT_NQN_PREFIX
    allow_any_host: bool = False
    snapshot_hold_seconds: float = 20.0
    max_connections: int = 1024
    max_io_queues: int = 8


class HostSection(_Section, frozen=True):
    """`nqn` and `id`: this host's identity, made once when they are not given. Times in seconds."""

    nqn: str = ""
    id: str = ""
    reconnect_delay: float = 1.0
    controller_loss_timeout: float = 600.0
    keep_alive: float = 5.0


class ConfigFile(_Section, frozen=True):
    data_dir: str = ""
    runtime_dir: str = ""
    node_name: str = ""
    log_level: str = "info"
    api: ApiSection = ApiSection()
    target: TargetSection = TargetSection()
    host: HostSection = HostSection()
    pools: tuple[PoolSection, ...] = (PoolSection(),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that weft reads from outside at its start, checked. Paths are absolute."""

    source: Path | None
    data_dir: Path
    runtime_dir: Path
    node_name: str
    log_level: str
    api: ApiSection
    target: TargetSection
    host: HostSection
    pools: tuple[PoolSection, ...]

    @property
    def database(self) -> Path:
        return self.data_dir / "weft.db"

    @property
    def api_socket(self) -> Path:
        return self.runtime_dir / "api.sock"

    @property
    def token_file(self) -> Path:
        return self.data_dir / "token"

    @property
    def target_dir(self) -> Path:
        """Where the embedded target keeps one file per export."""
        return self.data_dir / "target"

    @property
    def target_socket(self) -> Path:
        return self.runtime_dir / "target.sock"

    @property
    def attached_dir(self) -> Path:
        """Where this host records what it has attached."""
        return self.runtime_dir / "attached"

    def pool_path(self, pool: PoolSection) -> Path:
        return Path(pool.path) if pool.path else self.data_dir / "pools" / pool.name

    def portals(self) -> tuple[NvmeofPortal, ...]:
        return tuple(parse_portal("target.portals", each) for each in self.target.portals)


def default_config_path() -> Path | None:
    """The file that is read when none is named: that of WEFT_CONFIG, else the first of the usual ones that is there."""
    if named := os.environ.get("WEFT_CONFIG"):
        return Path(named)
    candidates = [Path("/etc/weft/weft.toml")]
    if os.geteuid() != 0:
        candidates.insert(0, _home("XDG_CONFIG_HOME", ".config") / "weft" / "weft.toml")
    return next((each for each in candidates if each.is_file()), None)


def load_config(path: Path | None = None) -> Config:
    """Read and check the configuration; path None: default_config_path(), or the defaults where there is none.

    Raises InvalidValueError naming the key that is wrong.
    """
    source = path or default_config_path()
    return check_config(_read(source) if source else ConfigFile(), source)


def check_config(file: ConfigFile, source: Path | None = None) -> Config:
    """Check every value of a configuration and fill in what was left open."""
    data_dir = _directory("data_dir", file.data_dir, _default_data_dir())
    runtime_dir = _directory("runtime_dir", file.runtime_dir, _default_runtime_dir(data_dir))
    _check_socket_length(runtime_dir)
    if file.log_level not in {"debug", "info", "warning", "error"}:
        raise InvalidValueError("log_level", f"{file.log_level!r} is none of debug, info, warning, error")
    listens = [parse_listen("api.listen", each) for each in file.api.listen]
    if len(set(listens)) != len(listens):
        raise InvalidValueError("api.listen", "names the same address and port twice")
    _check_target(file.target)
    _check_host(file.host)
    _check_pools(file.pools)
    config = Config(
        source=source,
        data_dir=data_dir,
        runtime_dir=runtime_dir,
        node_name=check_name("node_name", file.node_name or os.uname().nodename),
        log_level=file.log_level,
        api=file.api,
        target=file.target,
        host=file.host,
        pools=file.pools,
    )
    _check_pool_paths(config)
    return config


def parse_listen(field: str, value: str) -> tuple[str, int]:
    """`host:port` on loopback; other addresses wait for TLS."""
    portal = parse_portal(field, value)
    if not value.endswith(f":{portal.port}"):
        raise InvalidValueError(field, f"{value!r} needs a port, such as 127.0.0.1:50040")
    if not (portal.address == "::1" or portal.address.startswith("127.")):
        raise InvalidValueError(
            field, f"{value!r} is not a loopback address; without TLS the API only listens there"
        )
    return portal.address, portal.port


def parse_portal(field: str, value: str) -> NvmeofPortal:
    """`address:port`, an IPv6 address in brackets; without a port the registered one, 4420."""
    matched = re.fullmatch(r"(?:\[(?P<v6>[^\]]+)\]|(?P<v4>[^:\[\]]+))(?::(?P<port>\d+))?", value)
    if matched is None:
        raise InvalidValueError(
            field, f"{value!r} is not address:port, such as 192.0.2.1:4420 or [2001:db8::1]:4420"
        )
    return NvmeofPortal(
        transport=Transport.TCP,
        address=check_address(field, matched["v6"] or matched["v4"]),
        port=check_port(field, matched["port"] or NVMEOF_PORT),
    )


def _read(source: Path) -> ConfigFile:
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


def _check_target(target: TargetSection) -> None:
    if not target.portals:
        raise InvalidValueError("target.portals", "must name at least one address:port")
    portals = [parse_portal("target.portals", each) for each in target.portals]
    if len(set(portals)) != len(portals):
        raise InvalidValueError("target.portals", "names the same address and port twice")
    for portal in portals:
        if ipaddress.ip_address(portal.address).is_unspecified:
            raise InvalidValueError(
                "target.portals", f"{portal} stands for any address; name those that hosts are to connect to"
            )
    if ":" not in target.nqn_prefix:
        raise InvalidValueError(
            "target.nqn_prefix", f"{target.nqn_prefix!r} has no colon before the volume id"
        )
    check_nqn("target.nqn_prefix", target.nqn_prefix + new_id())
    _check_range("target.snapshot_hold_seconds", target.snapshot_hold_seconds, 0.1, 3600)
    _check_range("target.max_connections", target.max_connections, 2, 65536)
    _check_range("target.max_io_queues", target.max_io_queues, 1, 128)


def _check_host(host: HostSection) -> None:
    if host.nqn:
        check_nqn("host.nqn", host.nqn)
    if bool(host.nqn) != bool(host.id):
        raise InvalidValueError("host.id", "host.nqn and host.id belong together: give both or neither")
    if host.id:
        check_id("host.id", host.id)
    _check_range("host.reconnect_delay", host.reconnect_delay, 0.1, 3600)
    _check_range("host.controller_loss_timeout", host.controller_loss_timeout, -1, 10**9)
    _check_range("host.keep_alive", host.keep_alive, 1, 3600)


def _check_pools(pools: tuple[PoolSection, ...]) -> None:
    if not pools:
        raise InvalidValueError("pools", "must hold at least one pool")
    names = [check_name("pools.name", pool.name, maximum=64) for pool in pools]
    if len(set(names)) != len(names):
        raise InvalidValueError("pools.name", "two pools have the same name")
    for pool in pools:
        _directory("pools.path", pool.path, Path())
        if pool.name.strip(".") == "":
            raise InvalidValueError("pools.name", f"{pool.name!r} cannot be the name of a directory")
        _check_range("pools.over_commit", pool.over_commit, 1.0, 1000)
        check_name("pools.availability_zone", pool.availability_zone)
        check_text("pools.description", pool.description)
        for key, value in pool.capabilities.items():
            check_text("pools.capabilities", key, maximum=255)
            check_text(f"pools.capabilities.{key}", value)


def _check_pool_paths(config: Config) -> None:
    """Pools that share a directory, by whatever name, would count and sweep each other's volumes."""
    real = [(pool.name, Path(os.path.realpath(config.pool_path(pool)))) for pool in config.pools]
    for (name, path), (other, its_path) in combinations(real, 2):
        if path == its_path or path in its_path.parents or its_path in path.parents:
            raise InvalidValueError(
                "pools.path",
                f"pools {name} and {other} have the same path or one within the other's, so each would count the"
                " other's volumes",
            )


def _check_range(field: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidValueError(field, f"{value:g} is not between {low:g} and {high:g}")


def _check_socket_length(runtime_dir: Path) -> None:
    longest = len(os.fsencode(runtime_dir / "target.sock"))
    if longest > 107:  # sun_path, unix(7)
        raise InvalidValueError(
            "runtime_dir", f"{runtime_dir} is too long for a unix socket; choose a shorter path"
        )


def _directory(field: str, value: str, default: Path) -> Path:
    if value and not Path(value).is_absolute():
        raise InvalidValueError(field, f"{value!r} is not an absolute path")
    check_text(field, value)
    return Path(os.path.normpath(value)) if value else default


def _home(variable: str, under_home: str) -> Path:
    value = os.environ.get(variable, "")
    if Path(value).is_absolute():
        return Path(value)
    try:
        return Path.home() / under_home
    except RuntimeError:
        raise InvalidValueError(
            variable, "neither it nor HOME says where this user's files are; set one"
        ) from None


def _default_data_dir() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/weft")
    return _home("XDG_DATA_HOME", ".local/share") / "weft"


def _default_runtime_dir(data_dir: Path) -> Path:
    """Not $XDG_RUNTIME_DIR: it goes when its user logs out, and attached volumes are to stay."""
    return Path("/run/weft") if os.geteuid() == 0 else data_dir / "run"
