"""The embedded target's status as it is printed."""

from weft.cli.shapes import Shape
from weft.embedded.target.control import TargetStatus


def target_shape(status: TargetStatus) -> Shape:
    """connections: how many each host has, by its NQN."""
    return {
        "running": True,
        "pid": status.pid,
        "version": status.version,
        "exports": status.exports,
        "portals": [
            {"portal": each.portal, "bound": each.bound, "reason": each.reason} for each in status.portals
        ],
        "connections": dict(status.connections),
    }
