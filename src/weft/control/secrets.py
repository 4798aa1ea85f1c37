"""The keys of hosts: written by an administrator, read with one attachment by its host, and never listed."""

from dataclasses import replace

from weft.control.rows import owned, retry_on_conflict
from weft.errors import ConflictError, PermissionDeniedError
from weft.model import DhChapSecrets, Host, HostId, HostSecrets
from weft.ports import ATTACHMENTS, HOST_SECRETS, HOSTS, Delete, Key, Put, Row, Store, Write
from weft.requests import Caller


class Secrets:
    """A host that has keys must authenticate (DH-HMAC-CHAP) wherever it is attached; without keys its NQN is enough.

    While volumes are attached a change needs force: a host that reconnects with the old key loses its device for
    good, so it has to be given the new one at once.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, caller: Caller, host_id: HostId, secrets: DhChapSecrets, *, force: bool = False) -> None:
        """Give the host these keys instead of those that it has. Setting what is set already changes nothing."""

        def attempt() -> None:
            host = self._host(caller, host_id)
            if self._of(host_id) == secrets:
                return
            self._write(host, Put(HOST_SECRETS, HostSecrets(id=host_id, secrets=secrets)), force=force)

        retry_on_conflict(attempt)

    def remove(self, caller: Caller, host_id: HostId, *, force: bool = False) -> None:
        """Let the host in by its NQN alone. A host without keys stays as it is."""

        def attempt() -> None:
            host = self._host(caller, host_id)
            if self._of(host_id) is not None:
                self._write(host, Delete(Key(HOST_SECRETS.name, host_id)), force=force)

        retry_on_conflict(attempt)

    def of(self, caller: Caller, host_id: HostId) -> DhChapSecrets | None:
        """The keys of a host that the caller acts for, or administers; None if it has none."""
        owned(self._store, HOSTS, caller, host_id, "host")
        return self._of(host_id)

    def _host(self, caller: Caller, host_id: HostId) -> Row[Host]:
        if caller.only is not None:
            raise PermissionDeniedError("a host does not set its own keys; ask an administrator")
        return owned(self._store, HOSTS, caller, host_id, "host")

    def _of(self, host_id: HostId) -> DhChapSecrets | None:
        row = self._store.get(HOST_SECRETS, host_id)
        return row.value.secrets if row is not None else None

    def _write(self, host: Row[Host], write: Write, *, force: bool) -> None:
        """Each attachment's generation tells when its export has the new keys.

        The host's row is written too, so that no attachment is made meanwhile.
        """
        name = host.value.name
        attached = self._store.list(ATTACHMENTS, where={"host_id": host.value.id})
        if attached and not force:
            raise ConflictError(
                f"volumes are attached to host {name}, and with another key than it has it would lose them when it"
                " reconnects; detach them first, or force it and attach them again on the host at once"
            )
        expected = {Key(ATTACHMENTS.name, row.value.id): row.revision for row in attached}
        changed = [
            Put(ATTACHMENTS, replace(row.value, generation=row.value.generation + 1))
            for row in attached
            if not row.value.deleting
        ]
        self._store.transact(
            {Key(HOSTS.name, host.value.id): host.revision, **expected},
            [write, Put(HOSTS, host.value), *changed],
        )
