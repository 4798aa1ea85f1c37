"""What `--json` prints. These shapes are promised: keys are added, never renamed or taken away.

Sizes are bytes, times are RFC 3339 in UTC.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from weft.connection import Connection
from weft.model import DhChapSecrets, Host, Profile
from weft.views import AttachmentView, PoolView, RefusalView, SnapshotView, TokenView, VolumeView

Value: TypeAlias = "bool | int | float | str | Sequence[Value] | Mapping[str, Value] | None"
Shape: TypeAlias = Mapping[str, Value]


def volume_shape(view: VolumeView) -> Shape:
    """path: where the bytes are on the node, if it says so."""
    volume = view.volume
    return {
        "id": volume.id,
        "name": volume.name,
        "status": view.status.value,
        "reason": view.reason,
        "size_bytes": view.size,
        "pool_id": volume.pool_id,
        "profile_id": volume.profile_id,
        "availability_zone": volume.availability_zone,
        "multi_attach": volume.multi_attach,
        "source_snapshot_id": volume.source_snapshot_id,
        "source_volume_id": volume.source_volume_id,
        "description": volume.description,
        "metadata": dict(volume.metadata),
        "path": view.path,
        "created_at": _time(volume.created_at),
        "updated_at": _time(volume.updated_at),
    }


def snapshot_shape(view: SnapshotView) -> Shape:
    snapshot = view.snapshot
    return {
        "id": snapshot.id,
        "name": snapshot.name,
        "volume_id": snapshot.volume_id,
        "status": view.status.value,
        "reason": view.reason,
        "size_bytes": view.size,
        "profile_id": snapshot.profile_id,
        "description": snapshot.description,
        "metadata": dict(snapshot.metadata),
        "path": view.path,
        "created_at": _time(snapshot.created_at),
        "updated_at": _time(snapshot.updated_at),
    }


def attachment_shape(view: AttachmentView) -> Shape:
    attachment = view.attachment
    return {
        "id": attachment.id,
        "volume_id": attachment.volume_id,
        "host_id": attachment.host_id,
        "status": view.status.value,
        "reason": view.reason,
        "protocol": attachment.protocol.value,
        "access_mode": attachment.access_mode.value,
        "mountpoint": attachment.mountpoint,
        "connection": connection_shape(view.connection) if view.connection is not None else None,
        "metadata": dict(attachment.metadata),
        "created_at": _time(attachment.created_at),
        "updated_at": _time(attachment.updated_at),
    }


def connection_shape(connection: Connection) -> Shape:
    return {
        "protocol": connection.protocol.value,
        "nqn": connection.nqn,
        "host_nqn": connection.host_nqn,
        "portals": [
            {"transport": portal.transport.value, "address": portal.address, "port": portal.port}
            for portal in connection.portals
        ],
        **_secrets_shape(connection.secrets),
    }


def _secrets_shape(secrets: DhChapSecrets | None) -> Shape:
    """There only for who asked for them."""
    if secrets is None:
        return {}
    return {"dhchap_secret": secrets.host_key, "dhchap_ctrl_secret": secrets.controller_key}


def refusal_shape(refusal: RefusalView) -> Shape:
    """at and age_seconds are null for a host that the target has not seen and the rows do not let in."""
    return {
        "host_nqn": refusal.initiator,
        "reason": refusal.reason.value,
        "message": refusal.message,
        "at": _time(refusal.at),
        "age_seconds": refusal.age,
    }


def host_shape(host: Host) -> Shape:
    return {
        "id": host.id,
        "name": host.name,
        "ip": host.ip,
        "os_type": host.os_type,
        "access_mode": host.access_mode,
        "availability_zones": list(host.availability_zones),
        "initiators": [
            {"protocol": each.protocol.value, "port_name": each.port_name} for each in host.initiators
        ],
        "created_at": _time(host.created_at),
        "updated_at": _time(host.updated_at),
    }


def pool_shape(view: PoolView) -> Shape:
    """total and free are real storage; room is what can still be promised to volumes and snapshots."""
    pool = view.pool
    return {
        "id": pool.id,
        "name": pool.name,
        "status": view.status.value,
        "reason": view.reason,
        "total_bytes": view.total,
        "free_bytes": view.free,
        "booked_bytes": view.booked,
        "room_bytes": view.room,
        "over_commit": pool.over_commit,
        "node_id": pool.node_id,
        "availability_zone": pool.availability_zone,
        "protocol": pool.protocol.value,
        "multi_attach": pool.multi_attach,
        "provisioning": pool.provisioning.value,
        "description": pool.description,
        "capabilities": dict(pool.capabilities),
    }


def profile_shape(profile: Profile) -> Shape:
    return {
        "id": profile.id,
        "name": profile.name,
        "description": profile.description,
        "storage_type": profile.storage_type.value,
        "access_protocol": profile.access_protocol.value if profile.access_protocol is not None else None,
        "custom_properties": dict(profile.custom_properties),
        "created_at": _time(profile.created_at),
        "updated_at": _time(profile.updated_at),
    }


def token_shape(token: TokenView) -> Shape:
    return {
        "id": token.id,
        "name": token.name,
        "scope": token.scope.value,
        "tenant_id": token.tenant_id,
        "host_id": token.host_id,
        "host_name": token.host_name,
        "host_nqn": token.host_nqn,
        "created_at": _time(token.created_at),
        "expires_at": _time(token.expires_at),
    }


def _time(time: datetime | None) -> str | None:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if time is not None else None
