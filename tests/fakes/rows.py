"""Rows as the service would write them, with everything filled in that a test does not care about."""

from datetime import UTC, datetime

from weft.model import GIB, PoolId, Snapshot, SnapshotId, TenantId, Volume, VolumeId
from weft.names import new_id

POOL = PoolId("3f0c1a52-9d1b-4a57-8f3e-5a6f0d1c2b3a")
TENANT = TenantId("5b7e2c94-1f6d-4c3a-9b8e-7d2a4f6c8e01")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def make_volume(size: int = GIB, volume_id: str | None = None) -> Volume:
    return Volume(
        id=VolumeId(volume_id or new_id()),
        tenant_id=TENANT,
        name="volume",
        size=size,
        pool_id=POOL,
        created_at=NOON,
    )


def make_snapshot(volume: Volume, snapshot_id: str | None = None) -> Snapshot:
    return Snapshot(
        id=SnapshotId(snapshot_id or new_id()),
        volume_id=volume.id,
        tenant_id=TENANT,
        name="snapshot",
        size=volume.size,
        created_at=NOON,
    )
