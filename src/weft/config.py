"""The configuration: one TOML file, read once, checked whole, passed down.

Without a file every value has a default that serves a file pool in the user's data directory to that user alone.
"""

import ipaddress
import os
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from pathlib import Path

import msgspec

from weft.connection import LOOP_PORTAL, NvmeofPortal
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
    is_loopback,
    new_id,
)


class ApiAuth(StrEnum):
    """Who may use the API over TCP. The unix socket always goes by its file mode: its owner only."""

    TOKEN = "token"  # noqa: S105 -- a word of the configuration, not a secret
    NONE = "none"


class PoolKind(StrEnum):
    FILE = "file"
    LVM = "lvm"


class Provisioning(StrEnum):
    """How an LVM pool gives out room: as it is written to, from a thin pool, or all at once."""

    THIN = "thin"
    THICK = "thick"


class TargetKind(StrEnum):
    """Whose NVMe-oF target serves: the kernel's (nvmet), weft's own, or the kernel's where there is one."""

    AUTO = "auto"
    NVMET = "nvmet"
    EMBEDDED = "embedded"


class ConnectorKind(StrEnum):
    """Whose NVMe-oF host attaches: the kernel's, weft's own (FUSE), or the kernel's where there is one."""

    AUTO = "auto"
    KERNEL = "kernel"
    EMBEDDED = "embedded"


_CHOICES: dict[str, type[StrEnum]] = {
    "api.auth": ApiAuth,
    "pools.kind": PoolKind,
    "pools.provisioning": Provisioning,
    "target.kind": TargetKind,
    "target.portals.transport": Transport,
    "host.connector": ConnectorKind,
}


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class TlsSection(_Section, frozen=True):
    """Paths of a certificate (with those between it and its authority) and its key, PEM; without them one is made."""

    certificate: str = ""
    key: str = ""


class ApiSection(_Section, frozen=True):
    """`listen`: host:port addresses beside the unix socket that is always there; TLS is spoken off loopback."""

    listen: tuple[str, ...] = ()
    auth: ApiAuth = ApiAuth.TOKEN
    tls: TlsSection = TlsSection()


class PoolSection(_Section, frozen=True):
    """One pool. `over_commit`: bytes promised for each byte there is.

    `path`: the directory of a file pool. `volume_group`, `provisioning`, `thin_pool`, `warn_percent`: of an LVM pool.
    """

    name: str = "default"
    kind: PoolKind = PoolKind.FILE
    path: str = ""
    volume_group: str = ""
    provisioning: Provisioning = Provisioning.THIN
    thin_pool: str = "thinpool"
    warn_percent: int = 80
    over_commit: float = 1.0
    availability_zone: str = "default"
    multi_attach: bool = True
    description: str = ""
    capabilities: dict[str, str] = {}


class PortalSection(_Section, frozen=True):
    """A portal with options of its own, kernel target only; 0 stands for the kernel's default.

    `inline_data_size`: bytes that a host may send with a command (nvmet's param_inline_data_size).
    `max_queue_size`: entries of a queue (nvmet's param_max_queue_size, from Linux 6.9).
    """

    address: str = ""
    port: int = NVMEOF_PORT
    transport: Transport = Transport.TCP
    inline_data_size: int = 0
    max_queue_size: int = 0


class TargetSection(_Section, frozen=True):
    """`portals`: where the target listens. Times in seconds.

    `restore_seconds`: for how long, after a restart of the machine, the kernel's target waits for all volumes to be
    there before it lets hosts connect again.
    """

    kind: TargetKind = TargetKind.AUTO
    portals: tuple[str | PortalSection, ...] = (f"127.0.0.1:{NVMEOF_PORT}",)
    restore_seconds: float = 120.0
    nqn_prefix: str = DEFAULT_NQN_PREFIX
    allow_any_host: bool = False
    snapshot_hold_seconds: float = 20.0
    max_connections: int = 1024
    max_io_queues: int = 8


class HostSection(_Section, frozen=True):
    """`nqn` and `id`: this host's identity, made once when they are not given. Times in seconds.

    `transport`: the only one to connect by; empty: the best that this host and the portals have. `io_queues`: for
    each controller; 0: as many as the kernel sees fit.
    """

    connector: ConnectorKind = ConnectorKind.AUTO
    nqn: str = ""
    id: str = ""
    transport: str = ""
    io_queues: int = 0
    reconnect_delay: float = 1.0
    controller_loss_timeout: float = 3600.0
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
    def needs_tls(self) -> bool:
        """Whether the API is to be reached from other machines."""
        return not all(is_loopback(parse_listen("api.listen", each)[0]) for each in self.api.listen)

    @property
    def certificate_file(self) -> Path:
        """Where the API's own certificate and its key are, when none is configured."""
        return self.data_dir / "tls.pem"

    @property
    def login_file(self) -> Path:
        """What `weft login` keeps: where the API is that commands of this configuration use, and the token for it."""
        return self.data_dir / "login"

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
        """Below it are the paths of the pool's volumes."""
        if pool.kind is PoolKind.LVM:
            return Path("/dev") / pool.volume_group
        return Path(pool.path) if pool.path else self.data_dir / "pools" / pool.name

    def portals(self) -> tuple[NvmeofPortal, ...]:
        return tuple(_portal(each) for each in self.target.portals)

    def portal_options(self) -> dict[NvmeofPortal, PortalSection]:
        """The portals, in their order, with the options of each."""
        return {_portal(each): _options(each) for each in self.target.portals}


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
    _check_api(file.api)
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
    """`address:port`."""
    portal = parse_portal(field, value)
    if portal.transport is not Transport.TCP or "://" in value or not value.endswith(f":{portal.port}"):
        raise InvalidValueError(field, f"{value!r} is not address:port, such as 127.0.0.1:50040")
    return portal.address, portal.port


def parse_portal(field: str, value: str) -> NvmeofPortal:
    """What str(NvmeofPortal) writes: `address:port` for tcp, `rdma://address:port`, `loop`.

    An IPv6 address is in brackets; without a port it is the registered one, 4420.
    """
    if value == Transport.LOOP.value:
        return LOOP_PORTAL
    matched = re.fullmatch(
        r"(?:(?P<transport>tcp|rdma)://)?(?:\[(?P<v6>[^\]]+)\]|(?P<v4>[^:/\[\]]+))(?::(?P<port>\d+))?", value
    )
    if matched is None:
        raise InvalidValueError(
            field,
            f"{value!r} is not address:port, such as 192.0.2.1:4420, [2001:db8::1]:4420 or rdma://192.0.2.1:4420",
        )
    return NvmeofPortal(
        transport=Transport(matched["transport"] or Transport.TCP),
        address=check_address(field, matched["v6"] or matched["v4"]),
        port=check_port(field, matched["port"] or NVMEOF_PORT),
    )


def _portal(written: str | PortalSection) -> NvmeofPortal:
    if isinstance(written, str):
        return parse_portal("target.portals", written)
    if written.transport is Transport.LOOP:
        return LOOP_PORTAL
    return NvmeofPortal(
        transport=written.transport,
        address=check_address("target.portals.address", written.address),
        port=check_port("target.portals.port", written.port),
    )


def _options(written: str | PortalSection) -> PortalSection:
    return written if isinstance(written, PortalSection) else PortalSection()


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


def _check_api(api: ApiSection) -> None:
    listens = [parse_listen("api.listen", each) for each in api.listen]
    if len(set(listens)) != len(listens):
        raise InvalidValueError("api.listen", "names the same address and port twice")
    if api.auth is ApiAuth.NONE and not all(is_loopback(address) for address, _ in listens):
        raise InvalidValueError(
            "api.auth", "none is for loopback alone; whoever reaches another address must show a token"
        )
    if bool(api.tls.certificate) != bool(api.tls.key):
        raise InvalidValueError(
            "api.tls", "certificate and key belong together: give both, or neither to have them made"
        )
    _directory("api.tls.certificate", api.tls.certificate, Path())
    _directory("api.tls.key", api.tls.key, Path())


def _check_target(target: TargetSection) -> None:
    if not target.portals:
        raise InvalidValueError("target.portals", "must name at least one address:port")
    portals = [_portal(each) for each in target.portals]
    if len({(portal.transport is Transport.RDMA, portal.endpoint) for portal in portals}) != len(portals):
        raise InvalidValueError("target.portals", "names the same address and port twice")
    if target.kind is TargetKind.EMBEDDED:
        check_embedded_portals(portals)
    for each in target.portals:
        _check_portal_options(_options(each))
    for portal in portals:
        if portal.transport is not Transport.LOOP and ipaddress.ip_address(portal.address).is_unspecified:
            raise InvalidValueError(
                "target.portals", f"{portal} stands for any address; name those that hosts are to connect to"
            )
    if ":" not in target.nqn_prefix:
        raise InvalidValueError(
            "target.nqn_prefix", f"{target.nqn_prefix!r} has no colon before the volume id"
        )
    check_nqn("target.nqn_prefix", target.nqn_prefix + new_id())
    _check_range("target.snapshot_hold_seconds", target.snapshot_hold_seconds, 0.1, 3600)
    _check_range("target.restore_seconds", target.restore_seconds, 0, 3600)
    _check_range("target.max_connections", target.max_connections, 2, 65536)
    _check_range("target.max_io_queues", target.max_io_queues, 1, 128)


def check_embedded_portals(portals: Sequence[NvmeofPortal]) -> None:
    """Raises InvalidValueError for a portal that the embedded target cannot serve."""
    for portal in portals:
        if portal.transport is not Transport.TCP:
            raise InvalidValueError(
                "target.portals",
                f"{portal}: the embedded target serves tcp alone; the kernel's serves rdma and loop",
            )


def _check_portal_options(options: PortalSection) -> None:
    """From 1: nvmet takes no connection with an inline data size of 0, which here stands for its default."""
    _check_range("target.portals.inline_data_size", options.inline_data_size, 0, 16384)
    _check_range("target.portals.max_queue_size", options.max_queue_size, 0, 1024)
    if 0 < options.max_queue_size < 16:
        raise InvalidValueError("target.portals.max_queue_size", f"{options.max_queue_size} is less than 16")


def _check_host(host: HostSection) -> None:
    if host.transport not in {"", *Transport}:
        raise InvalidValueError(
            "host.transport",
            f"{host.transport!r} is none of {', '.join(Transport)}; empty: the best there is",
        )
    _check_range("host.io_queues", host.io_queues, 0, 1024)
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
        _check_volume_group(pool)
        check_name("pools.availability_zone", pool.availability_zone)
        check_text("pools.description", pool.description)
        for key, value in pool.capabilities.items():
            check_text("pools.capabilities", key, maximum=255)
            check_text(f"pools.capabilities.{key}", value)


_LVM_NAME = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_+.-]{0,126}")
"""Names of volume groups and logical volumes, lvm(8)."""


def _check_volume_group(pool: PoolSection) -> None:
    if pool.kind is not PoolKind.LVM:
        if pool.volume_group:
            raise InvalidValueError("pools.volume_group", f"pool {pool.name} is of kind {pool.kind}, not lvm")
        return
    if pool.path:
        raise InvalidValueError("pools.path", f"pool {pool.name} is of kind lvm: give volume_group instead")
    if not pool.volume_group:
        raise InvalidValueError("pools.volume_group", f"pool {pool.name} is of kind lvm and needs one")
    names = {"pools.volume_group": pool.volume_group}
    if pool.provisioning is Provisioning.THIN:
        names["pools.thin_pool"] = pool.thin_pool
    for field, name in names.items():
        if not _LVM_NAME.fullmatch(name):
            raise InvalidValueError(field, f"{name!r} is not a name that LVM takes")
    _check_range("pools.warn_percent", pool.warn_percent, 1, 100)


def _check_pool_paths(config: Config) -> None:
    """Pools that share a directory, by whatever name, would count and sweep each other's volumes."""
    groups = [
        (pool.volume_group, pool.thin_pool if pool.provisioning is Provisioning.THIN else "")
        for pool in config.pools
        if pool.kind is PoolKind.LVM
    ]
    if len(set(groups)) != len(groups):
        raise InvalidValueError("pools.volume_group", "two pools have the same volume group and thin pool")
    real = [
        (pool.name, Path(os.path.realpath(config.pool_path(pool))))
        for pool in config.pools
        if pool.kind is PoolKind.FILE
    ]
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
