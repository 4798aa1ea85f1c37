"""What every check goes by: the machine, its configuration, and what serves and attaches there."""

from dataclasses import dataclass
from functools import cached_property

from weft.config import Config, ConnectorKind, TargetKind
from weft.doctor.machine import Machine
from weft.model import Transport


@dataclass(frozen=True, kw_only=True)
class Case:
    """config_error: why the configuration was refused, so that config is that of the defaults."""

    machine: Machine
    config: Config
    config_error: str = ""

    @cached_property
    def why_not_nvmet(self) -> str | None:
        """Why the kernel's target cannot be used here; None if it can."""
        return self.machine.why_not_nvmet(self.config)

    @cached_property
    def why_not_kernel(self) -> str | None:
        """Why the kernel's host cannot be used here; None if it can."""
        return self.machine.why_not_kernel(self.config)

    @property
    def target_kind(self) -> TargetKind:
        return self.config.target.kind

    @property
    def connector_kind(self) -> ConnectorKind:
        return self.config.host.connector

    @cached_property
    def transports(self) -> frozenset[Transport]:
        """Of the configured portals."""
        return frozenset(portal.transport for portal in self.config.portals())

    @cached_property
    def beyond_embedded_target(self) -> str:
        """What of the configuration the embedded target cannot do, as a clause; empty when it can do all."""
        kernel_only = [str(each) for each in self.config.portals() if each.transport is not Transport.TCP]
        return f"the embedded target does not serve {', '.join(kernel_only)}" if kernel_only else ""

    @property
    def needs_kernel_target(self) -> bool:
        """Whether nothing else than nvmet will do."""
        return self.target_kind is TargetKind.NVMET or (
            self.target_kind is TargetKind.AUTO and bool(self.beyond_embedded_target)
        )

    @property
    def uses_kernel_target(self) -> bool:
        """Whether nvmet serves, or is to."""
        return self.needs_kernel_target or (
            self.target_kind is TargetKind.AUTO and self.why_not_nvmet is None
        )

    @property
    def needs_kernel_host(self) -> bool:
        """FUSE and the embedded host speak tcp alone."""
        return self.connector_kind is ConnectorKind.KERNEL or (
            self.connector_kind is ConnectorKind.AUTO
            and self.config.host.transport in {Transport.RDMA, Transport.LOOP}
        )

    @property
    def uses_kernel_host(self) -> bool:
        return self.needs_kernel_host or (
            self.connector_kind is ConnectorKind.AUTO and self.why_not_kernel is None
        )
