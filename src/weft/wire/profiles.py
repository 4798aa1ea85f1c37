"""Profiles on the wire."""

from collections.abc import Iterator, Mapping

import msgspec

from weft.errors import InvalidValueError, UnsupportedError
from weft.model import Profile, ProfileId, Protocol, StorageType
from weft.requests import ProfileRequest
from weft.wire.base import Body, Resource, format_time, parse_creation_time, parse_time
from weft.wire.codec import decode_body, encode
from weft.wire.pools import DataStorage, IoConnectivity

_ACCESS_PROTOCOL = "provisioningProperties.ioConnectivity.accessProtocol"
_DEEPEST = 8


class ProfileBody(Body, kw_only=True):
    """OpenSDS's property groups are read for accessProtocol; anything else that they ask for is refused, for a
    volume that silently lacks it would be worse.
    """

    name: str = ""
    description: str = ""
    storage_type: str = ""
    provisioning_properties: dict[str, object] = msgspec.field(default_factory=dict)
    replication_properties: dict[str, object] = msgspec.field(default_factory=dict)
    snapshot_properties: dict[str, object] = msgspec.field(default_factory=dict)
    data_protection_properties: dict[str, object] = msgspec.field(default_factory=dict)
    custom_properties: dict[str, object] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, request: ProfileRequest) -> "ProfileBody":
        protocol = request.access_protocol
        return cls(
            name=request.name,
            description=request.description,
            storage_type=request.storage_type,
            provisioning_properties={"ioConnectivity": {"accessProtocol": protocol.value}}
            if protocol
            else {},
            custom_properties=dict(request.custom_properties),
        )

    def request(self) -> ProfileRequest:
        return ProfileRequest(
            name=self.name,
            description=self.description,
            storage_type=self.storage_type,
            access_protocol=self._access_protocol(),
            custom_properties=printed_properties(self.custom_properties),
        )

    def _access_protocol(self) -> Protocol | None:
        groups = {
            "provisioningProperties": self.provisioning_properties,
            "replicationProperties": self.replication_properties,
            "snapshotProperties": self.snapshot_properties,
            "dataProtectionProperties": self.data_protection_properties,
        }
        protocol = None
        for path, value in _asked_for(groups):
            if path.lower() != _ACCESS_PROTOCOL.lower():
                raise UnsupportedError(
                    f"{path}: weft does not choose pools by it; ask for it as customProperties capabilities:<key>"
                )
            if not isinstance(value, str) or value not in set(Protocol):
                raise InvalidValueError(_ACCESS_PROTOCOL, f"is none of {', '.join(Protocol)}")
            protocol = Protocol(value)
        return protocol


class Provisioning(msgspec.Struct, kw_only=True, rename="camel"):
    data_storage: DataStorage
    io_connectivity: IoConnectivity


class ProfileResource(Resource, kw_only=True):
    name: str = ""
    description: str = ""
    storage_type: StorageType
    provisioning_properties: Provisioning
    replication_properties: dict[str, object]
    snapshot_properties: dict[str, object]
    data_protection_properties: dict[str, object]
    custom_properties: dict[str, str] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, profile: Profile) -> "ProfileResource":
        return cls(
            id=profile.id,
            created_at=format_time(profile.created_at),
            updated_at=format_time(profile.updated_at),
            name=profile.name,
            description=profile.description,
            storage_type=profile.storage_type,
            provisioning_properties=Provisioning(
                data_storage=DataStorage(compression=False, deduplication=False),
                io_connectivity=IoConnectivity(access_protocol=profile.access_protocol),
            ),
            replication_properties={"dataProtection": {"isIsolated": False}, "replicaInfos": {}},
            snapshot_properties={"schedule": {}, "retention": {}, "topology": {}},
            data_protection_properties={"dataProtection": {"isIsolated": False}},
            custom_properties=dict(profile.custom_properties),
        )

    def profile(self) -> Profile:
        return Profile(
            id=ProfileId(self.id),
            created_at=parse_creation_time(self.created_at),
            updated_at=parse_time(self.updated_at),
            name=self.name,
            description=self.description,
            storage_type=self.storage_type,
            access_protocol=self.provisioning_properties.io_connectivity.access_protocol,
            custom_properties=self.custom_properties,
        )


def decode_properties(body: bytes) -> dict[str, str]:
    """Custom properties by themselves, as they are added to a profile."""
    return printed_properties(decode_body(body, dict[str, object]))


def printed_properties(properties: Mapping[str, object]) -> dict[str, str]:
    """Numbers and booleans as they are written in JSON. Raises InvalidValueError for lists and objects."""
    return {key: _printed(key, value) for key, value in properties.items()}


def _printed(key: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return encode(value).decode()
    raise InvalidValueError(f"customProperties.{key[:64]}", "must be a string")


def _asked_for(value: object, path: str = "", depth: int = 0) -> Iterator[tuple[str, object]]:
    """The leaves that say something, each with its path: not zero, empty, false or null, as clients fill in."""
    if isinstance(value, dict) and depth < _DEEPEST:
        for key, each in value.items():
            yield from _asked_for(each, f"{path}.{key[:64]}" if path else key[:64], depth + 1)
    elif value:
        yield path, value
