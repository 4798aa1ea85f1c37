"""How volumes, snapshots, attachments, hosts, pools and profiles are listed and shown."""

from collections.abc import Mapping

from weft.cli.output import Column, Kind
from weft.cli.shapes import (
    attachment_shape,
    host_shape,
    pool_shape,
    profile_shape,
    refusal_shape,
    snapshot_shape,
    token_shape,
    volume_shape,
)
from weft.cli.sizes import format_size
from weft.model import Host, Profile
from weft.views import AttachmentView, PoolView, RefusalView, SnapshotView, TokenView, VolumeView

Names = Mapping[str, str]
"""Ids to names; an id that is not there is shown itself."""


def volumes(pools: Names) -> Kind[VolumeView]:
    return Kind(
        columns=(
            Column("NAME", lambda view: view.volume.name),
            Column("ID", lambda view: view.volume.id, whole=True),
            Column("SIZE", lambda view: format_size(view.size), right=True),
            Column("STATUS", lambda view: view.status.value),
            Column("POOL", lambda view: pools.get(view.volume.pool_id, view.volume.pool_id)),
            Column("REASON", lambda view: view.reason, optional=True),
        ),
        shape=volume_shape,
        identity=lambda view: view.volume.id,
    )


def snapshots(volumes: Names) -> Kind[SnapshotView]:
    return Kind(
        columns=(
            Column("NAME", lambda view: view.snapshot.name),
            Column("ID", lambda view: view.snapshot.id),
            Column("SIZE", lambda view: format_size(view.size), right=True),
            Column("STATUS", lambda view: view.status.value),
            Column("VOLUME", lambda view: volumes.get(view.snapshot.volume_id, view.snapshot.volume_id)),
            Column("CREATED", lambda view: f"{view.snapshot.created_at:%Y-%m-%d %H:%M:%S}Z"),
            Column("REASON", lambda view: view.reason, optional=True),
        ),
        shape=snapshot_shape,
        identity=lambda view: view.snapshot.id,
    )


def attachments(volumes: Names, hosts: Names) -> Kind[AttachmentView]:
    return Kind(
        columns=(
            Column("VOLUME", lambda view: volumes.get(view.attachment.volume_id, view.attachment.volume_id)),
            Column("HOST", lambda view: hosts.get(view.attachment.host_id, view.attachment.host_id)),
            Column("ID", lambda view: view.attachment.id, whole=True),
            Column("STATUS", lambda view: view.status.value),
            Column("PORTALS", _portals),
            Column("REASON", lambda view: view.reason, optional=True),
        ),
        shape=attachment_shape,
        identity=lambda view: view.attachment.id,
    )


def _portals(view: AttachmentView) -> str:
    if view.connection is None:
        return ""
    return ", ".join(f"{portal.transport.value} {portal}" for portal in view.connection.portals)


REFUSALS: Kind[RefusalView] = Kind(
    columns=(
        Column("HOST", lambda refusal: refusal.initiator),
        Column("WHY", lambda refusal: refusal.reason.value),
        Column(
            "WHEN", lambda refusal: f"{refusal.at:%Y-%m-%d %H:%M:%S}Z" if refusal.at else "", optional=True
        ),
        Column("MEANING", lambda refusal: refusal.message),
    ),
    shape=refusal_shape,
    identity=lambda refusal: refusal.initiator,
)

HOSTS: Kind[Host] = Kind(
    columns=(
        Column("NAME", lambda host: host.name),
        Column("ID", lambda host: host.id, whole=True),
        Column("IP", lambda host: host.ip, optional=True),
        Column("INITIATORS", lambda host: ", ".join(each.port_name for each in host.initiators)),
        Column("ZONES", lambda host: ", ".join(host.availability_zones)),
    ),
    shape=host_shape,
    identity=lambda host: host.id,
)

POOLS: Kind[PoolView] = Kind(
    columns=(
        Column("NAME", lambda view: view.pool.name),
        Column("ID", lambda view: view.pool.id),
        Column("STATUS", lambda view: view.status.value),
        Column("TOTAL", lambda view: format_size(view.total), right=True),
        Column("FREE", lambda view: format_size(view.free), right=True),
        Column("BOOKED", lambda view: format_size(view.booked), right=True),
        Column("ROOM", lambda view: format_size(view.room), right=True),
        Column("REASON", lambda view: view.reason, optional=True),
    ),
    shape=pool_shape,
    identity=lambda view: view.pool.id,
)

PROFILES: Kind[Profile] = Kind(
    columns=(
        Column("NAME", lambda profile: profile.name),
        Column("ID", lambda profile: profile.id, whole=True),
        Column(
            "PROTOCOL",
            lambda profile: profile.access_protocol.value if profile.access_protocol is not None else "any",
        ),
        Column("DESCRIPTION", lambda profile: profile.description, optional=True),
        Column(
            "PROPERTIES",
            lambda profile: ", ".join(f"{key}={value}" for key, value in profile.custom_properties.items()),
            optional=True,
        ),
    ),
    shape=profile_shape,
    identity=lambda profile: profile.id,
)

TOKENS: Kind[TokenView] = Kind(
    columns=(
        Column("NAME", lambda token: token.name),
        Column("ID", lambda token: token.id, whole=True),
        Column("SCOPE", lambda token: token.scope.value),
        Column("HOST", lambda token: token.host_name or token.host_nqn, optional=True),
        Column(
            "EXPIRES", lambda token: f"{token.expires_at:%Y-%m-%d %H:%M:%S}Z" if token.expires_at else "never"
        ),
    ),
    shape=token_shape,
    identity=lambda token: token.id,
)
