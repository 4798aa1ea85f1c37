"""Volumes on the wire."""

import msgspec

from weft.model import GIB, PoolId, ProfileId, SnapshotId, Status, TenantId, Volume, VolumeId
from weft.names import durable_name
from weft.requests import CreateVolumeRequest, UpdateRequest
from weft.views import VolumeView
from weft.wire.base import (
    Body,
    Resource,
    Whole,
    format_time,
    merge_derived,
    parse_creation_time,
    parse_time,
    whole_gib,
    written_metadata,
)


class VolumeBody(Body, kw_only=True):
    name: str = ""
    description: str = ""
    size: Whole = 0
    profile_id: str = ""
    pool_id: str = ""
    availability_zone: str = ""
    snapshot_id: str = ""
    source_volume_id: str = ""
    multi_attach: bool = False
    metadata: dict[str, str] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, request: CreateVolumeRequest) -> "VolumeBody":
        return cls(
            name=request.name,
            description=request.description,
            size=whole_gib(request.size),
            profile_id=request.profile_id or "",
            pool_id=request.pool_id or "",
            availability_zone=request.availability_zone or "",
            snapshot_id=request.snapshot_id or "",
            source_volume_id=request.source_volume_id or "",
            multi_attach=request.multi_attach,
            metadata=dict(request.metadata),
        )

    def request(self) -> CreateVolumeRequest:
        return CreateVolumeRequest(
            name=self.name,
            description=self.description,
            size=self.size * GIB,
            profile_id=ProfileId(self.profile_id) if self.profile_id else None,
            pool_id=PoolId(self.pool_id) if self.pool_id else None,
            availability_zone=self.availability_zone or None,
            snapshot_id=SnapshotId(self.snapshot_id) if self.snapshot_id else None,
            source_volume_id=VolumeId(self.source_volume_id) if self.source_volume_id else None,
            multi_attach=self.multi_attach,
            metadata=written_metadata(self.metadata),
        )


class UpdateBody(Body, kw_only=True):
    """Of a volume or a snapshot; empty values leave things as they are."""

    name: str = ""
    description: str = ""
    metadata: dict[str, str] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, request: UpdateRequest) -> "UpdateBody":
        return cls(
            name=request.name or "",
            description=request.description or "",
            metadata=dict(request.metadata or {}),
        )

    def request(self) -> UpdateRequest:
        return UpdateRequest(
            name=self.name or None,
            description=self.description or None,
            metadata=written_metadata(self.metadata) or None,
        )


class ResizeBody(Body, kw_only=True):
    new_size: Whole = 0

    @classmethod
    def of(cls, size: int) -> "ResizeBody":
        return cls(new_size=whole_gib(size))

    @property
    def size(self) -> int:
        """Bytes."""
        return self.new_size * GIB


class RevertBody(Body, kw_only=True):
    snapshot_id: str = ""


class Identifier(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    durable_name: str = ""
    durable_name_format: str = ""


class VolumeResource(Resource, kw_only=True):
    """`AttachStatus` is always there and always empty: OpenSDS's clients decode it. weft adds requestedSize, while
    a volume is to grow, statusReason, and sourceVolumeId, the volume that it was made from.
    """

    tenant_id: str = ""
    user_id: str = ""
    name: str = ""
    description: str = ""
    size: int = 0
    availability_zone: str = ""
    status: Status
    pool_id: str = ""
    profile_id: str = ""
    snapshot_id: str = ""
    source_volume_id: str = ""
    multi_attach: bool = False
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    identifier: Identifier | None = None
    requested_size: int = 0
    status_reason: str = ""
    attach_status: str = msgspec.field(name="AttachStatus")

    @classmethod
    def of(cls, view: VolumeView) -> "VolumeResource":
        volume = view.volume
        return cls(
            id=volume.id,
            created_at=format_time(volume.created_at),
            updated_at=format_time(volume.updated_at),
            tenant_id=volume.tenant_id,
            user_id=volume.user_id,
            name=volume.name,
            description=volume.description,
            size=whole_gib(view.size),
            availability_zone=volume.availability_zone,
            status=view.status,
            pool_id=volume.pool_id,
            profile_id=volume.profile_id or "",
            snapshot_id=volume.source_snapshot_id or "",
            source_volume_id=volume.source_volume_id or "",
            multi_attach=volume.multi_attach,
            metadata=merge_derived(volume.metadata, "lvPath", view.path),
            identifier=_identifier(volume.id) if view.path else None,
            requested_size=whole_gib(volume.size) if view.status is Status.EXTENDING else 0,
            status_reason=view.reason,
            attach_status="",
        )

    def view(self) -> VolumeView:
        return VolumeView(
            volume=Volume(
                id=VolumeId(self.id),
                created_at=parse_creation_time(self.created_at),
                updated_at=parse_time(self.updated_at),
                tenant_id=TenantId(self.tenant_id),
                user_id=self.user_id,
                name=self.name,
                description=self.description,
                size=(self.requested_size or self.size) * GIB,
                availability_zone=self.availability_zone,
                pool_id=PoolId(self.pool_id),
                profile_id=ProfileId(self.profile_id) if self.profile_id else None,
                source_snapshot_id=SnapshotId(self.snapshot_id) if self.snapshot_id else None,
                source_volume_id=VolumeId(self.source_volume_id) if self.source_volume_id else None,
                multi_attach=self.multi_attach,
                metadata=written_metadata(self.metadata),
                deleting=self.status in {Status.DELETING, Status.ERROR_DELETING},
            ),
            status=self.status,
            size=self.size * GIB,
            path=self.metadata.get("lvPath", ""),
            reason=self.status_reason,
        )


def _identifier(volume_id: VolumeId) -> Identifier:
    return Identifier(durable_name=durable_name(volume_id), durable_name_format="NAA")
