"""The process that shows one volume as a file: `python -m weft.embedded.host.fuse_process RECORD`.

Started by the connector, it serves until the mount is gone, then flushes, leaves the target and ends. It never
touches its own mount: a process that waits for itself there could not even be killed.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Final

from weft.embedded.host.attachment import Attachment, AttachmentFiles
from weft.embedded.host.fuse import MOUNT_OPTIONS, VolumeOperations, load_mfusepy
from weft.embedded.host.fuse_control import ControlServer, Flush, Ready, Refresh, Request
from weft.embedded.host.volume import Volume
from weft.errors import UnavailableError, UnsupportedError, WeftError
from weft.logs import configure_logging

_log = logging.getLogger(__name__)

_RECORD_TIMEOUT: Final = 10.0
_TELL_TIMEOUT: Final = 10.0
_READY_TIMEOUT: Final = 60.0
_POLL: Final = 0.01
_LOG_TAIL: Final = 4096


class _Service:
    """Answers the connector."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._volume: Volume | None = None
        self._mounted = False
        self._failure: WeftError | None = None

    def opened(self, volume: Volume) -> None:
        with self._changed:
            self._volume = volume

    def mounted(self) -> None:
        with self._changed:
            self._mounted = True
            self._changed.notify_all()

    def failed(self, error: WeftError) -> None:
        with self._changed:
            self._failure = error
            self._changed.notify_all()

    def answer(self, request: Request) -> int:
        volume = self._ready()
        match request:
            case Ready():
                return volume.size
            case Flush():
                if volume.unflushed:
                    volume.flush()
                return volume.size
            case Refresh():
                return volume.refresh()

    def _ready(self) -> Volume:
        with self._changed:
            self._changed.wait_for(lambda: self._mounted or self._failure, _READY_TIMEOUT)
            if self._failure is not None:
                raise self._failure
            if self._volume is None or not self._mounted:
                raise UnavailableError("the volume is not mounted yet")
            return self._volume


def main(record: Path) -> int:
    """Serve the attachment that the record describes; the exit code."""
    files = AttachmentFiles.of_record(record)
    try:
        attachment = _own_attachment(files)
    except WeftError as error:
        _log.error("%s", error)
        return 1
    service = _Service()
    control = ControlServer(files.socket, service.answer)
    control.start()
    try:
        _serve(files, attachment, service)
    except WeftError as error:
        _log.error("%s", error)
        service.failed(error)
        control.drain(_TELL_TIMEOUT)
        return 1
    finally:
        service.failed(UnavailableError("the mount is gone"))
        control.stop()
        _clean_up(files)
    return 0


def _own_attachment(files: AttachmentFiles) -> Attachment:
    """The attachment once its record names this process. Who started us writes it; if it died first, we end too."""
    deadline = time.monotonic() + _RECORD_TIMEOUT
    while time.monotonic() < deadline:
        attachment = files.read()
        if attachment is not None and attachment.process.pid == os.getpid():
            return attachment
        time.sleep(_POLL)
    raise UnavailableError(f"{files.record} does not name this process")


def _serve(files: AttachmentFiles, attachment: Attachment, service: _Service) -> None:
    try:
        mfusepy = load_mfusepy()
    except (ImportError, OSError, AttributeError) as error:
        raise UnsupportedError(f"libfuse 3 cannot be loaded: {error}") from None
    volume = Volume.open(attachment.connection, attachment.identity, attachment.options)
    try:
        service.opened(volume)
        operations = VolumeOperations(volume, service.mounted)
        mfusepy.FUSE(
            operations,
            str(files.mountpoint),
            foreground=True,
            allow_other=attachment.allow_other,
            **MOUNT_OPTIONS,
        )
    except RuntimeError as error:
        raise UnavailableError(
            f"the mount of {files.mountpoint} failed: {_last_words(files, error)}"
        ) from None
    finally:
        _close(volume, files)


def _close(volume: Volume, files: AttachmentFiles) -> None:
    """Nobody else is left to be told of a failure but who detaches, and that is through a file."""
    try:
        volume.close()
    except WeftError as error:
        _log.error("%s", error)
        files.failure.write_text(f"{error}\n", encoding="utf-8")


def _last_words(files: AttachmentFiles, error: RuntimeError) -> str:
    """What libfuse has printed; its exit code alone says little."""
    sys.stderr.flush()
    with contextlib.suppress(OSError):
        lines = files.log.read_bytes()[-_LOG_TAIL:].decode(errors="replace").splitlines()
        if lines:
            return lines[-1]
    return f"libfuse gave {error}"


def _clean_up(files: AttachmentFiles) -> None:
    """Leave nothing behind when the mount was taken away by hand; otherwise who detaches does that."""
    with contextlib.suppress(WeftError, OSError), files.locked(0):
        attachment = files.read()
        if attachment is not None and attachment.process.pid == os.getpid() and not files.failure.exists():
            files.remove()


if __name__ == "__main__":
    configure_logging("info", limited=True)
    sys.exit(main(Path(sys.argv[1])))
