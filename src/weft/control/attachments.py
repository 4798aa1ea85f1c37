"""Attachments: which host may use which volume."""

from dataclasses import replace

from weft.control.naming import check_metadata
from weft.control.rows import now, owned, owned_rows, retry_on_conflict
from weft.control.secrets import Secrets
from weft.control.status import is_settled, view_attachment
from weft.control.volumes import Volumes
from weft.errors import (
    ConflictError,
    InvalidValueError,
    NotFoundError,
    PermissionDeniedError,
    UnsupportedError,
)
from weft.model import AccessMode, Attachment, AttachmentId, Host, Protocol, Status, Volume
from weft.names import check_text, new_id
from weft.ports import ATTACHMENT_STATES, ATTACHMENTS, HOSTS, POOLS, VOLUMES, Key, Put, Revision, Row, Store
from weft.requests import Caller, CreateAttachmentRequest, UpdateAttachmentRequest
from weft.views import AttachmentView


class Attachments:
    def __init__(self, store: Store, volumes: Volumes, secrets: Secrets) -> None:
        self._store = store
        self._volumes = volumes
        self._secrets = secrets

    def create(self, caller: Caller, request: CreateAttachmentRequest) -> AttachmentView:
        """Write that a host is to be let in to a volume.

        Raises ConflictError when the volume is attached already and does not allow several attachments.
        """
        if caller.only is not None and request.host_id != caller.only.host_id:
            raise PermissionDeniedError("hostId: this token attaches volumes to its own host alone")
        check_metadata(request.metadata)
        check_text("mountpoint", request.mountpoint)
        if request.access_mode is not AccessMode.READ_WRITE:
            raise UnsupportedError("attachMode: an NVMe-oF export cannot be read-only for one host; use rw")
        return retry_on_conflict(lambda: self._create(caller, request))

    def _create(self, caller: Caller, request: CreateAttachmentRequest) -> AttachmentView:
        host, volume = self._host(caller, request), self._volume(caller, request)
        protocol = self._protocol(volume.value)
        if host.value.initiator(protocol) is None:
            raise InvalidValueError(
                "hostId", f"host {host.value.name} has no {protocol} initiator; register it"
            )
        zone = volume.value.availability_zone
        if zone not in host.value.availability_zones:
            raise InvalidValueError(
                "hostId",
                f"availability zone of volume: {zone} is not in the host availability zones:"
                f" [{' '.join(host.value.availability_zones)}]",
            )
        self._check_free(volume.value, host.value)
        attachment = Attachment(
            id=AttachmentId(new_id()),
            volume_id=volume.value.id,
            host_id=host.value.id,
            tenant_id=volume.value.tenant_id,
            user_id=caller.user_id,
            mountpoint=request.mountpoint,
            access_mode=request.access_mode,
            protocol=protocol,
            metadata=dict(request.metadata),
            created_at=now(),
        )
        self._store.transact(
            {
                Key(ATTACHMENTS.name, attachment.id): Revision(0),
                Key(VOLUMES.name, volume.value.id): volume.revision,
                Key(HOSTS.name, host.value.id): host.revision,
            },
            [Put(ATTACHMENTS, attachment), Put(VOLUMES, volume.value), Put(HOSTS, host.value)],
        )
        return view_attachment(attachment, None)

    def _host(self, caller: Caller, request: CreateAttachmentRequest) -> Row[Host]:
        try:
            return owned(self._store, HOSTS, caller, request.host_id, "host")
        except NotFoundError as error:
            raise InvalidValueError("hostId", str(error)) from None

    def _volume(self, caller: Caller, request: CreateAttachmentRequest) -> Row[Volume]:
        try:
            return self._volumes.row(caller, request.volume_id)
        except NotFoundError as error:
            raise InvalidValueError(
                "volumeId", f"get volume failed in create volume attachment method: {error}"
            ) from None

    def _check_free(self, volume: Volume, host: Host) -> None:
        status = self._volumes.view(volume).status
        attached = [row.value for row in self._store.list(ATTACHMENTS, where={"volume_id": volume.id})]
        if any(each.host_id == host.id and not each.deleting for each in attached):
            raise ConflictError(f"volume {volume.name} is already attached to host {host.name}")
        if any(each.host_id == host.id for each in attached):
            raise ConflictError(
                f"volume {volume.name} is still being detached from host {host.name}; try again soon"
            )
        if status is Status.AVAILABLE:
            return
        if status in {Status.IN_USE, Status.ATTACHING}:
            if volume.multi_attach:
                return
            raise ConflictError(
                "volume is already attached to one of the host. If you want to attach to multiple host,"
                " volume multiattach must be true"
            )
        raise ConflictError(f"volume {volume.name} is {status}; only an available volume can be attached")

    def _protocol(self, volume: Volume) -> Protocol:
        pool = self._store.get(POOLS, volume.pool_id)
        return pool.value.protocol if pool is not None else Protocol.NVMEOF

    def get(
        self, caller: Caller, attachment_id: AttachmentId, *, with_secrets: bool = False
    ) -> AttachmentView:
        """with_secrets: the connection holds the keys by which its host is to authenticate, if it is to.

        Then there is no connection before these keys are in force: with one that the target does not have yet a host
        would lose its device.
        """
        attachment = self.row(caller, attachment_id).value
        view = self._view(attachment)
        if not with_secrets or view.connection is None:
            return view
        secrets = self._secrets.of(caller, attachment.host_id)
        # Looked at behind the keys: whoever changes them counts the attachment's generation up.
        present = self.row(caller, attachment_id).value
        if present.generation != attachment.generation or not self.is_settled(attachment):
            return replace(view, connection=None, reason=view.reason or "the host's key is being changed")
        return replace(view, connection=replace(view.connection, secrets=secrets))

    def row(self, caller: Caller, attachment_id: AttachmentId) -> Row[Attachment]:
        return owned(self._store, ATTACHMENTS, caller, attachment_id, "attachment")

    def list(self, caller: Caller) -> list[AttachmentView]:
        states = {row.value.id: row.value for row in self._store.list(ATTACHMENT_STATES)}
        return [
            view_attachment(each, states.get(each.id))
            for each in owned_rows(self._store, ATTACHMENTS, caller)
        ]

    def update(
        self, caller: Caller, attachment_id: AttachmentId, request: UpdateAttachmentRequest
    ) -> AttachmentView:
        check_metadata(request.metadata or {})
        check_text("mountpoint", request.mountpoint or "")

        def attempt() -> AttachmentView:
            row = self.row(caller, attachment_id)
            changed = replace(
                row.value,
                mountpoint=request.mountpoint or row.value.mountpoint,
                metadata={**row.value.metadata, **(request.metadata or {})},
                updated_at=now(),
            )
            check_metadata(changed.metadata)
            self._store.transact(
                {Key(ATTACHMENTS.name, attachment_id): row.revision}, [Put(ATTACHMENTS, changed)]
            )
            return self._view(changed)

        return retry_on_conflict(attempt)

    def delete(self, caller: Caller, attachment_id: AttachmentId) -> None:
        """Ask that the host be cut off. The attachment is gone once it really is."""

        def attempt() -> None:
            row = self.row(caller, attachment_id)
            if row.value.deleting:
                return
            changed = replace(row.value, deleting=True, generation=row.value.generation + 1, updated_at=now())
            self._store.transact(
                {Key(ATTACHMENTS.name, attachment_id): row.revision}, [Put(ATTACHMENTS, changed)]
            )

        retry_on_conflict(attempt)

    def is_settled(self, attachment: Attachment) -> bool:
        state = self._store.get(ATTACHMENT_STATES, attachment.id)
        return is_settled(attachment, state.value if state is not None else None)

    def _view(self, attachment: Attachment) -> AttachmentView:
        state = self._store.get(ATTACHMENT_STATES, attachment.id)
        return view_attachment(attachment, state.value if state is not None else None)
