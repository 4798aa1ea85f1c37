"""What the kernel has been told to attach: one small file for each volume, so that an attachment is known when it is lost.

The kernel's own state is the truth about what is attached; a record says what was meant. It holds no keys. It lies
in the runtime directory, which a restart of the machine empties, as it does the kernel.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from weft.connection import NvmeofConnection, from_data, to_data
from weft.embedded.host.attachment import AttachmentFiles
from weft.errors import UnavailableError, WeftError
from weft.model import VolumeId
from weft.private import read_private, write_private

_SUFFIX: Final = ".connection"
_WHAT: Final = "the record of an attached volume"


@dataclass(frozen=True, slots=True)
class Records:
    """The records in one directory, beside those of volumes that are attached through FUSE."""

    directory: Path

    def locked(self, volume_id: VolumeId, timeout: float) -> contextlib.AbstractContextManager[None]:
        """Keep everybody else from attaching or detaching the volume, through the kernel or through FUSE.

        Raises UnavailableError if somebody still does so after timeout seconds.
        """
        return AttachmentFiles(self.directory, volume_id).locked(timeout)

    def read(self, volume_id: VolumeId) -> NvmeofConnection | None:
        """None if there is no record, or a damaged one: the kernel tells the rest."""
        try:
            content = read_private(self._path(volume_id), _WHAT)
            return (
                None if content is None else from_data(msgspec.json.decode(content, type=dict[str, object]))
            )
        except (msgspec.MsgspecError, UnicodeDecodeError, WeftError):
            return None

    def write(self, connection: NvmeofConnection) -> None:
        """Raises DataError when it cannot be written."""
        data = to_data(replace(connection, secrets=None))
        write_private(self._path(connection.volume_id), msgspec.json.encode(data), _WHAT)

    def remove(self, volume_id: VolumeId) -> None:
        """Raises UnavailableError when it stays."""
        try:
            self._path(volume_id).unlink(missing_ok=True)
        except OSError as error:
            raise UnavailableError(f"{error.filename} cannot be removed: {error.strerror}") from None

    def all(self) -> Iterator[NvmeofConnection]:
        try:
            paths = sorted(self.directory.glob(f"*{_SUFFIX}"))
        except OSError:
            return
        for path in paths:
            found = self.read(VolumeId(path.stem))
            if found is not None:
                yield found

    def _path(self, volume_id: VolumeId) -> Path:
        return self.directory / f"{volume_id}{_SUFFIX}"
