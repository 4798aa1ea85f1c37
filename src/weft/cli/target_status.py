"""What runs as the target and what it serves: asked for, and as it is printed."""

from dataclasses import dataclass, field

from weft.cli.shapes import Shape
from weft.config import Config, TargetKind
from weft.connection import NvmeofPortal
from weft.embedded.target.control import ControlClient, StatusRequest, TargetStatus
from weft.targets import NvmetTarget, target_kind
from weft.targets.nvmet_parts import NvmetStatus

_ANSWER_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalReport:
    """bound: hosts can connect to it. missed: it is not bound, and should be."""

    portal: str
    bound: bool
    reason: str
    missed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetReport:
    """name: who serves, for a person. more: what else there is to tell of this kind of target."""

    kind: TargetKind
    name: str
    exports: int
    portals: tuple[PortalReport, ...]
    more: Shape = field(default_factory=dict)


def ask_target(config: Config) -> TargetReport:
    """Raises UnavailableError, at once when no target runs."""
    if target_kind(config) is TargetKind.NVMET:
        return _of_kernel(NvmetTarget(config).status())
    with ControlClient(config.target_socket) as client:
        return _of_process(client.call(StatusRequest(), TargetStatus, timeout=_ANSWER_SECONDS))


def target_shape(report: TargetReport) -> Shape:
    return {
        "running": True,
        "kind": report.kind.value,
        **report.more,
        "exports": report.exports,
        "portals": [
            {"portal": each.portal, "bound": each.bound, "reason": each.reason} for each in report.portals
        ],
    }


def _of_process(status: TargetStatus) -> TargetReport:
    """connections: how many each host has, by its NQN."""
    return TargetReport(
        kind=TargetKind.EMBEDDED,
        name=f"runs, process {status.pid}",
        exports=status.exports,
        portals=tuple(
            PortalReport(portal=each.portal, bound=each.bound, reason=each.reason, missed=not each.bound)
            for each in status.portals
        ),
        more={"pid": status.pid, "version": status.version, "connections": dict(status.connections)},
    )


def _of_kernel(status: NvmetStatus) -> TargetReport:
    return TargetReport(
        kind=TargetKind.NVMET,
        name="the kernel's",
        exports=status.exports,
        portals=tuple(
            PortalReport(
                portal=str(each),
                bound=each in status.listening,
                reason=_why_closed(status, each),
                missed=each not in status.listening and status.exports > 0,
            )
            for each in status.portals
        ),
    )


def _why_closed(status: NvmetStatus, portal: NvmeofPortal) -> str:
    if portal in status.listening:
        return ""
    if not status.exports:
        return "nothing is exported"
    return "its address or RDMA device is missing, or volumes are still being restored, see the log of weft serve"
