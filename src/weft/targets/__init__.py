"""Targets show the bytes to hosts: one for each protocol on a node."""

from weft.config import Config, TargetKind
from weft.errors import UnsupportedError
from weft.model import Protocol
from weft.targets.embedded import EmbeddedTarget
from weft.targets.keeper import TargetKeeper

__all__ = ["EmbeddedTarget", "TargetKeeper", "open_target"]


def open_target(protocol: Protocol, config: Config) -> EmbeddedTarget:
    """The target that serves protocol on this node; what it returns is a weft.ports.Target.

    Raises UnsupportedError for a protocol that weft, as configured here, does not serve.
    """
    if protocol is Protocol.NVMEOF and config.target.kind is TargetKind.EMBEDDED:
        return EmbeddedTarget(config)
    raise UnsupportedError(
        f"no target serves {protocol} here; the protocols that weft serves as configured: {Protocol.NVMEOF}"
    )
