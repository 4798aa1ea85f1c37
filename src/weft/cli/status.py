"""`weft status`: what runs here, what there is, and what is wrong."""

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import click

from weft import __version__
from weft.cli.commands import Command
from weft.cli.daemon_process import find_daemon
from weft.cli.exits import ExitCode, exit_code
from weft.cli.session import Session
from weft.cli.shapes import Shape, Value
from weft.cli.sizes import format_size
from weft.cli.target_status import TargetReport, ask_target, target_shape
from weft.errors import WeftError
from weft.model import StateStatus, Status
from weft.ports import AttachedVolume
from weft.tokens import TokenScope
from weft.views import AttachmentView, PoolView, SnapshotView, VolumeView

_WRONG = frozenset({Status.ERROR, Status.ERROR_DELETING, Status.ERROR_EXTENDING})


@dataclass(frozen=True, slots=True)
class Resources:
    """What the API knows and tells; a host's token hears nothing of pools and snapshots."""

    pools: list[PoolView]
    volumes: list[VolumeView]
    snapshots: list[SnapshotView]
    attachments: list[AttachmentView]


@dataclass(frozen=True, slots=True)
class Findings:
    """An error stands in the place of what could not be found out. target: None on a machine that uses another's."""

    resources: Resources | WeftError
    target: TargetReport | WeftError | None
    attached: Sequence[AttachedVolume]
    abandoned: Sequence[AttachedVolume]
    cannot_attach: str | None


@click.command(cls=Command, examples=("weft status", "weft status --json"))
@click.pass_obj
def status(session: Session) -> int:
    """Tell what runs here, which pools and volumes there are, what is attached here, and what is wrong.

    Exits with 0 when all is well, 9 when `weft serve` or the target does not answer, 1 when something else is
    wrong.
    """
    findings = _find(session)
    problems = _problems(findings)
    if session.json:
        session.output.shape(_shape(session, findings, problems))
    elif session.quiet:
        session.output.lines(problems)
    else:
        session.output.shape(_summary(session, findings))
        session.output.lines(
            ["", *(f"wrong: {each}" for each in problems)] if problems else ["", "all is well"]
        )
    if isinstance(findings.resources, WeftError) or isinstance(findings.target, WeftError):
        return ExitCode.UNAVAILABLE
    return ExitCode.FAILED if problems else ExitCode.OK


def _find(session: Session) -> Findings:
    return Findings(
        resources=_resources(session),
        target=_target(session),
        attached=session.connector.attached(),
        abandoned=session.connector.abandoned(),
        cannot_attach=session.connector.missing(),
    )


def _resources(session: Session) -> Resources | WeftError:
    client = session.client
    try:
        if client.own_token().scope is TokenScope.HOST:
            return Resources([], client.volumes(), [], client.attachments())
        return Resources(client.pools(), client.volumes(), client.snapshots(), client.attachments())
    except WeftError as error:
        return error


def _target(session: Session) -> TargetReport | WeftError | None:
    if session.login is not None:
        return None
    try:
        return ask_target(session.config)
    except WeftError as error:
        return error


def _problems(findings: Findings) -> list[str]:
    problems = [str(each) for each in (findings.resources, findings.target) if isinstance(each, WeftError)]
    if isinstance(findings.target, TargetReport):
        problems += [
            f"portal {each.portal} is not bound: {each.reason};"
            f" see that it is this machine's and free, or choose another in target.portals"
            for each in findings.target.portals
            if each.missed
        ]
    if isinstance(findings.resources, Resources):
        problems += _troubled(findings.resources)
    problems += [
        f"volume {each.volume_id} was attached as {each.path}, which is lost: attach it again, or detach it"
        for each in findings.abandoned
    ]
    return problems


def _troubled(resources: Resources) -> list[str]:
    """Whatever is in error, or has a reason why it is not yet as it was asked for."""
    names = {view.volume.id: view.volume.name for view in resources.volumes}
    found = [
        (f"pool {view.pool.name}", view.status is StateStatus.ERROR, view.status.value, view.reason)
        for view in resources.pools
    ]
    found += [
        (f"volume {view.volume.name}", view.status in _WRONG, view.status.value, view.reason)
        for view in resources.volumes
    ]
    found += [
        (f"snapshot {view.snapshot.name}", view.status in _WRONG, view.status.value, view.reason)
        for view in resources.snapshots
    ]
    found += [
        (
            f"the attachment of volume {names.get(view.attachment.volume_id, view.attachment.volume_id)}",
            view.status in _WRONG,
            view.status.value,
            view.reason,
        )
        for view in resources.attachments
    ]
    return [
        f"{what} is {state}" + (f": {reason}" if reason else "")
        for what, is_wrong, state, reason in found
        if is_wrong or reason
    ]


def _shape(session: Session, findings: Findings, problems: list[str]) -> Shape:
    resources = findings.resources if isinstance(findings.resources, Resources) else None
    names = {view.volume.id: view.volume.name for view in resources.volumes} if resources else {}
    return {
        "version": __version__,
        "config": str(session.config.source) if session.config.source is not None else None,
        "daemon": _daemon_shape(session, findings),
        "target": target_shape(findings.target)
        if isinstance(findings.target, TargetReport)
        else {"running": False, "reason": str(findings.target or "the volumes are another machine's")},
        "attaching": {"available": findings.cannot_attach is None, "reason": findings.cannot_attach or ""},
        "pools": _pool_shapes(resources.pools) if resources else None,
        "volumes": _count_shape([view.status.value for view in resources.volumes]) if resources else None,
        "snapshots": _count_shape([view.status.value for view in resources.snapshots]) if resources else None,
        "attachments": _count_shape([view.status.value for view in resources.attachments])
        if resources
        else None,
        "attached": [
            {"volume_id": each.volume_id, "name": names.get(each.volume_id), "path": str(each.path)}
            for each in findings.attached
        ],
        "problems": problems,
    }


def _daemon_shape(session: Session, findings: Findings) -> Shape:
    """url: where this machine was logged in to; socket and process are those of its own node.

    error: the kind of what is in the way, as a command that fails of it tells it; not_permitted asks for a new login.
    """
    where: dict[str, Value] = {
        "socket": str(session.config.api_socket),
        "listen": list(session.config.api.listen),
        "url": session.login.url if session.login is not None else None,
        "fingerprint": session.fingerprint,
    }
    if isinstance(findings.resources, WeftError):
        error = exit_code(findings.resources).kind
        return {"running": False, **where, "error": error, "reason": str(findings.resources)}
    process = find_daemon(session.config) if session.login is None else None
    return {"running": True, "pid": process.pid if process is not None else None, **where}


def _pool_shapes(pools: list[PoolView]) -> list[Value]:
    return [
        {
            "name": view.pool.name,
            "status": view.status.value,
            "total_bytes": view.total,
            "free_bytes": view.free,
            "booked_bytes": view.booked,
            "room_bytes": view.room,
        }
        for view in pools
    ]


def _count_shape(statuses: list[str]) -> Shape:
    return {"total": len(statuses), "by_status": dict(Counter(statuses))}


def _summary(session: Session, findings: Findings) -> Shape:
    """The same for a person, a line for each thing."""
    lines: dict[str, Value] = {
        "weft": f"{__version__} on {platform.node()}",
        "configuration": str(session.config.source or "the defaults"),
    }
    resources = findings.resources
    lines["daemon"] = _daemon_line(session, findings)
    if session.fingerprint is not None:
        lines["fingerprint"] = session.fingerprint
    if isinstance(findings.target, WeftError):
        lines["target"] = "does not answer"
    elif findings.target is not None:
        lines["target"] = f"{findings.target.name}, {_counted(findings.target.exports, 'export')}"
        lines["portals"] = [
            f"{each.portal} not bound" if each.missed else each.portal for each in findings.target.portals
        ]
    if isinstance(resources, Resources):
        lines["pools"] = [_pool_line(view) for view in resources.pools]
        lines["volumes"] = _counts([view.status.value for view in resources.volumes])
        lines["snapshots"] = _counts([view.status.value for view in resources.snapshots])
        lines["attachments"] = _counts([view.status.value for view in resources.attachments])
    lines["attached here"] = [str(each.path) for each in findings.attached] or "nothing"
    if findings.cannot_attach is not None:
        lines["attaching"] = (
            f"not here: {findings.cannot_attach}; `weft volume read` and `write` work all the same"
        )
    return lines


def _daemon_line(session: Session, findings: Findings) -> str:
    if session.login is not None:
        return f"{session.login.url} {'does not answer' if isinstance(findings.resources, WeftError) else 'answers'}"
    if isinstance(findings.resources, WeftError):
        return "does not answer"
    process = find_daemon(session.config)
    return f"runs, process {process.pid}" if process is not None else "runs"


def _pool_line(view: PoolView) -> str:
    return (
        f"{view.pool.name}: {view.status.value}, {format_size(view.room)} of {format_size(view.total)} can still be"
        f" promised"
    )


def _counts(statuses: list[str]) -> str:
    counted = ", ".join(f"{count} {status}" for status, count in sorted(Counter(statuses).items()))
    return counted or "none"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
