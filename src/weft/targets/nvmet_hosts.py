"""Hosts in nvmet: their directories, which all subsystems share, their keys, and how one of them is cut off."""

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from weft.connection import NvmeofPortal
from weft.errors import UnavailableError, UnsupportedError
from weft.model import DhChapSecrets, ExportHost, Transport
from weft.targets.configfs import PRIVATE, PUBLIC, Configfs, ConfigfsError
from weft.targets.nvmet_log import Controller, Sessions
from weft.targets.nvmet_sessions import Probe
from weft.targets.nvmet_tree import (
    Subsystem,
    access_difference,
    allowed_hosts_path,
    apply,
    check_knows_keys,
    host_difference,
    host_path,
    let_in,
    read_host,
    subsystem_path,
)

_log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 0.8
"""Between two questions to nvmet, which writes a line to the kernel's log for each."""
_MOST_PROBED: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Times in seconds.

    underway: for a connect that was let in just before its host was taken from the list to appear in the log.
    leaving: for the controllers of a host that has disconnected to end. ending: for controllers that were ended to be
    gone.
    """

    underway: float = 0.1
    leaving: float = 0.5
    ending: float = 5.0


class _Living(Enum):
    NONE = auto()
    SOME = auto()
    UNKNOWN = auto()


class NvmetHosts:
    """Safe to use from any thread."""

    def __init__(self, configfs: Configfs, sessions: Sessions, probe: Probe, patience: Patience) -> None:
        self._patience = patience
        self._configfs = configfs
        self._sessions = sessions
        self._probe = probe
        self._lock = threading.Lock()
        self._known: dict[str, DhChapSecrets | None] = {}
        """Hosts whose directories are there, with these keys, as far as this process has seen to it."""

    def admit(self, hosts: Sequence[ExportHost], wanted: Subsystem, live: Subsystem) -> None:
        """Let in the hosts that a subsystem is wanted to have, with their keys. Something may have to be repaired."""
        with self._lock:
            if not wanted.allow_any_host:
                for host in hosts:
                    self._have(host.initiator, host.secrets)
            apply(self._configfs, access_difference(wanted, live))

    def admit_first(self, configfs: Configfs, hosts: Sequence[ExportHost], nqn: str) -> None:
        """Let hosts in to a subsystem that was just made, through a configfs that may be an opened one."""
        with self._lock:
            for host in hosts:
                if self._known.get(host.initiator, ()) != host.secrets:
                    self._have(host.initiator, host.secrets)
            try:
                let_in(configfs, nqn, [host.initiator for host in hosts])
            except ConfigfsError:
                self._known.clear()  # someone may have taken a directory away
                raise

    def close(self, hosts: Sequence[ExportHost], wanted: Subsystem, live: Subsystem) -> None:
        """Have a subsystem that lets in any host keep to a list. Ending the others' sessions is left to revoke()."""
        self._configfs.set_mode(allowed_hosts_path(wanted.nqn), PRIVATE)
        self.admit(hosts, wanted, live)

    def secrets(self, host_nqn: str) -> DhChapSecrets | None:
        """The keys that a host must have; from the first time on the log says who has shown them."""
        found = read_host(self._configfs, host_nqn)
        if found is None or found.secrets is None:
            return None
        self._sessions.watch_keys()
        return found.secrets

    def revoke(
        self,
        nqn: str,
        live: Subsystem,
        staying: frozenset[str],
        portals: Sequence[NvmeofPortal],
        qid_max: int,
        *,
        shown: bool,
    ) -> None:
        """Take every host that is not to stay from a subsystem's list, and return when none has a session any more.

        shown: hosts can reach the subsystem, by the portals or otherwise; else none has a session.

        The directory of the list is marked meanwhile, so that a crash cannot make it forget that sessions are to be
        ended. Raises UnavailableError when they do not end.
        """
        allowed = allowed_hosts_path(nqn)
        leaving = live.hosts - staying
        if (
            not leaving
            and not self._configfs.is_private(allowed)
            and not (shown and self._has_unlisted(nqn, staying, portals))
        ):
            return
        self._configfs.set_mode(allowed, PRIVATE)
        for each in sorted(leaving):
            self._configfs.unlink(f"{allowed}/{each}")
        if shown:
            self._end_sessions(nqn, staying, portals, qid_max)
        self._configfs.set_mode(allowed, PUBLIC)
        self.forget(leaving)

    def is_revoking(self, nqn: str) -> bool:
        """Whether a revocation was begun and not ended."""
        return self._configfs.is_private(allowed_hosts_path(nqn))

    def forget(self, host_nqns: Iterable[str]) -> None:
        """Remove the directories of hosts that weft made and no subsystem lets in any more."""
        with self._lock:
            for each in sorted(host_nqns):
                self._known.pop(each, None)
                if self._configfs.is_private(host_path(each)):
                    self._configfs.remove_unless_used(host_path(each))

    def forget_unused(self) -> None:
        """Remove what a crash has left."""
        self.forget(self._configfs.names("hosts"))

    def _have(self, host_nqn: str, secrets: DhChapSecrets | None) -> None:
        live = read_host(self._configfs, host_nqn)
        if (
            live is not None
            and not live.is_ours
            and live.secrets is None
            and self._configfs.remove_unless_used(host_path(host_nqn))
        ):
            live = None  # made by nobody, or by a weft that a crash ended before it could mark it
        if live is None:
            apply(self._configfs, host_difference(host_nqn, None, None))
            if secrets is None:
                self._known[host_nqn] = None
                return
            live = read_host(self._configfs, host_nqn)
        if secrets is not None and live is not None:
            check_knows_keys(live)
            self._sessions.watch_keys()
        apply(self._configfs, host_difference(host_nqn, secrets, live))
        self._known[host_nqn] = secrets

    def _end_sessions(
        self, nqn: str, staying: frozenset[str], portals: Sequence[NvmeofPortal], qid_max: int
    ) -> None:
        """End the sessions of all hosts that are not to stay.

        The only way to end one ends those of the others too, who reconnect at once; so it is taken only where not
        everyone who is to go is known to have gone.
        """
        asked = _tcp_portal(portals)
        time.sleep(self._patience.underway if staying else 0)
        suspects = self._suspects(nqn, staying)
        if (
            staying
            and suspects is not None
            and self._living(suspects, asked, self._patience.leaving) is _Living.NONE
        ):
            return
        path = f"{subsystem_path(nqn)}/attr_qid_max"
        if self._configfs.read(path) is None:
            raise UnsupportedError(
                "this node's kernel cannot end the session of one host (it has no attr_qid_max, Linux 6.1 has);"
                " have the host disconnect, or detach all hosts of the volume"
            )
        _log.info("ending every session with %s; the hosts that may stay connect again", nqn)
        self._configfs.write(path, str(qid_max))
        # Where it cannot be found out, the kernel is believed: to end them again and again would trouble the others.
        if self._living(suspects or [], asked, self._patience.ending) is _Living.SOME:
            raise UnavailableError(f"hosts still have sessions with {nqn} that were to end")

    def _has_unlisted(self, nqn: str, staying: frozenset[str], portals: Sequence[NvmeofPortal]) -> bool:
        """Whether a host that is not to stay is known to have a session, though it is not on the list.

        Somebody else took it off, and nvmet lets the sessions of such a host go on.
        """
        suspects = self._suspects(nqn, staying) or []
        if self._living(suspects, _tcp_portal(portals), 0) is not _Living.SOME:
            return False
        _log.warning("a host that somebody has taken off the list of %s still uses it; it is cut off", nqn)
        return True

    def _suspects(self, nqn: str, staying: frozenset[str]) -> list[Controller] | None:
        known = self._sessions.controllers(nqn)
        if known is None:
            return None
        suspects = [each for each in known if each.host not in staying]
        return suspects if len(suspects) <= _MOST_PROBED else None

    def _living(self, suspects: list[Controller], portal: NvmeofPortal | None, seconds: float) -> _Living:
        """Whether some of them live still after seconds."""
        if not suspects:
            return _Living.NONE
        if portal is None:
            return _Living.UNKNOWN
        deadline, pause = time.monotonic() + seconds, _FIRST_PAUSE_SECONDS
        while True:
            try:
                living = self._probe.living(suspects, portal)
            except UnavailableError as error:
                _log.debug("whether hosts have gone cannot be found out: %s", error)
                return _Living.UNKNOWN
            self._sessions.ended([each for each in suspects if each not in living])
            suspects = living
            if not suspects:
                return _Living.NONE
            if time.monotonic() > deadline:
                return _Living.SOME
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


def _tcp_portal(portals: Sequence[NvmeofPortal]) -> NvmeofPortal | None:
    return next((each for each in portals if each.transport is Transport.TCP), None)
