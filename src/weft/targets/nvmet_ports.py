"""The portals of the kernel's target: nvmet's ports, and the links that show subsystems there.

A port listens from its first link on. So a port that has none is opened with all its links in one burst, see Gate.
What cannot be opened yet, because its address or RDMA device is not there, is tried again.
"""

import errno
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from weft.config import PortalSection
from weft.connection import NvmeofPortal
from weft.errors import WeftError
from weft.model import Transport
from weft.targets.configfs import PRIVATE, Configfs, ConfigfsError
from weft.targets.nvmet_gate import Gate, KeptGate
from weft.targets.nvmet_port import (
    PORTS,
    address_of,
    find_ports,
    free_port_id,
    port_path,
    portal_at,
    wanted_options,
    write_address,
    write_options,
)
from weft.targets.nvmet_restore import Restore
from weft.targets.nvmet_tree import SUBSYSTEMS, subsystem_path

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Port:
    """A configured portal and its port. id is None until there is one; is_open: it is known to listen.

    was_heard: since it was opened it was seen to listen. was_deaf: when last looked at it was not, though it is open.
    was_reopened: it was opened anew for that, and was not heard since. others: what somebody else showed by it before.
    """

    portal: NvmeofPortal
    options: PortalSection
    id: str | None = None
    is_open: bool = False
    was_heard: bool = False
    was_deaf: bool = False
    was_reopened: bool = False
    others: Sequence[str] = ()
    trouble: str = ""

    @property
    def path(self) -> str:
        return f"{PORTS}/{self.id}"

    def link_path(self, nqn: str) -> str:
        return f"{PORTS}/{self.id}/subsystems/{nqn}"


class NvmetPorts:
    """The ports of the configured portals. Safe to use from any thread.

    prepare is called, by several threads, before a port is made, and raises when the transport's module cannot be had.
    restore tells which subsystems are to be shown; lost is told which of them somebody has taken away, and no port
    opens then.
    """

    def __init__(
        self,
        configfs: Configfs,
        portals: dict[NvmeofPortal, PortalSection],
        gate: Gate,
        prepare: Callable[[Sequence[Transport]], None],
        *,
        restore: Restore,
        lost: Callable[[Sequence[str]], None],
    ) -> None:
        self._configfs = configfs
        self._restore = restore
        self._lost = lost
        self._ports = [_Port(portal, options) for portal, options in portals.items()]
        self._gate = KeptGate(gate)
        self._prepare = prepare
        self._lock = threading.Lock()

    @property
    def portals(self) -> tuple[NvmeofPortal, ...]:
        return tuple(each.portal for each in self._ports)

    def find(self) -> None:
        """Look which ports there are; again after others may have changed them."""
        with self._lock:
            found = find_ports(self._configfs)
            for port in self._ports:
                port.id = found.get(address_of(port.portal))
                port.is_open = port.id is not None and bool(self._configfs.names(f"{port.path}/subsystems"))
                if port.id is not None and not self._configfs.is_private(port.path):
                    _log.info(
                        "portal %s is nvmet's port %s, which weft did not make and shares",
                        port.portal,
                        port.id,
                    )

    def is_shown(self, nqn: str) -> bool:
        """Whether hosts can reach a subsystem, also by a port that is not configured or not weft's."""
        return any(
            self._configfs.exists(f"{PORTS}/{each}/subsystems/{nqn}") for each in self._configfs.names(PORTS)
        )

    def showing(self, nqn: str) -> tuple[NvmeofPortal, ...]:
        """The configured portals that lead to a subsystem."""
        return tuple(
            each.portal
            for each in self._ports
            if each.id is not None and self._configfs.exists(each.link_path(nqn))
        )

    def show(self, nqn: str) -> None:
        """Link a subsystem to every portal; one that does not listen yet is opened, if that was not tried in vain."""
        missing = self._load_modules(again=False)
        with self._lock:
            for port in self._ports:
                if port.is_open and not self._link_or_lose(port, nqn):
                    _log.warning("nvmet's port of portal %s was taken away; it is made anew", port.portal)
                if not port.is_open and not port.trouble:
                    self._try_to_open(port, missing)

    def show_where_open(self, nqn: str) -> None:
        """Link a subsystem to the portals that listen, and leave the others for open()."""
        with self._lock:
            for port in self._ports:
                if port.is_open:
                    self._link_or_lose(port, nqn)

    def open(self) -> None:
        """Have every portal listen that does not yet, with all subsystems at once.

        What keeps one from it is remembered as its trouble, see troubles().
        """
        missing = self._load_modules(again=True)
        with self._lock:
            for port in self._ports:
                if not port.is_open:
                    self._try_to_open(port, missing)
            self._gate.open_again()

    def close_deaf(self, deaf: frozenset[NvmeofPortal]) -> None:
        """Close the RDMA portals at which nvmet has listened no more for two calls, so that open() has it listen again.

        Twice, for nvmet lets go of an RDMA address for a moment when its interface fails over, and of nobody's session.
        One that was never heard may be one that cannot be heard here: that is closed once at most, and only where
        another is heard.
        """
        with self._lock:
            opened = [
                each for each in self._ports if each.is_open and each.portal.transport is Transport.RDMA
            ]
            for port in opened:
                if port.portal not in deaf:
                    port.was_heard, port.was_deaf, port.was_reopened = True, False, False
            can_be_heard = any(not each.was_deaf and each.was_heard for each in opened)
            for port in opened:
                if port.portal not in deaf:
                    continue
                is_lost = port.was_heard or (can_be_heard and not port.was_reopened)
                if not port.was_deaf and not is_lost:
                    _log.warning("nvmet is not seen to listen at portal %s, which is open", port.portal)
                if port.was_deaf and is_lost and self._configfs.is_private(port.path):
                    port.was_reopened = not port.was_heard
                    self._close(port)
                port.was_deaf = port.is_open

    def hide(self, nqn: str) -> None:
        """Unlink a subsystem everywhere, which ends its hosts' sessions. With the last one weft's ports go."""
        with self._lock:
            for port in self._ports:
                if port.id is None:
                    continue
                self._configfs.unlink(port.link_path(nqn))
                if not self._restore.has_ready():
                    self._remove(port)
            for port in self._retired():
                self._configfs.unlink(port.link_path(nqn))
                self._remove(port)

    def hide_all(self, nqns: Sequence[str]) -> None:
        """Unlink subsystems everywhere, and remove the ports that are weft's.

        Behind the gate: a host that finds no portal tries again later, one that finds a portal without its subsystem
        gives up. Raises UnavailableError when the gate stays closed.
        """
        with self._lock:
            for port in [*self._ports, *self._retired()]:
                if port.id is None:
                    continue
                self._gate.close(port.portal)
                for nqn in nqns:
                    self._configfs.unlink(port.link_path(nqn))
                self._remove(port)
            self._gate.open()

    def listening(self) -> tuple[NvmeofPortal, ...]:
        with self._lock:
            return tuple(each.portal for each in self._ports if each.is_open)

    def unopened(self) -> tuple[NvmeofPortal, ...]:
        """The portals that are still to be opened for the first time."""
        with self._lock:
            return tuple(each.portal for each in self._ports if not each.is_open and not each.trouble)

    def pending(self) -> bool:
        """Whether a portal, or the gate before it, could not be opened when it was last tried."""
        with self._lock:
            return bool(self._gate.trouble) or any(each.trouble for each in self._ports)

    def troubles(self) -> dict[NvmeofPortal, str]:
        """Why portals do not listen, by portal; clauses."""
        with self._lock:
            return {each.portal: each.trouble for each in self._ports if each.trouble}

    def notes(self) -> list[str]:
        """What keeps hosts out, and what of the portals' options is not in force; sentences."""
        with self._lock:
            # nvmet changes no option of a port that listens.
            return self._gate.notes() + [
                f"portal {port.portal} has {name} {found}, not {value}; it changes once nothing is exported through it"
                for port in self._ports
                if port.is_open
                for name, value in wanted_options(port.options).items()
                if (found := self._configfs.read(f"{port.path}/{name}")) not in {value, None}
            ]

    def finish(self) -> None:
        """Link what a burst that was broken off by a crash has left out, and open the gate that it left closed."""
        with self._lock:
            if not any(each.is_open for each in self._ports):
                self._gate.look_later()  # nobody can connect as it is, so there is time until one opens
                return
            if not self._gate.was_left_closed():
                return
            for port in self._ports:
                if port.is_open:
                    for nqn in self._restore.ready():
                        self._link(port, nqn)
            self._gate.open_again()

    def _close(self, port: _Port) -> None:
        _log.warning("nvmet listens no more at portal %s; it is opened anew", port.portal)
        ready = frozenset(self._restore.ready())
        try:
            shown = self._configfs.names(f"{port.path}/subsystems")
            port.others = tuple(nqn for nqn in shown if nqn not in ready) or port.others
            for nqn in shown:
                self._configfs.unlink(port.link_path(nqn))
        except ConfigfsError as error:
            _log.warning("portal %s cannot be closed yet: %s; it is tried again", port.portal, error)
            return
        port.is_open = False

    def _link(self, port: _Port, nqn: str) -> None:
        self._configfs.link(subsystem_path(nqn), port.link_path(nqn))

    def _link_or_lose(self, port: _Port, nqn: str) -> bool:
        """Link; whether there was a port to link to."""
        try:
            self._link(port, nqn)
        except ConfigfsError as error:
            if error.code != errno.ENOENT or self._configfs.exists(port.path):
                raise
            port.id, port.is_open = None, False
        return port.is_open

    def _load_modules(self, *, again: bool) -> dict[Transport, WeftError]:
        """Have the modules of portals that are to be opened; what cannot be had. again: also what was tried in vain.

        Without the lock, for a module can take half a minute to load.
        """
        with self._lock:
            closed = [each for each in self._ports if not each.is_open and (again or not each.trouble)]
        missing: dict[Transport, WeftError] = {}
        for transport in {each.portal.transport for each in closed} if self._restore.has_ready() else ():
            try:
                self._prepare([transport])
            except WeftError as error:
                missing[transport] = error
        return missing

    def _try_to_open(self, port: _Port, missing: Mapping[Transport, WeftError]) -> None:
        if not self._restore.is_over():
            return
        nqns = self._restore.ready()
        there = frozenset(self._configfs.names(SUBSYSTEMS))
        gone = [nqn for nqn in nqns if nqn not in there]
        if gone:
            self._lost(gone)
        if gone or not nqns:
            return
        try:
            if (error := missing.get(port.portal.transport)) is not None:
                raise error
            self._make(port)
            self._link_all(port, [*nqns, *(nqn for nqn in port.others if nqn in there)])
        except WeftError as error:
            said = str(error)
            if said != port.trouble:
                _log.warning("portal %s cannot be opened yet: %s", port.portal, said)
            port.trouble = said
            return
        if port.trouble:
            _log.info("portal %s is open", port.portal)
        port.trouble, port.others = "", ()
        port.is_open, port.was_heard, port.was_deaf = True, False, False

    def _link_all(self, port: _Port, nqns: Sequence[str]) -> None:
        """Link all or none: a host that finds a port which lacks its subsystem gives up."""
        if len(nqns) > 1:
            self._gate.close(port.portal)
        try:
            with self._configfs.opened() as configfs:
                for nqn in nqns:
                    configfs.link(subsystem_path(nqn), port.link_path(nqn))
        except ConfigfsError:
            for nqn in nqns:
                self._configfs.unlink(port.link_path(nqn))
            self._gate.open_again()
            raise
        self._gate.open_again()

    def _make(self, port: _Port) -> None:
        found = find_ports(self._configfs)
        port.id = found.get(address_of(port.portal))
        if port.id is None:
            port.id = free_port_id(self._configfs, port.portal)
            self._configfs.make_directory(port.path)
            self._configfs.set_mode(port.path, PRIVATE)
            write_address(self._configfs, port.id, port.portal)
        if self._configfs.is_private(port.path):
            write_options(self._configfs, port.id, port.options)

    def _retired(self) -> list[_Port]:
        """weft's ports of portals that are not configured any more.

        They go on listening, for the hosts that are connected by them, until the volumes they lead to are gone.
        """
        configured = {address_of(each.portal) for each in self._ports}
        return [
            _Port(portal_at(address), PortalSection(), id=port_id)
            for address, port_id in find_ports(self._configfs).items()
            if address[0] and address not in configured and self._configfs.is_private(port_path(port_id))
        ]

    def _remove(self, port: _Port) -> None:
        """Of weft's own, unless something is still linked to it; in somebody else's nothing is changed."""
        if self._configfs.is_private(port.path):
            if not self._configfs.remove_unless_used(port.path):
                return
            port.id = None
            port.is_open = False
        else:
            port.is_open = bool(self._configfs.names(f"{port.path}/subsystems"))
        port.trouble = ""
