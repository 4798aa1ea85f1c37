"""What the target keeps on disk: one JSON file per export, so that it restores itself after any crash."""

import logging
import os
from pathlib import Path
from typing import Final

import msgspec

from weft.embedded.dhchap import keys_of
from weft.errors import InvalidValueError
from weft.model import DhChapSecrets, Export, ExportHost, HostId, VolumeId
from weft.names import check_id, check_nqn

_log = logging.getLogger(__name__)

RECORD_VERSION: Final = 1
_TEMPORARY: Final = ".new"


class HostRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A host that the export lets in, by its NQN. With secrets it must authenticate."""

    host_id: str
    nqn: str
    secrets: DhChapSecrets | None = None


class ExportRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An export as it rests on disk. size is bytes; generation grows with every change of the export."""

    version: int = RECORD_VERSION
    generation: int
    volume_id: str
    path: str
    size: int
    hosts: tuple[HostRecord, ...]

    def export(self) -> Export:
        return Export(
            volume_id=VolumeId(self.volume_id),
            path=Path(self.path),
            size=self.size,
            hosts=tuple(
                ExportHost(host_id=HostId(each.host_id), initiator=each.nqn, secrets=each.secrets)
                for each in self.hosts
            ),
        )


def record_of(export: Export, generation: int) -> ExportRecord:
    return ExportRecord(
        generation=generation,
        volume_id=export.volume_id,
        path=str(export.path),
        size=export.size,
        hosts=tuple(HostRecord(each.host_id, each.initiator, each.secrets) for each in export.hosts),
    )


def check_export(export: Export) -> None:
    """Raises InvalidValueError naming the field that cannot be exported so."""
    check_id("volume_id", export.volume_id)
    if not export.path.is_absolute():
        raise InvalidValueError("path", f"{export.path} is not absolute")
    if export.size <= 0:
        raise InvalidValueError("size", f"must be more than 0 bytes, not {export.size}")
    for host in export.hosts:
        check_nqn("hosts", host.initiator)
        if host.secrets is not None:
            keys_of(host.secrets, host.initiator)


class ExportRecords:
    """The directory of records. Used by one process at a time, under the target's lock."""

    def __init__(self, target_dir: Path) -> None:
        self._directory = target_dir / "exports"
        self._aside = target_dir / "damaged"
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def load(self) -> list[ExportRecord]:
        """All records. A file that is not a whole record is logged and moved aside."""
        found = []
        for path in sorted(self._directory.iterdir()):
            if path.name.endswith(_TEMPORARY):  # a crash came before it took its place
                path.unlink()
                continue
            record = self._read(path)
            if record is not None:
                found.append(record)
        return found

    def save(self, record: ExportRecord) -> None:
        """Replace the record; when this returns it survives a crash of the machine."""
        path = self._path(record.volume_id)
        temporary = path.with_name(path.name + _TEMPORARY)
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._sync_directory()

    def remove(self, volume_id: VolumeId) -> None:
        """Forget the record; one that is not there stays so."""
        self._path(volume_id).unlink(missing_ok=True)
        self._sync_directory()

    def _path(self, volume_id: str) -> Path:
        return self._directory / f"{volume_id}.json"

    def _read(self, path: Path) -> ExportRecord | None:
        try:
            record = msgspec.json.decode(path.read_bytes(), type=ExportRecord)
            if path != self._path(record.volume_id):
                raise InvalidValueError("volume_id", f"{record.volume_id!r} is not what the file is named by")
            if record.version != RECORD_VERSION:
                raise InvalidValueError("version", f"{record.version} is not one that this weft reads")
            check_export(record.export())
        except (OSError, msgspec.DecodeError, InvalidValueError) as error:
            self._set_aside(path, error)
            return None
        return record

    def _set_aside(self, path: Path, error: Exception) -> None:
        self._aside.mkdir(mode=0o700, exist_ok=True)
        kept = self._aside / path.name
        try:
            path.replace(kept)
        except OSError as failed:
            _log.error("the export record %s is damaged (%s) and cannot be moved: %s", path, error, failed)
            return
        _log.error("the export record %s is damaged (%s); it is kept as %s", path, error, kept)

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
