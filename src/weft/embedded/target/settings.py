"""What the target process is told when it starts. Nothing in it is secret: it stands on the command line."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from weft.config import Config, parse_portal
from weft.connection import NvmeofPortal
from weft.errors import InvalidValueError


class TargetSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """roots: the directories whose files may be exported. portals: `address:port`."""

    target_dir: str
    socket: str
    portals: tuple[str, ...]
    roots: tuple[str, ...]
    nqn_prefix: str
    allow_any_host: bool = False
    max_connections: int = 1024
    max_io_queues: int = 8
    log_level: str = "info"

    def nvmeof_portals(self) -> tuple[NvmeofPortal, ...]:
        return tuple(parse_portal("portals", each) for each in self.portals)

    def root_paths(self) -> tuple[Path, ...]:
        return tuple(Path(each) for each in self.roots)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times, in seconds, and sizes, in bytes, that bound what a host can make the target keep or wait for."""

    handshake_seconds: float = 10.0
    """From accept to an accepted Connect."""
    authentication_seconds: float = 60.0
    """From an accepted Connect to the proof of who the host is, where one is asked for."""
    pdu_seconds: float = 30.0
    """From a PDU's first byte to its last."""
    send_seconds: float = 30.0
    """Without the host taking a byte."""
    idle_discovery_seconds: float = 120.0
    """Without a command, on a discovery controller that asked for no keep alive timeout."""
    teardown_seconds: float = 10.0
    """Until the connections of a host that is cut off, or of a controller that has ended, are done."""
    data_in_flight: int = 4 * 2**20
    """Data of writes asked for by R2T and not yet written, for each connection."""


DEFAULT_LIMITS = Limits()


def settings_of(config: Config) -> TargetSettings:
    return TargetSettings(
        target_dir=str(config.target_dir),
        socket=str(config.target_socket),
        portals=tuple(str(each) for each in config.portals()),
        roots=tuple(str(config.pool_path(pool)) for pool in config.pools),
        nqn_prefix=config.target.nqn_prefix,
        allow_any_host=config.target.allow_any_host,
        max_connections=config.target.max_connections,
        max_io_queues=config.target.max_io_queues,
        log_level=config.log_level,
    )


def encode_settings(settings: TargetSettings) -> str:
    return msgspec.json.encode(settings).decode()


def decode_settings(text: str) -> TargetSettings:
    """Raises InvalidValueError."""
    try:
        return msgspec.json.decode(text, type=TargetSettings)
    except msgspec.DecodeError as error:
        raise InvalidValueError("settings", str(error)) from None
