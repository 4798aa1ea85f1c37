"""`weft boot`: what this host's systemd units run when it comes up and when it goes down."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import click

from weft.cli.attach import attach_volume
from weft.cli.commands import Group
from weft.cli.session import Session
from weft.cli.waiting import Deadline
from weft.connectors.block_device import BlockDevice
from weft.connectors.unreachable import called_unreachable
from weft.errors import NotFoundError, UnavailableError, WeftError
from weft.model import Transport, VolumeId
from weft.names import check_id
from weft.ports import AttachedVolume, Connector
from weft.run import Daemon, start_daemon

_PAUSE: Final = 2.0
_UNMOUNT: Final = 30.0
_POLL: Final = 0.1
_AT_ONCE: Final = 8
_NOWHERE: Final = Path("/dev/null")


@click.group(cls=Group, examples=("weft boot give-up",))
def boot() -> None:
    """What the units of `weft install-units --host` run when this host comes up and goes down.

    By hand `weft attach` and `weft detach` are better: these leave the node's attachments as they are.
    """


@boot.command(
    "attach",
    short_help="Attach a volume, trying until it works.",
    examples=("weft boot attach 5fd8be8a-4b1a-4e9c-9fb8-4b9f3a2d7c11",),
)
@click.argument("volume_id", metavar="ID")
@click.option(
    "--within",
    type=click.FloatRange(0, 86400),
    default=100.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to try.",
)
@click.pass_obj
def attach(session: Session, *, volume_id: str, within: float) -> None:
    """Attach the volume of this ID, trying until it works: its node may come up later than this host."""
    check_id("volume", volume_id)
    deadline, said = Deadline.after(within), ""
    while True:
        try:
            attached = attach_volume(session, volume_id, deadline)
        except NotFoundError:
            raise
        except WeftError as error:
            if deadline.left <= _PAUSE:
                raise
            if str(error) != said:
                said = str(error)
                session.output.note(f"{said}; it is tried again")
            time.sleep(_PAUSE)
        else:
            session.output.lines([str(attached.path)])
            return


@boot.command("detach", short_help="Detach volumes from this host for now.", examples=("weft boot detach",))
@click.argument("volume_id", metavar="[ID]", required=False)
@click.option(
    "--within",
    type=click.FloatRange(0, 600),
    default=35.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for volumes that are in use.",
)
@click.pass_obj
def detach(session: Session, *, volume_id: str | None, within: float) -> None:
    """Flush and detach the volume of this ID, or all, without taking its attachment from the node.

    A volume in use is waited for, for something may be unmounting it. One whose node does not answer is given up.
    Without an ID the machine goes down, and the network with it: what is still mounted from a volume is unmounted.
    """
    wanted = [each for each in _held(session.connector) if volume_id in {None, each.volume_id}]
    deadline = Deadline.after(within)
    detach_one = partial(_detach_patiently, session.connector, deadline, unmount=volume_id is None)
    failures = _for_each(wanted, detach_one)
    _report(session, wanted, failures, "detached")


@boot.command(
    "give-up", short_help="Give up volumes whose node is dead.", examples=("weft boot give-up --within 5",)
)
@click.option(
    "--within",
    type=click.FloatRange(0, 600),
    default=12.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for an answer.",
)
@click.pass_obj
def give_up(session: Session, *, within: float) -> None:
    """Detach by force what has not answered a read within some seconds: its users get an error and can end.

    What was written to such a volume and not flushed is lost. Volumes that answer are left alone.
    """
    dead = _silent([each for each in _held(session.connector) if _is_device(each)], within)
    with called_unreachable(_rdma_addresses(dead)):
        failures = _for_each(dead, lambda each: session.connector.detach(each.connection, force=True))
    _report(session, dead, failures, "given up")


def _rdma_addresses(volumes: Sequence[AttachedVolume]) -> set[str]:
    portals = [portal for each in volumes for portal in each.connection.portals]
    return {each.address for each in portals if each.transport is Transport.RDMA}


def _held(connector: Connector) -> list[AttachedVolume]:
    return [*connector.attached(), *connector.abandoned()]


def _detach_patiently(
    connector: Connector, deadline: Deadline, volume: AttachedVolume, *, unmount: bool
) -> None:
    while True:
        try:
            if unmount and _is_device(volume):
                BlockDevice(name=volume.path.name, node=volume.path).unmount(_UNMOUNT)
            connector.detach(volume.connection)
        except (
            UnavailableError
        ):  # of a volume whose node was alive a moment ago, or it would have been given up
            connector.detach(volume.connection, force=True)
            return
        except WeftError:
            if deadline.left <= _PAUSE:
                raise
            time.sleep(_PAUSE)
        else:
            return


def _is_device(volume: AttachedVolume) -> bool:
    return volume.path.is_relative_to("/dev")


def _silent(volumes: Sequence[AttachedVolume], within: float) -> list[AttachedVolume]:
    """Those of which a block cannot be read in time. By processes, for nothing ends one that waits for a dead target."""
    deadline = Deadline.after(within)
    asked = {each.volume_id: (each, _read_one_block(each.path)) for each in volumes}
    silent = dict(asked)
    while silent and deadline.left > 0:
        silent = {
            key: (volume, process) for key, (volume, process) in silent.items() if process.exit_code() != 0
        }
        time.sleep(_POLL if silent else 0)
    for _, process in silent.values():
        process.kill()
    return [volume for volume, _ in silent.values()]


def _read_one_block(device: Path) -> Daemon:
    argv = ["dd", f"if={device}", "of=/dev/null", "iflag=direct", "bs=4096", "count=1", "status=none"]
    return start_daemon(argv, log=_NOWHERE)


def _for_each(
    volumes: Sequence[AttachedVolume], verb: Callable[[AttachedVolume], None]
) -> dict[VolumeId, WeftError]:
    """Do it for several at once; what went wrong, by volume."""
    failures: dict[VolumeId, WeftError] = {}

    def do(volume: AttachedVolume) -> None:
        try:
            verb(volume)
        except WeftError as error:
            failures[volume.volume_id] = error

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(do, volumes))
    return failures


def _report(
    session: Session, volumes: Sequence[AttachedVolume], failures: Mapping[VolumeId, WeftError], what: str
) -> None:
    """Raises the only failure, or one for all of them."""
    done = [each.volume_id for each in volumes if each.volume_id not in failures]
    session.output.result({"volumes": done}, f"{what}: {', '.join(done) or 'no volume'}")
    if len(failures) == 1:
        raise next(iter(failures.values()))
    if failures:
        raise WeftError(
            f"{len(failures)} volumes stay attached: {'; '.join(str(each) for each in failures.values())}"
        )
