"""Hosts on the wire."""

import msgspec

from weft.errors import InvalidValueError
from weft.model import Host, HostId, Initiator, Protocol, TenantId
from weft.requests import HostRequest
from weft.wire.base import Body, Resource, Whole, format_time, parse_creation_time, parse_time


class InitiatorObject(msgspec.Struct, kw_only=True, rename="camel"):
    port_name: str = ""
    protocol: str = ""

    @classmethod
    def of(cls, initiator: Initiator) -> "InitiatorObject":
        return cls(port_name=initiator.port_name, protocol=initiator.protocol.value)

    def initiator(self) -> Initiator:
        if self.protocol not in set(Protocol):
            raise InvalidValueError(
                "initiators.protocol", f"{self.protocol[:64]!r} is none of {', '.join(Protocol)}"
            )
        return Initiator(port_name=self.port_name, protocol=Protocol(self.protocol))


class HostBody(Body, kw_only=True):
    """A password that clients send is ignored: weft never logs in to a host."""

    host_name: str = ""
    os_type: str = ""
    access_mode: str = ""
    ip: str = ""
    port: Whole = 0
    username: str = ""
    availability_zones: list[str] = msgspec.field(default_factory=list)
    initiators: list[InitiatorObject] = msgspec.field(default_factory=list)

    @classmethod
    def of(cls, request: HostRequest) -> "HostBody":
        return cls(
            host_name=request.name,
            os_type=request.os_type,
            access_mode=request.access_mode,
            ip=request.ip,
            port=request.port,
            username=request.username,
            availability_zones=list(request.availability_zones),
            initiators=[InitiatorObject.of(each) for each in request.initiators],
        )

    def request(self) -> HostRequest:
        return HostRequest(
            name=self.host_name,
            os_type=self.os_type,
            access_mode=self.access_mode,
            ip=self.ip,
            port=self.port,
            username=self.username,
            availability_zones=tuple(self.availability_zones),
            initiators=tuple(each.initiator() for each in self.initiators),
        )


class HostResource(Resource, kw_only=True):
    tenant_id: str = ""
    user_id: str = ""
    host_name: str = ""
    os_type: str = ""
    access_mode: str = ""
    ip: str = ""
    port: int = 0
    username: str = ""
    availability_zones: list[str]
    initiators: list[InitiatorObject]

    @classmethod
    def of(cls, host: Host) -> "HostResource":
        return cls(
            id=host.id,
            created_at=format_time(host.created_at),
            updated_at=format_time(host.updated_at),
            tenant_id=host.tenant_id,
            user_id=host.user_id,
            host_name=host.name,
            os_type=host.os_type,
            access_mode=host.access_mode,
            ip=host.ip,
            port=host.port,
            username=host.username,
            availability_zones=list(host.availability_zones),
            initiators=[InitiatorObject.of(each) for each in host.initiators],
        )

    def host(self) -> Host:
        return Host(
            id=HostId(self.id),
            created_at=parse_creation_time(self.created_at),
            updated_at=parse_time(self.updated_at),
            tenant_id=TenantId(self.tenant_id),
            user_id=self.user_id,
            name=self.host_name,
            os_type=self.os_type,
            access_mode=self.access_mode,
            ip=self.ip,
            port=self.port,
            username=self.username,
            availability_zones=tuple(self.availability_zones),
            initiators=tuple(each.initiator() for each in self.initiators),
        )
