"""Making and ending the kernel's controllers, which are the paths to a volume."""

import logging
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from weft.config import HostSection
from weft.connection import NvmeofConnection, NvmeofPortal
from weft.connectors.fabrics import ConnectRequest, Fabrics
from weft.connectors.portal_choice import reachable
from weft.connectors.sysfs import Controller, Sysfs, wait_for
from weft.errors import ConflictError, PermissionDeniedError, UnavailableError, WeftError
from weft.model import HostIdentity, VolumeId

_log = logging.getLogger(__name__)

_PROBE_TIMEOUT: Final = 4.0
"""A SYN that is lost is sent again after 1 and after 3 s (RFC 6298)."""
_GONE_TIMEOUT: Final = 10.0
_END_TIMEOUT: Final = 75.0
"""The kernel gives a controller that does not answer 60 s to shut down (NVME_ADMIN_TIMEOUT)."""


def require_one_identity(controllers: Iterable[Controller], identity: HostIdentity) -> None:
    """Raises ConflictError when the kernel knows this host's NQN with another identifier, or the other way round.

    From 6.12 on the kernel refuses such a connection with EINVAL; with older ones a target takes one host for two.
    """
    for each in controllers:
        if each.host_id and (each.host_nqn == identity.nqn) != (each.host_id.lower() == identity.id):
            raise ConflictError(
                f"this host is {identity.nqn} with the identifier {identity.id}, but the kernel's connection {each.name}"
                f" to {each.nqn} goes by {each.host_nqn} with {each.host_id}; a machine has one identity: disconnect"
                f" {each.name}, or make /etc/nvme/hostnqn and /etc/nvme/hostid (or host.nqn and host.id in weft's"
                " configuration) agree with it"
            )


class KernelPaths:
    """The controllers of this host, made and ended by way of the kernel."""

    def __init__(self, sysfs: Sysfs, fabrics: Fabrics) -> None:
        self._sysfs = sysfs
        self._fabrics = fabrics

    def of(self, nqn: str, host_nqn: str) -> list[Controller]:
        """This host's controllers of a subsystem, those on their way out left aside."""
        return [
            each for each in self._sysfs.controllers(nqn) if each.host_nqn == host_nqn and not each.ending
        ]

    def add(
        self,
        connection: NvmeofConnection,
        portals: Sequence[NvmeofPortal],
        identity: HostIdentity,
        host: HostSection,
    ) -> None:
        """Have a controller for each of the portals, the best first; without native multipath one for all.

        A controller with other keys than the connection's does not count, see replaced. A portal that fails while
        another works is left out, and the log tells of it. When none works the error is the most telling one.
        """
        self._wait_for_ending(connection.nqn, identity.nqn)
        existing = self.of(connection.nqn, identity.nqn)
        if existing and not self._sysfs.native_multipath():
            return
        stale = self._stale(connection, existing)
        there = {each.portal for each in existing if each not in stale}
        missing = [portal for portal in portals if portal not in there]
        candidates = reachable(missing, _PROBE_TIMEOUT) if len(portals) > 1 else tuple(missing)
        if not candidates and not there:
            candidates = tuple(missing)  # the kernel waits longer than the probe, as a busy network may need
        silent: dict[NvmeofPortal, WeftError] = {
            portal: UnavailableError(f"{connection.nqn} at {portal} does not answer")
            for portal in missing
            if portal not in candidates
        }
        made, refused = self._connect_in_turn(
            ConnectRequest(
                portal=portal,
                nqn=connection.nqn,
                identity=identity,
                host=host,
                secrets=connection.secrets,
                second=any(each.portal == portal for each in stale),
            )
            for portal in candidates
        )
        failures = silent | refused
        if failures and not (made or there):
            raise _most_telling(failures)
        for failure in failures.values():
            _log.warning("volume %s has one path less: %s", connection.volume_id, failure)

    def replaced(self, connection: NvmeofConnection, host_nqn: str) -> list[Controller]:
        """Controllers with other keys than the connection's, by portals that have one with these keys as well.

        Keys are replaced by a new path beside the old one and not by writing dhchap_secret and dhchap_ctrl_secret in
        sysfs: writing the first of two that have changed begins an authentication that must fail, the target ends the
        controller for it, and Linux 6.12 may then wait for ever (the reset for the authentication, and that for the
        reset).
        """
        existing = self.of(connection.nqn, host_nqn)
        stale = self._stale(connection, existing)
        fresh = {each.portal for each in existing if each not in stale and each.live}
        return [each for each in stale if each.portal in fresh]

    def _stale(self, connection: NvmeofConnection, controllers: Sequence[Controller]) -> list[Controller]:
        if connection.secrets is None:
            return []
        return [each for each in controllers if not self._sysfs.holds(each, connection.secrets)]

    def end(
        self, controllers: Sequence[Controller], volume_id: VolumeId, devices: Collection[str] = ()
    ) -> None:
        """Disconnect controllers, and see that they and the volume's devices are gone.

        Raises UnavailableError if they stay.
        """
        failures: list[WeftError] = []
        threads = [
            threading.Thread(target=self._delete, args=(each, failures), name=f"end {each.name}", daemon=True)
            for each in controllers
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + _END_TIMEOUT
        for thread, controller in zip(threads, controllers, strict=True):
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                raise UnavailableError(
                    f"the kernel is still disconnecting {controller.name} from {controller.nqn} after"
                    f" {_END_TIMEOUT:g} s; detach again later"
                )
        if failures:
            raise failures[0]
        left = self._wait_until_gone(controllers, volume_id, devices)
        if left:
            raise UnavailableError(
                f"{' and '.join(left)} did not go within {_GONE_TIMEOUT:g} s after being disconnected; the kernel's log"
                " may tell why (dmesg)"
            )

    def _connect_in_turn(
        self, requests: Iterable[ConnectRequest]
    ) -> tuple[bool, dict[NvmeofPortal, WeftError]]:
        """Whether one has a controller now, which without native multipath is enough; and why others have none."""
        made, failures = False, dict[NvmeofPortal, WeftError]()
        for request in requests:
            try:
                self._connect(request)
            except (UnavailableError, PermissionDeniedError) as error:
                failures[request.portal] = error
                continue
            made = True
            if not self._sysfs.native_multipath():  # asked here: the first may have loaded the module
                break
        return made, failures

    def _connect(self, request: ConnectRequest) -> None:
        try:
            self._fabrics.connect(request)
        except ConflictError:  # by somebody else in this very moment, or by another spelling of the address
            if not self.of(request.nqn, request.identity.nqn):
                raise

    def _delete(self, controller: Controller, failures: list[WeftError]) -> None:
        try:
            self._sysfs.delete(controller)
        except WeftError as error:
            failures.append(error)

    def _wait_for_ending(self, nqn: str, host_nqn: str) -> None:
        """A connection that is being ended is in the way of a new one."""

        def none_left() -> bool | None:
            found = self._sysfs.controllers(nqn)
            return None if any(each.ending and each.host_nqn == host_nqn for each in found) else True

        if wait_for(none_left, _GONE_TIMEOUT) is None:
            raise UnavailableError(f"an earlier connection to {nqn} is still being ended; try again later")

    def _wait_until_gone(
        self, controllers: Sequence[Controller], volume_id: VolumeId, devices: Collection[str]
    ) -> list[str]:
        """What is left at the end."""
        left: list[str] = []

        def none_left() -> bool | None:
            left[:] = [
                *(each.name for each in controllers if self._sysfs.has(each)),
                *(f"/dev/{each}" for each in devices if self._sysfs.shows(each, volume_id)),
            ]
            return None if left else True

        wait_for(none_left, _GONE_TIMEOUT)
        return left


def _most_telling(failures: Mapping[NvmeofPortal, WeftError]) -> WeftError:
    """A refusal says more than silence; of several alike the best portal's."""
    refusals = [each for each in failures.values() if isinstance(each, PermissionDeniedError)]
    if refusals:
        return refusals[0]
    return UnavailableError("; ".join(str(each) for each in failures.values()))
