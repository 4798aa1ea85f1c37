"""What a host needs to reach an export, and the one codec for the keys under which clients know it."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from weft.errors import InvalidValueError
from weft.model import AddressFamily, AttachmentId, Protocol, StateStatus, Transport, VolumeId
from weft.names import check_address, check_nqn, check_port

ANY_HOST = "ALL"
"""OpenSDS's word for an export that lets in every host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmeofPortal:
    """Where an NVM subsystem can be reached: transport, address without brackets, and service id (port)."""

    transport: Transport
    address: str
    port: int

    @property
    def family(self) -> AddressFamily:
        return AddressFamily.IPV6 if ipaddress.ip_address(self.address).version == 6 else AddressFamily.IPV4

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmeofConnection:
    """A subsystem that holds one volume, the portals that lead to it, and the host NQN that it lets in."""

    volume_id: VolumeId
    nqn: str
    portals: tuple[NvmeofPortal, ...]
    host_nqn: str

    @property
    def protocol(self) -> Protocol:
        return Protocol.NVMEOF


Connection = NvmeofConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentState:
    """An attachment as the node found it; connection is there once the host can use it."""

    id: AttachmentId
    volume_id: VolumeId
    status: StateStatus
    generation: int
    connection: Connection | None = None
    reason: str = ""


def to_data(connection: Connection) -> dict[str, object]:
    """The connection under the design's keys, OpenSDS's later ones and os-brick's, side by side.

    Clients pick the keys that they know and ignore the rest. The misspelt `transporType` is OpenSDS's.
    """
    first = connection.portals[0]
    return {
        "targetDiscovered": True,
        "targetNqn": connection.nqn,
        "targetPortal": str(first),
        "transporType": first.transport.value,
        "volumeId": connection.volume_id,
        "targetNQN": connection.nqn,
        "targetIP": first.address,
        "targetPort": str(first.port),
        "hostNqn": connection.host_nqn,
        "discard": False,
        "target_nqn": connection.nqn,
        "vol_uuid": connection.volume_id,
        "host_nqn": connection.host_nqn,
        "portals": [
            [portal.address, str(portal.port), portal.transport.value] for portal in connection.portals
        ],
    }


def from_data(data: Mapping[str, object]) -> Connection:
    """Read a connection written by to_data, by OpenSDS or for os-brick.

    Raises InvalidValueError naming the key that is missing or wrong.
    """
    nqn = _text(data, "targetNqn", "targetNQN", "target_nqn", "nqn")
    check_nqn("targetNqn", nqn)
    volume_id = _text(data, "volumeId", "vol_uuid", "volume_nguid", default=nqn.rsplit(":", 1)[-1])
    return NvmeofConnection(
        volume_id=VolumeId(volume_id),
        nqn=nqn,
        portals=_portals(data),
        host_nqn=_text(data, "hostNqn", "host_nqn", default=ANY_HOST),
    )


def _portals(data: Mapping[str, object]) -> tuple[NvmeofPortal, ...]:
    listed = data.get("portals")
    if isinstance(listed, list | tuple) and listed:
        return tuple(_portal_from_triple(each) for each in listed)
    transport = _text(data, "transporType", "transportType", "transport_type", default=Transport.TCP.value)
    if "targetIP" in data:
        return (_portal(_text(data, "targetIP"), _text(data, "targetPort"), transport),)
    address, _, port = _text(data, "targetPortal", "target_portal").rpartition(":")
    return (_portal(address.strip("[]"), port, transport),)


def _portal_from_triple(triple: object) -> NvmeofPortal:
    if not isinstance(triple, list | tuple) or len(triple) != 3:
        raise InvalidValueError("portals", f"each must be [address, port, transport], not {triple!r}")
    address, port, transport = triple
    return _portal(str(address), str(port), str(transport))


def _portal(address: str, port: str, transport: str) -> NvmeofPortal:
    spelled = {"rocev2": "rdma", "roce": "rdma", "iwarp": "rdma"}.get(transport.lower(), transport.lower())
    if spelled not in set(Transport):
        raise InvalidValueError("transporType", f"{transport!r} is none of {', '.join(Transport)}")
    return NvmeofPortal(
        transport=Transport(spelled),
        address=check_address("targetPortal", address),
        port=check_port("targetPortal", port),
    )


def _text(data: Mapping[str, object], *keys: str, default: str | None = None) -> str:
    for key in keys:
        value = data.get(key)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(int(value))
        if value is not None and value != "":
            raise InvalidValueError(key, f"must be a string, not {type(value).__name__}")
    if default is None:
        raise InvalidValueError(keys[0], "is missing from the connection information")
    return default
