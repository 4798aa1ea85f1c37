"""`weft volume read` and `weft volume write`: a volume's bytes to and from files and pipes, also without FUSE."""

import fcntl
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import click

from weft.cli.admission import admit, withdraw
from weft.cli.commands import Command
from weft.cli.options import volume_names
from weft.cli.progress import progress
from weft.cli.resolve import find_volume
from weft.cli.session import Session
from weft.cli.sizes import byte_count
from weft.cli.waiting import Deadline, wait_option
from weft.embedded.host import Volume, VolumeOptions
from weft.errors import ConflictError, InvalidValueError
from weft.model import Volume as WantedVolume

_CHUNK = 4 * 2**20
_ZEROES = bytes(_CHUNK)

Step = Callable[[int], None]


@click.command(
    cls=Command,
    examples=("weft volume read data > data.img", "weft volume read data --offset 1MiB --length 4KiB | xxd"),
)
@click.argument("volume", shell_complete=volume_names)
@click.option(
    "--offset", type=byte_count, metavar="BYTES", default="0", help="Where to begin, bytes or such as 1MiB."
)
@click.option(
    "--length",
    type=byte_count,
    metavar="BYTES",
    help="How much, bytes or such as 1MiB. [default: to the end]",
)
@wait_option
@click.pass_obj
def read(session: Session, *, volume: str, offset: int, length: int | None, wait: float) -> None:
    """Copy VOLUME, or a part of it, to standard output.

    The volume is attached for the time of the copy, in this process alone: it needs neither root nor FUSE.
    """
    if sys.stdout.isatty():
        raise click.UsageError("a volume's bytes are not for a terminal; send them to a file or a pipe")
    with _opened(session, find_volume(session.client, volume).volume, wait) as opened:
        count = _checked_range(opened.size, offset, length)
        with progress(f"reading {volume}", count, shown=session.output.watched) as step:
            _read(opened, sys.stdout.buffer, offset, count, step)


@click.command(
    cls=Command,
    short_help="Copy standard input to VOLUME.",
    examples=("weft volume write data < data.img", "xz -dc data.img.xz | weft volume write data"),
)
@click.argument("volume", shell_complete=volume_names)
@click.option(
    "--offset", type=byte_count, metavar="BYTES", default="0", help="Where to begin, bytes or such as 1MiB."
)
@wait_option
@click.pass_obj
def write(session: Session, *, volume: str, offset: int, wait: float) -> None:
    """Copy standard input to VOLUME; what is behind its end stays as it is.

    The volume is attached for the time of the copy, in this process alone: it needs neither root nor FUSE. When the
    command ends well, everything is on stable storage.
    """
    if sys.stdin.isatty():
        raise click.UsageError("standard input is a terminal; give a file or a pipe")
    wanted = find_volume(session.client, volume).volume
    with _opened(session, wanted, wait) as opened:
        _checked_range(opened.size, offset, None)
        total = _remaining(sys.stdin.buffer)
        if total is not None and total > opened.size - offset:
            raise _too_much(opened.size, offset, f"{total} bytes are given, and nothing was written")
        with progress(f"writing {volume}", total, shown=session.output.watched) as step:
            written = _write(opened, sys.stdin.buffer, offset, step)
            opened.flush()
    session.output.result(
        {"volume_id": wanted.id, "offset": offset, "written_bytes": written},
        f"wrote {written} bytes to volume {wanted.name}",
    )


@contextmanager
def _opened(session: Session, wanted: WantedVolume, wait: float) -> Iterator[Volume]:
    """The volume, attached until the context ends."""
    connector, client = session.connector, session.client
    here = next((each for each in connector.attached() if each.volume_id == wanted.id), None)
    if here is not None:
        raise ConflictError(
            f"volume {wanted.name} is attached to this host: use {here.path}, or detach it first"
        )
    with session.output.busy(f"attaching volume {wanted.name}"):
        admission = admit(client, wanted, connector.initiator(), Deadline.after(wait), to_copy=True)
    try:
        options = VolumeOptions.of(session.config.host)
        with Volume.open(admission.connection, connector.identity(), options) as opened:
            yield opened
    finally:
        if admission.is_own:
            withdraw(client, admission.view, wanted, Deadline.after(wait))


def _checked_range(size: int, offset: int, length: int | None) -> int:
    """How many bytes are meant. Raises InvalidValueError for a range that is not within the volume."""
    if offset > size:
        raise InvalidValueError("--offset", f"{offset} is behind the volume's end at {size}")
    if length is not None and offset + length > size:
        raise InvalidValueError(
            "--length", f"{length} bytes from {offset} reach behind the volume's end at {size}"
        )
    return size - offset if length is None else length


def _remaining(source: BinaryIO) -> int | None:
    """What a file has left to read; None for a pipe."""
    found = os.fstat(source.fileno())
    return found.st_size - source.tell() if stat.S_ISREG(found.st_mode) else None


def _read(opened: Volume, target: BinaryIO, offset: int, count: int, step: Step) -> None:
    buffer = memoryview(bytearray(min(_CHUNK, count)))
    end = offset + count
    keeps_holes = _is_new_file(target)
    while offset < end:
        part = buffer[: min(_CHUNK, end - offset)]
        opened.readinto(offset, part)
        if keeps_holes and part == _ZEROES[: len(part)]:
            target.seek(len(part), os.SEEK_CUR)
        else:
            target.write(part)
        offset += len(part)
        step(len(part))
    if keeps_holes:
        target.truncate()
    target.flush()


def _is_new_file(target: BinaryIO) -> bool:
    """Whether what is not written to target reads back as zeroes: at the end of a regular file, not appended to."""
    try:
        found = os.fstat(target.fileno())
        appends = fcntl.fcntl(target.fileno(), fcntl.F_GETFL) & os.O_APPEND
        return stat.S_ISREG(found.st_mode) and not appends and target.tell() == found.st_size
    except OSError:
        return False


def _write(opened: Volume, source: BinaryIO, offset: int, step: Step) -> int:
    """Returns how many bytes were written. Raises InvalidValueError when there are more than fit."""
    begin, buffer = offset, bytearray(_CHUNK)
    while length := source.readinto(buffer):  # type: ignore[attr-defined]  # a buffered reader has it
        if offset + length > opened.size:
            opened.flush()
            raise _too_much(opened.size, begin, f"the first {offset - begin} bytes were written")
        if length == _CHUNK and buffer == _ZEROES:
            opened.write_zeroes(offset, length)  # a hole stays a hole
        else:
            opened.write(offset, memoryview(buffer)[:length])
        offset += length
        step(length)
    return offset - begin


def _too_much(size: int, offset: int, what: str) -> InvalidValueError:
    return InvalidValueError(
        "standard input",
        f"is longer than the {size - offset} bytes that the volume has from {offset} on; {what}",
    )
