"""Hosts: the machines that volumes can be attached to, each with an identity that no other has."""

from dataclasses import replace

from weft.control.rows import claims, now, owned, owned_rows, retry_on_conflict
from weft.control.tokens import bind_token
from weft.errors import ConflictError, InvalidValueError
from weft.model import Host, HostId, Initiator, Protocol
from weft.names import check_address, check_host_name, check_name, check_nqn, check_port, check_text, new_id
from weft.ports import ATTACHMENTS, HOST_SECRETS, HOSTS, Delete, Key, Put, Store
from weft.requests import Caller, HostRequest

_MAXIMUM_INITIATORS = 64
_OS_TYPES = frozenset({"linux", "windows", "esxi"})
_ACCESS_MODES = frozenset({"agent", "agentless"})


class Hosts:
    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, caller: Caller, request: HostRequest) -> Host:
        """Register a host. Raises ConflictError when its name or one of its initiators belongs to another.

        A caller who acts for one host registers that host alone; else PermissionDeniedError.
        """
        _check(request)

        host = Host(
            id=HostId(new_id()),
            tenant_id=caller.tenant_id,
            user_id=caller.user_id,
            name=check_host_name("hostName", request.name),
            created_at=now(),
            os_type=request.os_type or "linux",
            access_mode=request.access_mode or "agentless",
            ip=request.ip,
            port=request.port,
            username=request.username,
            availability_zones=request.availability_zones or ("default",),
            initiators=request.initiators,
        )

        def attempt() -> Host:
            expected, writes = claims(self._store, host.id, _claims(host))
            of_token, binding = bind_token(self._store, caller, host)
            self._store.transact({**expected, **of_token}, [Put(HOSTS, host), *writes, *binding])
            return host

        return retry_on_conflict(attempt)

    def get(self, caller: Caller, host_id: HostId) -> Host:
        return owned(self._store, HOSTS, caller, host_id, "host").value

    def list(self, caller: Caller) -> list[Host]:
        return owned_rows(self._store, HOSTS, caller)

    def update(self, caller: Caller, host_id: HostId, request: HostRequest) -> Host:
        """Change what the request gives. Initiators cannot change while volumes are attached."""
        _check(request)

        def attempt() -> Host:
            row = owned(self._store, HOSTS, caller, host_id, "host")
            before = row.value
            changed = replace(
                before,
                name=check_host_name("hostName", request.name or before.name),
                os_type=request.os_type or before.os_type,
                access_mode=request.access_mode or before.access_mode,
                ip=request.ip or before.ip,
                port=request.port or before.port,
                username=request.username or before.username,
                availability_zones=request.availability_zones or before.availability_zones,
                initiators=request.initiators or before.initiators,
                updated_at=now(),
            )
            if changed.initiators != before.initiators:  # their order too: the first one is let in
                self._refuse_while_attached(before)
            expected, writes = claims(self._store, host_id, _claims(changed), _claims(before))
            expected[Key(HOSTS.name, host_id)] = row.revision
            self._store.transact(expected, [Put(HOSTS, changed), *writes])
            return changed

        return retry_on_conflict(attempt)

    def delete(self, caller: Caller, host_id: HostId) -> None:
        """Forget a host. Raises ConflictError while volumes are attached to it."""

        def attempt() -> None:
            row = owned(self._store, HOSTS, caller, host_id, "host")
            self._refuse_while_attached(row.value)
            key = Key(HOSTS.name, host_id)
            _, writes = claims(self._store, host_id, {}, _claims(row.value))
            secrets = Delete(Key(HOST_SECRETS.name, host_id))
            self._store.transact({key: row.revision}, [Delete(key), secrets, *writes])

        retry_on_conflict(attempt)

    def _refuse_while_attached(self, host: Host) -> None:
        if self._store.list(ATTACHMENTS, where={"host_id": host.id}, limit=1):
            raise ConflictError(f"some volumes are attached to host: {host.name}, please detach them first")


def _claims(host: Host) -> dict[str, str]:
    wanted = {f"host:{host.name}": f"the host with name {host.name} already exists in the system"}
    for each in host.initiators:
        wanted[f"initiator:{each.port_name}"] = (
            f"initiators: {each.port_name} already belongs to another host; two hosts with one identity would both"
            " write to each other's volumes (a cloned image? give this host an identity of its own)"
        )
    return wanted


def _check(request: HostRequest) -> None:
    if request.os_type and request.os_type not in _OS_TYPES:
        raise InvalidValueError("osType", f"{request.os_type!r} is none of {', '.join(sorted(_OS_TYPES))}")
    if request.access_mode and request.access_mode not in _ACCESS_MODES:
        raise InvalidValueError("accessMode", f"{request.access_mode!r} is neither agent nor agentless")
    if request.ip:
        check_address("ip", request.ip)
    if request.port:
        check_port("port", request.port)
    check_text("username", request.username, maximum=255)
    for zone in request.availability_zones:
        check_name("availabilityZones", zone)
    if len(request.initiators) > _MAXIMUM_INITIATORS:
        raise InvalidValueError("initiators", f"a host has at most {_MAXIMUM_INITIATORS}")
    for initiator in request.initiators:
        _check_initiator(initiator)


def _check_initiator(initiator: Initiator) -> None:
    if initiator.protocol is Protocol.NVMEOF:
        check_nqn("initiators.portName", initiator.port_name)
    elif not initiator.port_name:
        raise InvalidValueError("initiators.portName", "must not be empty")
    else:
        check_text("initiators.portName", initiator.port_name, maximum=223)
