"""Pools on the wire."""

from enum import StrEnum

import msgspec

from weft.model import NodeId, Pool, PoolId, Protocol, Provisioning, StateStatus, StorageType
from weft.views import PoolView
from weft.wire.base import Resource, format_time, parse_creation_time, parse_time, whole_gib

_AVAILABLE = "available"
_UNAVAILABLE = "unavailable"


class ProvisioningPolicy(StrEnum):
    THIN = "Thin"
    THICK = "Thick"


class DataStorage(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    provisioning_policy: ProvisioningPolicy | None = None
    compression: bool
    deduplication: bool


class IoConnectivity(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    access_protocol: Protocol | None = None


class DataProtection(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    is_isolated: bool


class Extras(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    data_storage: DataStorage
    io_connectivity: IoConnectivity
    data_protection: DataProtection
    advanced: dict[str, str] = msgspec.field(default_factory=dict)


class PoolResource(Resource, kw_only=True):
    """Capacities are whole GiB, rounded down: freeCapacity is what can still be promised. weft adds the same to the
    byte (totalBytes, freeBytes and bookedBytes of real storage), overCommit and statusReason.
    """

    name: str = ""
    description: str = ""
    status: str = ""
    dock_id: str = ""
    availability_zone: str = ""
    total_capacity: int = 0
    free_capacity: int = 0
    consumed_capacity: int = 0
    multi_attach: bool
    storage_type: StorageType
    extras: Extras
    total_bytes: int = 0
    free_bytes: int = 0
    booked_bytes: int = 0
    over_commit: float = 1.0
    status_reason: str = ""

    @classmethod
    def of(cls, view: PoolView) -> "PoolResource":
        pool = view.pool
        return cls(
            id=pool.id,
            created_at=format_time(pool.created_at),
            updated_at=format_time(pool.updated_at),
            name=pool.name,
            description=pool.description,
            status=_AVAILABLE if view.status is StateStatus.AVAILABLE else _UNAVAILABLE,
            dock_id=pool.node_id,
            availability_zone=pool.availability_zone,
            total_capacity=whole_gib(view.total),
            free_capacity=whole_gib(view.room),
            consumed_capacity=whole_gib(view.booked),
            multi_attach=pool.multi_attach,
            storage_type=pool.storage_type,
            extras=Extras(
                data_storage=DataStorage(
                    provisioning_policy=ProvisioningPolicy[pool.provisioning.name],
                    compression=False,
                    deduplication=False,
                ),
                io_connectivity=IoConnectivity(access_protocol=pool.protocol),
                data_protection=DataProtection(is_isolated=False),
                advanced=dict(pool.capabilities),
            ),
            total_bytes=view.total,
            free_bytes=view.free,
            booked_bytes=view.booked,
            over_commit=pool.over_commit,
            status_reason=view.reason,
        )

    def view(self) -> PoolView:
        storage = self.extras.data_storage
        return PoolView(
            pool=Pool(
                id=PoolId(self.id),
                created_at=parse_creation_time(self.created_at),
                updated_at=parse_time(self.updated_at),
                name=self.name,
                description=self.description,
                node_id=NodeId(self.dock_id),
                availability_zone=self.availability_zone,
                storage_type=self.storage_type,
                protocol=self.extras.io_connectivity.access_protocol or Protocol.ISCSI,
                multi_attach=self.multi_attach,
                provisioning=Provisioning[(storage.provisioning_policy or ProvisioningPolicy.THIN).name],
                over_commit=self.over_commit,
                capabilities=self.extras.advanced,
            ),
            status=self._state_status(),
            total=self.total_bytes,
            free=self.free_bytes,
            booked=self.booked_bytes,
            reason=self.status_reason,
        )

    def _state_status(self) -> StateStatus:
        if self.status == _AVAILABLE:
            return StateStatus.AVAILABLE
        return StateStatus.ERROR if self.status_reason else StateStatus.PENDING
