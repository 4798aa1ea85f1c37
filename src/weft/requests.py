"""What clients ask for, in weft's terms. Fields that are None were left open. Sizes are bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from weft.model import (
    AccessMode,
    HostId,
    Initiator,
    PoolId,
    ProfileId,
    Protocol,
    SnapshotId,
    TenantId,
    VolumeId,
)
from weft.tokens import TokenId

DEFAULT_TENANT = TenantId("e93b4c0934da416eb9c8d120c5d04d96")
"""OpenSDS's default tenant, whose callers are administrators where tenants are not authenticated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """On whose behalf a request is made. An administrator sees every tenant's resources.

    only: the caller acts for this host and sees, beside the tenant's volumes, what is this host's.
    """

    tenant_id: TenantId
    user_id: str = ""
    is_admin: bool = False
    only: "OneHost | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OneHost:
    """The host that a token is for; host_id is None while it is not registered."""

    token_id: TokenId
    host_id: HostId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTokenRequest:
    """A token to make: of scope admin when host is empty, else for that host alone.

    host: the name or id of a registered host, or the name or NQN of one that will register with it. valid_days: None
    for a token that does not expire.
    """

    name: str
    host: str = ""
    valid_days: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateVolumeRequest:
    name: str
    size: int
    description: str = ""
    profile_id: ProfileId | None = None
    pool_id: PoolId | None = None
    availability_zone: str | None = None
    snapshot_id: SnapshotId | None = None
    source_volume_id: VolumeId | None = None
    multi_attach: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRequest:
    """New name, description or metadata of a volume or snapshot; metadata is merged into what is there."""

    name: str | None = None
    description: str | None = None
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSnapshotRequest:
    name: str
    volume_id: VolumeId
    description: str = ""
    profile_id: ProfileId | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateAttachmentRequest:
    volume_id: VolumeId
    host_id: HostId
    access_mode: AccessMode = AccessMode.READ_WRITE
    mountpoint: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateAttachmentRequest:
    mountpoint: str | None = None
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRequest:
    """A host to register; for an update, empty and None fields stay as they are."""

    name: str = ""
    os_type: str = ""
    access_mode: str = ""
    ip: str = ""
    port: int = 0
    username: str = ""
    availability_zones: tuple[str, ...] = ()
    initiators: tuple[Initiator, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRequest:
    """A profile to make; for an update, empty and None fields stay as they are."""

    name: str = ""
    description: str = ""
    storage_type: str = ""
    access_protocol: Protocol | None = None
    custom_properties: Mapping[str, str] = field(default_factory=dict)
