"""NVMe/TCP in user space: a volume becomes a file, through FUSE and the embedded host."""

import contextlib
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Final

from weft.config import Config
from weft.connection import Connection
from weft.embedded.host.attachment import Attachment, AttachmentFiles
from weft.embedded.host.fuse import missing_for_fuse
from weft.embedded.host.fuse_control import Flush, Ready, Refresh, ask
from weft.embedded.host.identity import load_identity
from weft.embedded.host.mounts import is_mounted, unmount
from weft.embedded.host.options import VolumeOptions
from weft.embedded.host.process import ProcessIdentity, find_process
from weft.errors import (
    ConflictError,
    DataError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
    WeftError,
)
from weft.model import HostIdentity, Initiator, Protocol, VolumeId
from weft.names import check_id
from weft.run import Daemon, start_daemon

_log = logging.getLogger(__name__)

_PROCESS: Final = "weft.embedded.host.fuse_process"
_LOCK_TIMEOUT: Final = 60.0
_ATTACH_TIMEOUT: Final = 60.0
_ANSWER_TIMEOUT: Final = 10.0
_FLUSH_TIMEOUT: Final = 30.0
_HURRIED_FLUSH_TIMEOUT: Final = 3.0
_END_TIMEOUT: Final = 60.0
_HURRIED_END_TIMEOUT: Final = 2.0
_POLL: Final = 0.02

_started: Final[dict[int, Daemon]] = {}
"""Processes started by this one, which must take their exit codes away. By process id."""


class NvmeofUserConnector:
    """Attaches volumes as files below config.attached_dir, one process for each. Safe beside other processes."""

    def __init__(self, config: Config, *, allow_other: bool = False) -> None:
        """allow_other: let root and other users see the mount; ordinary users need user_allow_other in /etc/fuse.conf."""
        self._config = config
        self._allow_other = allow_other
        self._identity: HostIdentity | None = None

    def initiator(self) -> Initiator:
        """This host's NQN. Raises DataError or InvalidValueError when its identity is damaged."""
        return Initiator(port_name=self.identity().nqn, protocol=Protocol.NVMEOF)

    def identity(self) -> HostIdentity:
        """This host's NQN and identifier; made once if there were none."""
        if self._identity is None:
            self._identity = load_identity(self._config)
        return self._identity

    def attach(self, connection: Connection) -> Path:
        """Show the volume as a file; returns its path. An attached volume stays as it is.

        Raises UnsupportedError when FUSE cannot be used here, ConflictError when the volume is attached in another way,
        and what Volume.open raises when the volume cannot be opened. After an error nothing is left behind.
        """
        files = self._files(connection.volume_id)
        _reap()
        with files.locked(_LOCK_TIMEOUT):
            attachment = _read(files)
            if attachment is not None and attachment.process.alive() and is_mounted(files.mountpoint):
                return _check_same(attachment, connection)
            reason = missing_for_fuse()
            if reason is not None:
                raise UnsupportedError(
                    f"volume {connection.volume_id} cannot be shown as a file here: {reason}"
                )
            lost = _take_away(files, attachment)
            if lost:
                _log.warning("bytes written to volume %s before may be lost: %s", files.volume_id, lost)
            return self._start(files, connection)

    def extend(self, connection: Connection) -> int:
        """Ask the target how large the volume is; returns the size that the file has now, in bytes."""
        files = self._files(connection.volume_id)
        attachment = _read(files)
        if attachment is None or not attachment.process.alive():
            raise NotFoundError(f"volume {connection.volume_id} is not attached to this host")
        return ask(files.socket, Refresh(), _ANSWER_TIMEOUT).size

    def detach(self, connection: Connection, *, force: bool = False) -> None:
        """Flush, unmount, and wait until the process has ended; nothing if the volume is not attached.

        Raises ConflictError naming who has the file open, and UnavailableError when the target does not take what was
        written: the volume is attached then as before. force: take it away even so; what was not flushed may be lost.
        """
        files = self._files(connection.volume_id)
        _reap()
        if not files.leftovers():
            return
        with files.locked(_LOCK_TIMEOUT):
            attachment = _read(files)
            if attachment is not None and attachment.process.alive() and is_mounted(files.mountpoint):
                _flush(files, attachment.process, force=force)
            lost = _take_away(files, attachment, force=force)
        if lost and not force:
            raise DataError(
                f"volume {connection.volume_id} is detached, but its last bytes may be lost: {lost}"
            )

    def attached(self) -> list[Attachment]:
        """What is attached to this host, by this user, whose process lives. Damaged records are passed over."""
        return [each for each in self._recorded() if each.process.alive()]

    def abandoned(self) -> list[Attachment]:
        """What was attached by processes that have died since; attach makes it anew, detach clears it away."""
        return [each for each in self._recorded() if not each.process.alive()]

    def _recorded(self) -> list[Attachment]:
        try:
            records = sorted(self._config.attached_dir.glob("*.json"))
        except OSError:
            return []
        found = (_read(AttachmentFiles.of_record(record)) for record in records)
        return [each for each in found if each is not None]

    def missing(self) -> str | None:
        """Why attach cannot work here, as a clause for a person, or None if nothing is in the way."""
        return missing_for_fuse()

    def _files(self, volume_id: VolumeId) -> AttachmentFiles:
        check_id("volumeId", volume_id)  # it becomes a file name
        return AttachmentFiles(self._config.attached_dir, volume_id)

    def _start(self, files: AttachmentFiles, connection: Connection) -> Path:
        try:
            _make_mountpoint(files.mountpoint)
            daemon = start_daemon(
                [sys.executable, "-P", "-m", _PROCESS, str(files.record)],
                log=files.log,
            )
            _started[daemon.pid] = daemon
            process = ProcessIdentity.of(daemon.pid)
            if process is None:
                raise UnavailableError(_died(files))
            files.write(
                connection,
                self.identity(),
                VolumeOptions.of(self._config.host),
                process,
                allow_other=self._allow_other,
            )
            _wait_until_ready(files, process)
        except BaseException:
            with contextlib.suppress(WeftError):
                _take_away(files, _read(files), force=True)
            raise
        return files.path


def _read(files: AttachmentFiles) -> Attachment | None:
    """The record; a damaged one counts as none, its process is found in another way."""
    try:
        return files.read()
    except DataError:
        return None


def _make_mountpoint(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700)
    except OSError as error:
        raise UnavailableError(
            f"{directory} cannot be made to show the volume in: {error.strerror}"
        ) from error


def _check_same(attachment: Attachment, connection: Connection) -> Path:
    if attachment.connection.nqn != connection.nqn:
        raise ConflictError(
            f"volume {connection.volume_id} is attached already as {attachment.connection.nqn}: detach it first"
        )
    ask(AttachmentFiles(attachment.path.parent.parent, attachment.volume_id).socket, Ready(), _ANSWER_TIMEOUT)
    return attachment.path


def _wait_until_ready(files: AttachmentFiles, process: ProcessIdentity) -> None:
    deadline = time.monotonic() + _ATTACH_TIMEOUT
    while not files.socket.exists():
        if not process.alive():
            raise UnavailableError(_died(files))
        if time.monotonic() >= deadline:
            raise UnavailableError(f"the process for volume {files.volume_id} did not start in time")
        time.sleep(_POLL)
    ask(files.socket, Ready(), max(1.0, deadline - time.monotonic()))
    if not is_mounted(files.mountpoint):
        raise UnavailableError(f"{files.mountpoint} was not mounted")


def _died(files: AttachmentFiles) -> str:
    with contextlib.suppress(OSError):
        lines = files.log.read_text(encoding="utf-8", errors="replace").splitlines()
        if lines:
            return f"the process for volume {files.volume_id} ended at once: {lines[-1]}"
    return f"the process for volume {files.volume_id} ended at once"


def _flush(files: AttachmentFiles, process: ProcessIdentity, *, force: bool) -> None:
    try:
        ask(files.socket, Flush(), _HURRIED_FLUSH_TIMEOUT if force else _FLUSH_TIMEOUT)
    except WeftError as error:
        if force or _ends(process):  # whose process was killed can be flushed by nobody
            return
        raise UnavailableError(
            f"volume {files.volume_id} cannot be flushed, so it stays attached: {error} (detaching it with "
            "--force gives up what was not flushed)"
        ) from error


def _ends(process: ProcessIdentity) -> bool:
    try:
        process.wait(_HURRIED_END_TIMEOUT)
    except UnavailableError:
        return False
    return True


def _take_away(files: AttachmentFiles, attachment: Attachment | None, *, force: bool = False) -> str:
    """Unmount, wait for the process, remove the files; says what may be lost, or nothing. Holds the lock."""
    process = attachment.process if attachment is not None else find_process(_PROCESS, str(files.record))
    unmount(files.mountpoint, lazy=force)
    if process is not None:
        _end(process, force=force)
        unmount(files.mountpoint, lazy=force)  # it may have mounted in between, before it was ended
    lost = ""
    with contextlib.suppress(FileNotFoundError):
        lost = files.failure.read_text(encoding="utf-8").strip()
    files.remove()
    return lost


def _end(process: ProcessIdentity, *, force: bool) -> None:
    """The process ends by itself once its mount is gone."""
    daemon = _started.pop(process.pid, None)
    try:
        try:
            _wait(process, daemon, _HURRIED_END_TIMEOUT if force else _END_TIMEOUT)
        except UnavailableError:
            if not force:
                raise
            process.send(signal.SIGKILL)
            _wait(process, daemon, _END_TIMEOUT)
    except BaseException:
        if daemon is not None:
            _started[process.pid] = daemon
        raise


def _reap() -> None:
    """Take the exit codes of processes that ended by themselves."""
    for pid, daemon in list(_started.items()):
        if daemon.exit_code() is not None:
            _started.pop(pid, None)


def _wait(process: ProcessIdentity, daemon: Daemon | None, timeout: float) -> None:
    process.wait(timeout)
    if daemon is not None:
        daemon.wait(timeout)
