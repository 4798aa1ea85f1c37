"""One volume as it is wanted and as it is found, with everything filled in that a test does not care about."""

from pathlib import Path

from fakes.rows import NOON, make_snapshot, make_volume
from fakes.target import PORTAL
from weft.connection import AttachmentState, NvmeofConnection
from weft.control.steps import WantedAttachment, WantedSnapshot
from weft.model import (
    GIB,
    Attachment,
    AttachmentId,
    ExportHost,
    FoundExport,
    FoundSnapshot,
    FoundVolume,
    Host,
    HostId,
    Initiator,
    Protocol,
    Snapshot,
    SnapshotState,
    StateStatus,
    VolumeState,
)
from weft.names import host_nqn, new_id, subsystem_nqn

VOLUME = make_volume(2 * GIB)
SNAPSHOT = make_snapshot(VOLUME)
PATH = Path("/pool/volume")
HERE = FoundVolume(id=VOLUME.id, size=2 * GIB, path=PATH)
KEPT = {SNAPSHOT.id: FoundSnapshot(id=SNAPSHOT.id, volume_id=VOLUME.id, size=2 * GIB, path=PATH)}


def make_host(name: str) -> Host:
    initiator = Initiator(port_name=host_nqn(new_id()), protocol=Protocol.NVMEOF)
    return Host(
        id=HostId(name), tenant_id=VOLUME.tenant_id, name=name, created_at=NOON, initiators=(initiator,)
    )


A, B = make_host("a"), make_host("b")


def let_in(*hosts: Host) -> tuple[ExportHost, ...]:
    return tuple(ExportHost(host_id=host.id, initiator=host.initiators[0].port_name) for host in hosts)


def state(
    status: StateStatus = StateStatus.AVAILABLE, *, generation: int = 1, size: int = 2 * GIB, reason: str = ""
) -> VolumeState:
    path = str(PATH) if size else ""
    return VolumeState(
        id=VOLUME.id, status=status, generation=generation, size=size, path=path, reason=reason
    )


def snapshot(
    status: StateStatus | None = StateStatus.AVAILABLE,
    *,
    wanted: Snapshot = SNAPSHOT,
    generation: int = 1,
) -> WantedSnapshot:
    if status is None:
        return WantedSnapshot(wanted, None)
    found = SnapshotState(
        id=wanted.id,
        volume_id=VOLUME.id,
        status=status,
        generation=generation,
        size=2 * GIB,
        path=str(PATH),
    )
    return WantedSnapshot(wanted, found)


def connection(host: Host) -> NvmeofConnection:
    return NvmeofConnection(
        volume_id=VOLUME.id,
        nqn=subsystem_nqn(VOLUME.id),
        portals=(PORTAL,),
        host_nqn=host.initiators[0].port_name,
    )


def attachment(
    host: Host, *, deleting: bool = False, connected: bool = True, known: bool = True
) -> WantedAttachment:
    """An attachment of a host; connected: the node has told it its connection; known: the host has a row."""
    wanted = Attachment(
        id=AttachmentId(f"to {host.id}"),
        volume_id=VOLUME.id,
        host_id=host.id,
        tenant_id=VOLUME.tenant_id,
        created_at=NOON,
        deleting=deleting,
        generation=2 if deleting else 1,
    )
    found = AttachmentState(
        id=wanted.id,
        volume_id=VOLUME.id,
        status=StateStatus.AVAILABLE,
        generation=1,
        connection=connection(host),
    )
    return WantedAttachment(wanted, found if connected else None, host if known else None)


def export(*hosts: Host, size: int = 2 * GIB, complete: bool = True, path: Path = PATH) -> FoundExport:
    return FoundExport(
        volume_id=VOLUME.id,
        path=path,
        size=size,
        initiators=frozenset(host.initiators[0].port_name for host in hosts),
        portals=(str(PORTAL),) if complete else (),
        complete=complete,
    )
