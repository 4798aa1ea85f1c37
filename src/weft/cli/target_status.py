"""The embedded target's status: asked for, and as it is printed."""

from weft.cli.shapes import Shape
from weft.config import Config
from weft.embedded.target.control import ControlClient, StatusRequest, TargetStatus

_ANSWER_SECONDS = 10.0


def ask_target(config: Config) -> TargetStatus:
    """Raises UnavailableError, at once when no target runs."""
    with ControlClient(config.target_socket) as client:
        return client.call(StatusRequest(), TargetStatus, timeout=_ANSWER_SECONDS)


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
