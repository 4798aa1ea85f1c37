"""What weft knows about: volumes, snapshots, hosts, attachments, exports, pools, profiles.

Two kinds of rows describe each resource. The *wanted* row (Volume, Snapshot, Attachment) is intent, written by
the service. The *state* row (VolumeState, ...) is what the node found or did, written by the node. Every change of
intent raises the wanted row's generation; the node copies the generation it has dealt with into the state row, so
a resource is settled when the two are equal.

Sizes are bytes, times are UTC, ids are lower-case UUIDs.
"""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import NewType

VolumeId = NewType("VolumeId", str)
SnapshotId = NewType("SnapshotId", str)
AttachmentId = NewType("AttachmentId", str)
HostId = NewType("HostId", str)
PoolId = NewType("PoolId", str)
ProfileId = NewType("ProfileId", str)
NodeId = NewType("NodeId", str)
TenantId = NewType("TenantId", str)

GIB = 2**30


class Protocol(StrEnum):
    """How a host reaches a volume; the strings are OpenSDS's."""

    ISCSI = "iscsi"
    NVMEOF = "nvmeof"
    RBD = "rbd"
    FIBRE_CHANNEL = "fibre_channel"


class InitiatorKey(StrEnum):
    """The names under which a connector tells who its host is; the strings are OpenSDS's."""

    IQN = "iqn"
    NQN = "nqn"
    WWPN = "wwpn"
    WWNN = "wwnn"
    PORT_NAME = "port_name"
    NODE_NAME = "node_name"


class Transport(StrEnum):
    """NVMe-oF transport types, as /dev/nvme-fabrics and nvmet's addr_trtype spell them."""

    TCP = "tcp"
    RDMA = "rdma"
    LOOP = "loop"


class AddressFamily(StrEnum):
    """Address family of a portal, as nvmet's addr_adrfam spells it."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"


class StorageType(StrEnum):
    BLOCK = "block"


class AccessMode(StrEnum):
    """How a host may use an attached volume."""

    READ_WRITE = "rw"
    READ_ONLY = "ro"


class StateStatus(StrEnum):
    """What the node says of a resource in its state row."""

    AVAILABLE = "available"
    ERROR = "error"
    PENDING = "pending"
    """Not there yet for a reason that may pass by itself; the node tries again with back-off."""


class Status(StrEnum):
    """The status that a client sees; OpenSDS's spelling."""

    CREATING = "creating"
    AVAILABLE = "available"
    ATTACHING = "attaching"
    IN_USE = "inUse"
    EXTENDING = "extending"
    REVERTING = "reverting"
    DELETING = "deleting"
    ERROR = "error"
    ERROR_DELETING = "errorDeleting"
    ERROR_EXTENDING = "errorExtending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revert:
    """Intent to bring a volume back to a snapshot's content, asked for at this generation of the volume."""

    snapshot_id: SnapshotId
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume as wanted. size is bytes; a size larger than the found one asks for growth."""

    id: VolumeId
    tenant_id: TenantId
    name: str
    size: int
    pool_id: PoolId
    created_at: datetime
    updated_at: datetime | None = None
    user_id: str = ""
    description: str = ""
    profile_id: ProfileId | None = None
    availability_zone: str = "default"
    multi_attach: bool = False
    source_snapshot_id: SnapshotId | None = None
    source_volume_id: VolumeId | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    revert: Revert | None = None
    deleting: bool = False
    generation: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeState:
    """A volume as the node found it. size is bytes; path is where the bytes are on the node.

    generation is that of the wanted row when the node last dealt with it, whatever came of it; reason says what
    went wrong last, and is empty when nothing did.
    """

    id: VolumeId
    status: StateStatus
    generation: int
    size: int = 0
    path: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot as wanted. size is bytes: the volume's at the time of asking."""

    id: SnapshotId
    volume_id: VolumeId
    tenant_id: TenantId
    name: str
    size: int
    created_at: datetime
    updated_at: datetime | None = None
    user_id: str = ""
    description: str = ""
    profile_id: ProfileId | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    deleting: bool = False
    generation: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotState:
    id: SnapshotId
    volume_id: VolumeId
    status: StateStatus
    generation: int
    size: int = 0
    path: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Initiator:
    """One identity of a host: its NQN or IQN, and the protocol it is for."""

    port_name: str
    protocol: Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class HostIdentity:
    """nqn: the host NQN; id: the host identifier, a lower-case UUID (Base Specification 2.0, 4.5 and 5.27.1.25)."""

    nqn: str
    id: str

    @property
    def hostid(self) -> bytes:
        """The host identifier's 16 bytes as Connect carries them."""
        return uuid.UUID(self.id).bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DhChapSecrets:
    """DH-HMAC-CHAP keys in the form `DHHC-1:...:` (Base Specification 2.0, 8.13.5.8); they are in no repr.

    host_key proves the host to the controller; controller_key, where there is one, the controller to the host.
    """

    host_key: str = field(repr=False)
    controller_key: str | None = field(default=None, repr=False)

    @property
    def digest(self) -> str:
        """Tells two pairs of keys apart without showing them."""
        return hashlib.sha256(f"{self.host_key}\n{self.controller_key or ''}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSecrets:
    """The keys of one host; rests apart from the other rows and is never listed."""

    id: HostId
    secrets: DhChapSecrets


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A machine that volumes can be attached to. Access goes by its initiators; ip is a label."""

    id: HostId
    tenant_id: TenantId
    name: str
    created_at: datetime
    updated_at: datetime | None = None
    user_id: str = ""
    os_type: str = "linux"
    access_mode: str = "agentless"
    ip: str = ""
    port: int = 0
    username: str = ""
    availability_zones: tuple[str, ...] = ("default",)
    initiators: tuple[Initiator, ...] = ()

    def initiator(self, protocol: Protocol) -> str | None:
        """Its first identity for protocol, or None."""
        return next((each.port_name for each in self.initiators if each.protocol is protocol), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """Intent that a host may use a volume. deleting: the host is to be cut off."""

    id: AttachmentId
    volume_id: VolumeId
    host_id: HostId
    tenant_id: TenantId
    created_at: datetime
    updated_at: datetime | None = None
    user_id: str = ""
    mountpoint: str = ""
    access_mode: AccessMode = AccessMode.READ_WRITE
    protocol: Protocol = Protocol.NVMEOF
    metadata: Mapping[str, str] = field(default_factory=dict)
    deleting: bool = False
    generation: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """That a name which must be unique belongs to one owner; id is the kind of name, a colon and the name."""

    id: str
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A class of volumes. custom_properties are OpenSDS's, `capabilities:<pool key>` among them."""

    id: ProfileId
    name: str
    created_at: datetime
    updated_at: datetime | None = None
    description: str = ""
    storage_type: StorageType = StorageType.BLOCK
    access_protocol: Protocol | None = None
    custom_properties: Mapping[str, str] = field(default_factory=dict)


class Provisioning(StrEnum):
    """How a pool gives out room: as it is written to, or all at once."""

    THIN = "thin"
    THICK = "thick"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Storage that volumes are made in, as the configuration names it.

    over_commit is how many bytes may be promised for each byte there is; 1.0 promises no more than there is.
    """

    id: PoolId
    name: str
    node_id: NodeId
    created_at: datetime
    updated_at: datetime | None = None
    description: str = ""
    availability_zone: str = "default"
    storage_type: StorageType = StorageType.BLOCK
    protocol: Protocol = Protocol.NVMEOF
    multi_attach: bool = True
    provisioning: Provisioning = Provisioning.THIN
    over_commit: float = 1.0
    capabilities: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolState:
    """A pool as the node found it; total and free are bytes of real storage."""

    id: PoolId
    status: StateStatus
    total: int = 0
    free: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Bytes of real storage in a pool. warning: a sentence about what will soon go wrong, such as a thin pool that fills."""

    total: int
    free: int
    warning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundVolume:
    """A volume whose content is complete, as its driver sees it. size is bytes."""

    id: VolumeId
    size: int
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSnapshot:
    """A snapshot whose content is complete, as its driver sees it. size is bytes.

    fault: a sentence when its content was complete once and is lost, such as a COW snapshot that has overflowed.
    """

    id: SnapshotId
    volume_id: VolumeId
    size: int
    path: Path
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportHost:
    """A host that an export lets in: by its NQN (NVMe-oF) or IQN (iSCSI)."""

    host_id: HostId
    initiator: str
    secrets: DhChapSecrets | None = None
    """With them the host must authenticate, NVMe-oF only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A volume as it is to be shown to hosts: these bytes, at this size (bytes), to these hosts and no others."""

    volume_id: VolumeId
    path: Path
    size: int
    hosts: tuple[ExportHost, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundExport:
    """An export as it is on the node. complete is False while it is half-made or a portal is not bound.

    initiators are the NQNs or IQNs that it lets in, and key_digests the DhChapSecrets.digest of those that must
    authenticate; portals are written as str(NvmeofPortal).
    """

    volume_id: VolumeId
    path: Path
    size: int
    initiators: frozenset[str]
    portals: tuple[str, ...]
    complete: bool = True
    key_digests: Mapping[str, str] = field(default_factory=dict)


class RefusalReason(StrEnum):
    """Why a target did not let a host in."""

    NOT_LISTED = "notListed"
    NO_KEY = "noKey"
    WRONG_KEY = "wrongKey"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """That a target turned a host away from a volume, when it last did so (UTC), and why."""

    volume_id: VolumeId
    initiator: str
    reason: RefusalReason
    at: datetime
