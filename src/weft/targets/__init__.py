"""Targets show the bytes to hosts: one for each protocol on a node."""

from weft.config import Config, TargetKind
from weft.errors import UnsupportedError
from weft.model import Protocol
from weft.targets.embedded import EmbeddedTarget
from weft.targets.keeper import KeptEmbeddedTarget, TargetKeeper
from weft.targets.node_target import NodeTarget

__all__ = ["EmbeddedTarget", "KeptEmbeddedTarget", "NodeTarget", "TargetKeeper", "open_target"]


def open_target(protocol: Protocol, config: Config) -> NodeTarget:
    """The target that serves protocol on this node.

    Raises UnsupportedError for a protocol that weft, as configured here, does not serve.
    """
    if protocol is Protocol.NVMEOF and config.target.kind in {TargetKind.EMBEDDED, TargetKind.AUTO}:
        return KeptEmbeddedTarget(config)
    raise UnsupportedError(
        f"no target serves {protocol} here; the protocols that weft serves as configured: {Protocol.NVMEOF}"
    )
