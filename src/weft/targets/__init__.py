"""Targets show the bytes to hosts: one for each protocol on a node."""

from weft.config import Config, TargetKind, check_embedded_portals
from weft.errors import UnsupportedError
from weft.model import Protocol
from weft.targets.embedded import EmbeddedTarget
from weft.targets.keeper import KeptEmbeddedTarget, TargetKeeper
from weft.targets.node_target import NodeTarget
from weft.targets.nvmet import NvmetTarget
from weft.targets.nvmet_modules import why_not_nvmet

__all__ = [
    "EmbeddedTarget",
    "KeptEmbeddedTarget",
    "NodeTarget",
    "NvmetTarget",
    "TargetKeeper",
    "open_target",
    "stop_target",
    "target_kind",
    "why_not_nvmet",
]


def open_target(protocol: Protocol, config: Config) -> NodeTarget:
    """The target that serves protocol on this node.

    Raises UnsupportedError for a protocol that weft, as configured here, does not serve, and InvalidValueError for
    portals that the target cannot have.
    """
    if protocol is not Protocol.NVMEOF:
        raise UnsupportedError(
            f"no target serves {protocol} here; the protocols that weft serves as configured: {Protocol.NVMEOF}"
        )
    if target_kind(config) is TargetKind.NVMET:
        return NvmetTarget(config)
    check_embedded_portals(config.portals())
    return KeptEmbeddedTarget(config)


def target_kind(config: Config) -> TargetKind:
    """NVMET or EMBEDDED: what target.kind says, or, where it is left open, the kernel's if it can serve here."""
    if config.target.kind is not TargetKind.AUTO:
        return config.target.kind
    return TargetKind.NVMET if why_not_nvmet(config) is None else TargetKind.EMBEDDED


def stop_target(config: Config) -> None:
    """Have the target serve nothing any more; hosts wait until it does again. One that does not run: nothing."""
    if target_kind(config) is TargetKind.NVMET:
        NvmetTarget(config).stop_target()
    else:
        EmbeddedTarget(config).stop_target()
