"""What this host has attached through FUSE: one directory, one record and one control socket for each volume.

    <attached_dir>/<volume id>/volume     the file; its directory is the mount point
    <attached_dir>/<volume id>.json       the record: who serves the mount, and what it is connected to
    <attached_dir>/<volume id>.sock       where the serving process answers
    <attached_dir>/<volume id>.log        what it has to say
    <attached_dir>/<volume id>.failed     why the last bytes may be lost: the process could not flush at its end
    <attached_dir>/<volume id>.lock       held by whoever attaches or detaches

The record is the authority: a process that it does not name must not mount.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from weft.connection import NvmeofConnection, from_data, to_data
from weft.described import described
from weft.embedded.host.options import VolumeOptions
from weft.embedded.host.process import ProcessIdentity
from weft.errors import DataError, UnavailableError, WeftError
from weft.model import HostIdentity, VolumeId

FILE_NAME: Final = "volume"
_LOCK_POLL: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """One attached volume. path is the file that shows it."""

    connection: NvmeofConnection
    identity: HostIdentity
    options: VolumeOptions
    process: ProcessIdentity
    attached_at: datetime
    allow_other: bool
    path: Path

    @property
    def volume_id(self) -> VolumeId:
        return self.connection.volume_id


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    connection: dict[str, object]
    identity: HostIdentity
    options: VolumeOptions
    process: ProcessIdentity
    attached_at: datetime
    allow_other: bool


@dataclass(frozen=True, slots=True)
class AttachmentFiles:
    """The files of one volume in the directory of attachments."""

    directory: Path
    volume_id: VolumeId

    @property
    def mountpoint(self) -> Path:
        return self.directory / self.volume_id

    @property
    def path(self) -> Path:
        return self.mountpoint / FILE_NAME

    @property
    def record(self) -> Path:
        return self.directory / f"{self.volume_id}.json"

    @property
    def _new_record(self) -> Path:
        return self.record.with_suffix(".json.new")

    @property
    def socket(self) -> Path:
        return self.directory / f"{self.volume_id}.sock"

    @property
    def log(self) -> Path:
        return self.directory / f"{self.volume_id}.log"

    @property
    def failure(self) -> Path:
        return self.directory / f"{self.volume_id}.failed"

    @classmethod
    def of_record(cls, record: Path) -> "AttachmentFiles":
        return cls(record.parent, VolumeId(record.stem))

    def read(self) -> Attachment | None:
        """The attachment; None if there is no record. Raises DataError for a damaged one."""
        try:
            text = self.record.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"{self.record} cannot be read: {error.strerror}") from None
        try:
            record = msgspec.json.decode(text, type=described(_Record))
            connection = from_data(record.connection)
        except (msgspec.MsgspecError, UnicodeDecodeError, WeftError) as error:
            raise DataError(f"{self.record} is damaged: {error}") from None
        if connection.volume_id != self.volume_id:
            raise DataError(f"{self.record} is damaged: it is about volume {connection.volume_id}")
        return Attachment(
            connection=connection,
            identity=record.identity,
            options=record.options,
            process=record.process,
            attached_at=record.attached_at,
            allow_other=record.allow_other,
            path=self.path,
        )

    def write(
        self,
        connection: NvmeofConnection,
        identity: HostIdentity,
        options: VolumeOptions,
        process: ProcessIdentity,
        *,
        allow_other: bool,
    ) -> None:
        """Replace the record, atomically and with mode 0600. Holds the lock."""
        record = _Record(
            connection=to_data(connection),
            identity=identity,
            options=options,
            process=process,
            attached_at=datetime.now(UTC),
            allow_other=allow_other,
        )
        self._new_record.unlink(missing_ok=True)
        descriptor = os.open(self._new_record, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(record))
            self._new_record.replace(self.record)
        except BaseException:
            self._new_record.unlink(missing_ok=True)
            raise

    def remove(self) -> None:
        """Take everything away but the lock; the mount must be gone. The record goes last: what is left is found.

        Raises UnavailableError naming what stays.
        """
        try:
            with contextlib.suppress(FileNotFoundError):
                self.mountpoint.rmdir()
            for path in (
                self.socket,
                self.socket.with_suffix(".sock.new"),
                self.log,
                self.failure,
                self._new_record,
                self.record,
            ):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise UnavailableError(f"{error.filename} cannot be removed: {error.strerror}") from None

    def leftovers(self) -> bool:
        """Whether anything of this volume is there."""
        return any(os.path.lexists(path) for path in (self.record, self.mountpoint, self.socket, self.log))

    @contextlib.contextmanager
    def locked(self, timeout: float) -> Iterator[None]:
        """Keep everybody else from attaching or detaching this volume.

        Raises UnavailableError if somebody still does so after timeout seconds.
        """
        lock = self.directory / f"{self.volume_id}.lock"
        descriptor = _take_lock(lock, timeout)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)  # before it is let go: who gets a removed file tries anew
            os.close(descriptor)


def _take_lock(path: Path, timeout: float) -> int:
    deadline = time.monotonic() + timeout
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, descriptor):
                return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise UnavailableError(
                    f"another command has been attaching or detaching volume {path.stem} for {timeout:g} s"
                ) from None
            time.sleep(_LOCK_POLL)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        there, held = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)
