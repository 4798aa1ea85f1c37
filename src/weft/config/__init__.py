"""The configuration: one TOML file, read once, checked whole, passed down.

Without a file every value has a default that serves a file pool in the user's data directory to that user alone.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from weft.config.api import ApiAuth, ApiSection, TlsSection, check_api, parse_listen
from weft.config.directories import check_socket_length, default_data_dir, default_runtime_dir
from weft.config.file import ConfigFile, default_config_path, read_config_file
from weft.config.host import ConnectorKind, HostSection, check_host
from weft.config.pools import PoolKind, PoolSection, check_pools, pool_path
from weft.config.portals import PortalSection, options_of, parse_portal, portal_of
from weft.config.section import directory
from weft.config.target import TargetKind, TargetSection, check_embedded_portals, check_target
from weft.connection import NvmeofPortal
from weft.errors import InvalidValueError
from weft.names import check_name, is_loopback

__all__ = [
    "ApiAuth",
    "ApiSection",
    "Config",
    "ConfigFile",
    "ConnectorKind",
    "HostSection",
    "PoolKind",
    "PoolSection",
    "PortalSection",
    "TargetKind",
    "TargetSection",
    "TlsSection",
    "check_config",
    "check_embedded_portals",
    "default_config_path",
    "load_config",
    "parse_listen",
    "parse_portal",
]


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
        return pool_path(pool, self.data_dir)

    def portals(self) -> tuple[NvmeofPortal, ...]:
        return tuple(portal_of(each) for each in self.target.portals)

    def portal_options(self) -> dict[NvmeofPortal, PortalSection]:
        """The portals, in their order, with the options of each."""
        return {portal_of(each): options_of(each) for each in self.target.portals}


def load_config(path: Path | None = None) -> Config:
    """Read and check the configuration; path None: default_config_path(), or the defaults where there is none.

    Raises InvalidValueError naming the key that is wrong.
    """
    source = path or default_config_path()
    return check_config(read_config_file(source) if source else ConfigFile(), source)


def check_config(file: ConfigFile, source: Path | None = None) -> Config:
    """Check every value of a configuration and fill in what was left open."""
    data_dir = directory("data_dir", file.data_dir, default_data_dir())
    runtime_dir = directory("runtime_dir", file.runtime_dir, default_runtime_dir(data_dir))
    check_socket_length(runtime_dir)
    if file.log_level not in {"debug", "info", "warning", "error"}:
        raise InvalidValueError("log_level", f"{file.log_level!r} is none of debug, info, warning, error")
    check_api(file.api)
    check_target(file.target)
    check_host(file.host)
    check_pools(file.pools, data_dir)
    return Config(
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
