"""What a host needs to reach an export, and the one codec for the keys under which clients know it."""

import ipaddress
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from weft.errors import InvalidValueError
from weft.model import (
    AddressFamily,
    AttachmentId,
    DhChapSecrets,
    Protocol,
    StateStatus,
    Transport,
    VolumeId,
)
from weft.names import check_address, check_nqn, check_port

_ADDRESS_AND_PORT = re.compile(r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<v4>[^:\[\]]+)):(?P<port>[0-9]+)")

ANY_HOST = "ALL"
"""OpenSDS's word for an export that lets in every host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmeofPortal:
    """Where an NVM subsystem can be reached: transport, address without brackets, and service id (port).

    The loop transport leads to the node's own subsystems and has neither address nor port: see LOOP_PORTAL.
    """

    transport: Transport
    address: str
    port: int

    @property
    def family(self) -> AddressFamily:
        """Not for the loop transport, which has no address."""
        return AddressFamily.IPV6 if ipaddress.ip_address(self.address).version == 6 else AddressFamily.IPV4

    @property
    def endpoint(self) -> str:
        """`address:port`, an IPv6 address in brackets; empty for the loop transport."""
        if self.transport is Transport.LOOP:
            return ""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self.port}"

    def __str__(self) -> str:
        """As the configuration names it: `192.0.2.1:4420`, `rdma://192.0.2.1:4420`, `loop`."""
        match self.transport:
            case Transport.TCP:
                return self.endpoint
            case Transport.LOOP:
                return Transport.LOOP.value
            case _:
                return f"{self.transport.value}://{self.endpoint}"


LOOP_PORTAL = NvmeofPortal(transport=Transport.LOOP, address="", port=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmeofConnection:
    """A subsystem that holds one volume, the portals that lead to it, and the host NQN that it lets in.

    secrets are only there for a host that must authenticate and was allowed to read them: no row holds them, and
    targets leave them out of the connections that they return.
    """

    volume_id: VolumeId
    nqn: str
    portals: tuple[NvmeofPortal, ...]
    host_nqn: str
    secrets: DhChapSecrets | None = field(default=None, repr=False)

    @property
    def protocol(self) -> Protocol:
        return Protocol.NVMEOF


Connection = NvmeofConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentState:
    """An attachment as the node found it; connection is there once the host can use it, and never holds secrets."""

    id: AttachmentId
    volume_id: VolumeId
    status: StateStatus
    generation: int
    connection: Connection | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if self.connection is not None and self.connection.secrets is not None:
            object.__setattr__(self, "connection", replace(self.connection, secrets=None))


def to_data(connection: Connection) -> dict[str, object]:
    """The connection under the design's keys, OpenSDS's later ones and os-brick's, side by side.

    Clients pick the keys that they know and ignore the rest. The misspelt `transporType` is OpenSDS's. Keys for
    DH-HMAC-CHAP are there only when the connection holds them.
    """
    first = min(connection.portals, key=lambda portal: portal.transport is Transport.LOOP)
    return {
        "targetDiscovered": True,
        "targetNqn": connection.nqn,
        "targetPortal": first.endpoint,
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
        **_secrets_to_data(connection.secrets),
    }


def from_data(data: Mapping[str, object]) -> Connection:
    """Read a connection written by to_data, by OpenSDS or for os-brick.

    Raises InvalidValueError naming the key that is missing or wrong.
    """
    nqn = check_nqn("targetNqn", _text(data, "targetNqn", "targetNQN", "target_nqn", "nqn"))
    host_nqn = _text(data, "hostNqn", "host_nqn", default=ANY_HOST)
    return NvmeofConnection(
        volume_id=_volume_id(data, nqn),
        nqn=nqn,
        portals=_portals(data),
        host_nqn=host_nqn if host_nqn == ANY_HOST else check_nqn("hostNqn", host_nqn),
        secrets=_secrets(data),
    )


def _secrets_to_data(secrets: DhChapSecrets | None) -> dict[str, object]:
    if secrets is None:
        return {}
    data: dict[str, object] = {"dhchapSecret": secrets.host_key}
    if secrets.controller_key is not None:
        data["dhchapCtrlSecret"] = secrets.controller_key
    return data


def _secrets(data: Mapping[str, object]) -> DhChapSecrets | None:
    host_key, controller_key = data.get("dhchapSecret"), data.get("dhchapCtrlSecret")
    if not host_key and not controller_key:
        return None
    if not isinstance(host_key, str) or not host_key:
        raise InvalidValueError("dhchapSecret", "is not a string")  # without the value: it may hold the key
    if controller_key is not None and not isinstance(controller_key, str):
        raise InvalidValueError("dhchapCtrlSecret", "is not a string")
    return DhChapSecrets(host_key=host_key, controller_key=controller_key or None)


def _volume_id(data: Mapping[str, object], nqn: str) -> VolumeId:
    """The volume's id as weft writes ids; where only the nguid or the NQN tells it, from there."""
    value = _text(data, "volumeId", "vol_uuid", "volume_nguid", default=nqn.rpartition(":")[2])
    try:
        return VolumeId(str(uuid.UUID(value)))
    except ValueError:
        raise InvalidValueError("volumeId", f"{value!r} is not a UUID") from None


def _portals(data: Mapping[str, object]) -> tuple[NvmeofPortal, ...]:
    listed = data.get("portals") or ()
    if not isinstance(listed, list | tuple):
        raise InvalidValueError("portals", f"must be a list of [address, port, transport], not {listed!r}")
    if listed:
        return tuple(_portal_from_triple(each) for each in listed)
    transport = _text(data, "transporType", "transportType", "transport_type", default=Transport.TCP.value)
    if transport.lower() == Transport.LOOP:
        return (LOOP_PORTAL,)
    if "targetIP" in data:
        return (_portal("targetIP", _text(data, "targetIP"), _text(data, "targetPort"), transport),)
    if "target_port" in data:
        address, port = _text(data, "target_portal"), _text(data, "target_port")
        return (_portal("target_portal", address, port, transport),)
    portal = _text(data, "targetPortal", "target_portal")
    matched = _ADDRESS_AND_PORT.fullmatch(portal)
    if matched is None:
        raise InvalidValueError(
            "targetPortal", f"{portal!r} is not address:port, such as 192.0.2.1:4420 or [2001:db8::1]:4420"
        )
    return (_portal("targetPortal", matched["v6"] or matched["v4"], matched["port"], transport),)


def _portal_from_triple(triple: object) -> NvmeofPortal:
    if not isinstance(triple, list | tuple) or len(triple) != 3:
        raise InvalidValueError("portals", f"each must be [address, port, transport], not {triple!r}")
    address, port, transport = (_as_text("portals", each) for each in triple)
    return _portal("portals", address, port, transport)


def _portal(field: str, address: str, port: str, transport: str) -> NvmeofPortal:
    spelled = {"rocev2": "rdma", "roce": "rdma", "iwarp": "rdma"}.get(transport.lower(), transport.lower())
    if spelled == Transport.LOOP:
        return LOOP_PORTAL
    if spelled not in {Transport.TCP, Transport.RDMA}:
        raise InvalidValueError("transporType", f"{transport!r} is none of tcp, rdma and loop")
    return NvmeofPortal(
        transport=Transport(spelled), address=check_address(field, address), port=check_port(field, port)
    )


def _text(data: Mapping[str, object], *keys: str, default: str | None = None) -> str:
    for key in keys:
        value = data.get(key)
        if value is not None and value != "":
            return _as_text(key, value)
    if default is None:
        raise InvalidValueError(keys[0], "is missing from the connection information")
    return default


def _as_text(key: str, value: object) -> str:
    """Text as it is, whole numbers as text: JSON from Go may carry them as floats."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise InvalidValueError(key, f"must be a string, not {value!r}")
