"""Snapshots on the wire."""

import msgspec

from weft.model import GIB, ProfileId, Snapshot, SnapshotId, Status, TenantId, VolumeId
from weft.requests import CreateSnapshotRequest
from weft.views import SnapshotView
from weft.wire.base import (
    Body,
    Resource,
    format_time,
    merge_derived,
    parse_creation_time,
    parse_time,
    whole_gib,
    written_metadata,
)


class SnapshotBody(Body, kw_only=True):
    name: str = ""
    description: str = ""
    volume_id: str = ""
    profile_id: str = ""
    metadata: dict[str, str] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, request: CreateSnapshotRequest) -> "SnapshotBody":
        return cls(
            name=request.name,
            description=request.description,
            volume_id=request.volume_id,
            profile_id=request.profile_id or "",
            metadata=dict(request.metadata),
        )

    def request(self) -> CreateSnapshotRequest:
        return CreateSnapshotRequest(
            name=self.name,
            description=self.description,
            volume_id=VolumeId(self.volume_id),
            profile_id=ProfileId(self.profile_id) if self.profile_id else None,
            metadata=written_metadata(self.metadata),
        )


class SnapshotResource(Resource, kw_only=True):
    tenant_id: str = ""
    user_id: str = ""
    name: str = ""
    description: str = ""
    profile_id: str = ""
    size: int = 0
    status: Status
    volume_id: str = ""
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    status_reason: str = ""

    @classmethod
    def of(cls, view: SnapshotView) -> "SnapshotResource":
        snapshot = view.snapshot
        return cls(
            id=snapshot.id,
            created_at=format_time(snapshot.created_at),
            updated_at=format_time(snapshot.updated_at),
            tenant_id=snapshot.tenant_id,
            user_id=snapshot.user_id,
            name=snapshot.name,
            description=snapshot.description,
            profile_id=snapshot.profile_id or "",
            size=whole_gib(view.size),
            status=view.status,
            volume_id=snapshot.volume_id,
            metadata=merge_derived(snapshot.metadata, "lvsPath", view.path),
            status_reason=view.reason,
        )

    def view(self) -> SnapshotView:
        return SnapshotView(
            snapshot=Snapshot(
                id=SnapshotId(self.id),
                created_at=parse_creation_time(self.created_at),
                updated_at=parse_time(self.updated_at),
                tenant_id=TenantId(self.tenant_id),
                user_id=self.user_id,
                name=self.name,
                description=self.description,
                profile_id=ProfileId(self.profile_id) if self.profile_id else None,
                size=self.size * GIB,
                volume_id=VolumeId(self.volume_id),
                metadata=written_metadata(self.metadata),
                deleting=self.status in {Status.DELETING, Status.ERROR_DELETING},
            ),
            status=self.status,
            size=self.size * GIB,
            path=self.metadata.get("lvsPath", ""),
            reason=self.status_reason,
        )
