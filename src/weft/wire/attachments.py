"""Attachments on the wire."""

import msgspec

from weft.connection import Connection, from_data, to_data
from weft.errors import UnsupportedError
from weft.model import AccessMode, Attachment, AttachmentId, HostId, Protocol, Status, TenantId, VolumeId
from weft.requests import CreateAttachmentRequest, UpdateAttachmentRequest
from weft.views import AttachmentView
from weft.wire.base import Body, Resource, format_time, parse_creation_time, parse_time


class AttachmentBody(Body, kw_only=True):
    volume_id: str = ""
    host_id: str = ""
    attach_mode: str = ""
    mountpoint: str = ""
    metadata: dict[str, str] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, request: CreateAttachmentRequest) -> "AttachmentBody":
        return cls(
            volume_id=request.volume_id,
            host_id=request.host_id,
            attach_mode=request.access_mode.value,
            mountpoint=request.mountpoint,
            metadata=dict(request.metadata),
        )

    def request(self) -> CreateAttachmentRequest:
        read_only = self.attach_mode == AccessMode.READ_ONLY
        return CreateAttachmentRequest(
            volume_id=VolumeId(self.volume_id),
            host_id=HostId(self.host_id),
            access_mode=AccessMode.READ_ONLY if read_only else AccessMode.READ_WRITE,
            mountpoint=self.mountpoint,
            metadata=self.metadata,
        )


class UpdateAttachmentBody(Body, kw_only=True):
    mountpoint: str = ""
    metadata: dict[str, str] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, request: UpdateAttachmentRequest) -> "UpdateAttachmentBody":
        return cls(mountpoint=request.mountpoint or "", metadata=dict(request.metadata or {}))

    def request(self) -> UpdateAttachmentRequest:
        return UpdateAttachmentRequest(mountpoint=self.mountpoint or None, metadata=self.metadata or None)


class ConnectionInfo(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """`{}` until the host can use the volume."""

    driver_volume_type: str = ""
    data: dict[str, object] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, connection: Connection | None) -> "ConnectionInfo":
        if connection is None:
            return cls()
        return cls(driver_volume_type=connection.protocol.value, data=to_data(connection))

    def connection(self) -> Connection | None:
        if not self.data:
            return None
        if self.driver_volume_type != Protocol.NVMEOF:
            raise UnsupportedError(
                f"the attachment is by {self.driver_volume_type!r}, which this weft cannot read; install a newer one"
            )
        return from_data(self.data)


class AttachmentResource(Resource, kw_only=True):
    tenant_id: str = ""
    user_id: str = ""
    host_id: str = ""
    volume_id: str = ""
    status: Status
    mountpoint: str = ""
    attach_mode: AccessMode
    access_protocol: Protocol
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    connection_info: ConnectionInfo
    status_reason: str = ""

    @classmethod
    def of(cls, view: AttachmentView) -> "AttachmentResource":
        attachment = view.attachment
        return cls(
            id=attachment.id,
            created_at=format_time(attachment.created_at),
            updated_at=format_time(attachment.updated_at),
            tenant_id=attachment.tenant_id,
            user_id=attachment.user_id,
            host_id=attachment.host_id,
            volume_id=attachment.volume_id,
            status=view.status,
            mountpoint=attachment.mountpoint,
            attach_mode=attachment.access_mode,
            access_protocol=attachment.protocol,
            metadata=dict(attachment.metadata),
            connection_info=ConnectionInfo.of(view.connection),
            status_reason=view.reason,
        )

    def view(self) -> AttachmentView:
        return AttachmentView(
            attachment=Attachment(
                id=AttachmentId(self.id),
                created_at=parse_creation_time(self.created_at),
                updated_at=parse_time(self.updated_at),
                tenant_id=TenantId(self.tenant_id),
                user_id=self.user_id,
                host_id=HostId(self.host_id),
                volume_id=VolumeId(self.volume_id),
                mountpoint=self.mountpoint,
                access_mode=self.attach_mode,
                protocol=self.access_protocol,
                metadata=self.metadata,
                deleting=self.status in {Status.DELETING, Status.ERROR_DELETING},
            ),
            status=self.status,
            connection=self.connection_info.connection(),
            reason=self.status_reason,
        )
