"""What the kernel's log tells of nvmet: which controllers it made for whom, and whom it turned away.

nvmet shows its sessions nowhere else (its debugfs is not built in distributions' kernels). The lines are those of
drivers/nvme/target/{core,fabrics-cmd,fabrics-cmd-auth}.c, Linux 6.12. A host's name comes from the network: a line
counts only when it fits whole, and only the kernel's own lines (facility 0) count, which no process can write.
"""

import logging
import os
import re
import select
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from weft.model import Refusal, RefusalReason, VolumeId
from weft.names import volume_id_of_nqn

_log = logging.getLogger(__name__)

KMSG: Final = Path("/dev/kmsg")
_DYNAMIC_DEBUG: Final = Path("/proc/dynamic_debug/control")
_SHOW_AUTHENTICATED: Final = 'module nvmet format "host authenticated" +p'
_LARGEST_RECORD: Final = 8192
_OF_NVMET: Final = b"nvmet: "
_OF_NAMESPACES: Final = b"nvmet: adding nsid "
"""A line for each export that is restored; it tells nothing of hosts."""
_GATHERING_MILLISECONDS: Final = 100
"""So many lines are read together, for while a thousand exports are restored each is a turn of this thread."""
_MOST_REFUSALS: Final = 1024
_TIME_FOR_KEY: Final = timedelta(seconds=3)
"""From the making of a controller until its host must have shown its key."""

_NQN: Final = r"[!-~]{1,223}"
_CREATED: Final = re.compile(
    rf"nvmet: creating (?:nvm|discovery) controller (?P<id>\d{{1,5}}) for subsystem (?P<subsystem>{_NQN})"
    rf" for NQN (?P<host>{_NQN})(?: T10-PI is enabled)?(?P<auth> with DH-HMAC-CHAP)?\."
)
_MAKES_CONTROLLER: Final = re.compile(r"nvmet: creating (?!discovery ).*", re.DOTALL)
_NOT_ALLOWED: Final = re.compile(
    rf"nvmet: connect by host (?P<host>{_NQN}) for subsystem (?P<subsystem>{_NQN}) not allowed"
)
_AUTHENTICATED: Final = re.compile(
    r"nvmet: (?:nvmet_auth_reply: )?ctrl (?P<id>\d{1,5}) qid \d+ host authenticated"
)
_WRONG_KEY: Final = re.compile(
    r"nvmet: ctrl (?P<id>\d{1,5}) qid \d+:? (?:host response mismatch|failure1 \(\w+\)|authentication failed \(\w+\))"
)


@dataclass(frozen=True, slots=True)
class Controller:
    """A controller that nvmet made. It may have ended since: the log tells of no end."""

    id: int
    subsystem: str
    host: str


class Sessions(Protocol):
    """What is known of the hosts that use subsystems."""

    def controllers(self, subsystem: str) -> Sequence[Controller] | None:
        """Every controller of a subsystem that may still live; None when some may be missing."""

    def ended(self, controllers: Sequence[Controller]) -> None:
        """These, which controllers() returned, have been found to live no more."""

    def refusals(self, volume_id: VolumeId) -> Sequence[Refusal]: ...

    def watch_keys(self) -> None:
        """Have the kernel say which hosts have shown their key, so that those that have none can be told."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


@dataclass(slots=True)
class _Made:
    controller: Controller
    must_authenticate: bool
    at: datetime
    proved: bool = False
    ended: bool = False


class Findings:
    """What the lines of the log amount to. Not safe to use from several threads."""

    def __init__(self, nqn_prefix: str) -> None:
        self.keys_shown_since: datetime | None = None
        """From when on the log says which hosts have shown their key."""
        self._prefix = nqn_prefix
        self._made: dict[int, _Made] = {}
        self._strange = False
        self._refusals: OrderedDict[tuple[str, str], Refusal] = OrderedDict()

    def take(self, message: str, at: datetime) -> None:
        """A line of the kernel's, and when it was written (UTC)."""
        if not message.startswith("nvmet: "):
            return
        if matched := _CREATED.fullmatch(message):
            self._take_created(matched, at)
        elif matched := _NOT_ALLOWED.fullmatch(message):
            self._refuse(matched["subsystem"], matched["host"], RefusalReason.NOT_LISTED, at)
        elif matched := _AUTHENTICATED.fullmatch(message):
            if (made := self._made.get(int(matched["id"]))) is not None:
                made.proved = True
        elif _MAKES_CONTROLLER.fullmatch(message):
            self._strange = True
        elif (matched := _WRONG_KEY.fullmatch(message)) and (made := self._made.get(int(matched["id"]))):
            made.proved = True  # that it has a key, if a wrong one
            self._refuse(made.controller.subsystem, made.controller.host, RefusalReason.WRONG_KEY, at)

    def controllers(self, subsystem: str) -> list[Controller]:
        return [
            each.controller
            for each in self._made.values()
            if each.controller.subsystem == subsystem and not each.ended
        ]

    def ended(self, controllers: Sequence[Controller]) -> None:
        for each in controllers:
            made = self._made.get(each.id)
            # The same object: the id may have been given anew since, also to the same host.
            if made is not None and made.controller is each:
                made.ended = True

    def is_understood(self) -> bool:
        """Whether this kernel tells of each controller in words that are known here.

        Another kernel may say it otherwise, or not at all: then nobody must conclude from silence that a host has gone.
        """
        return bool(self._made) and not self._strange

    def refusals(self, volume_id: VolumeId, now: datetime) -> list[Refusal]:
        """The last first. What a host was told before is not among them while it has the time to show its key."""
        trying: dict[tuple[str, str], datetime] = {}
        for made in self._made.values():
            if made.at < now - _TIME_FOR_KEY:
                self._judge(made)
            elif self._is_to_be_judged(made):
                trying[made.controller.subsystem, made.controller.host] = made.at
        found = [
            each
            for key, each in self._refusals.items()
            if each.volume_id == volume_id and each.at >= trying.get(key, each.at)
        ]
        return sorted(found, key=lambda each: each.at, reverse=True)

    def forget(self) -> None:
        """Some lines were lost: what is known of controllers is not all any more."""
        self._made.clear()

    def _take_created(self, matched: re.Match[str], at: datetime) -> None:
        controller = Controller(int(matched["id"]), matched["subsystem"], matched["host"])
        if (before := self._made.get(controller.id)) is not None:
            self._judge(before)
        # The kernel gives an id anew only after the controller that had it has ended.
        self._made[controller.id] = _Made(controller, matched["auth"] is not None, at)

    def _judge(self, made: _Made) -> None:
        """A host that had to show a key and has not shown any has none."""
        if self._is_to_be_judged(made):
            made.proved = True  # told once
            self._refuse(made.controller.subsystem, made.controller.host, RefusalReason.NO_KEY, made.at)

    def _is_to_be_judged(self, made: _Made) -> bool:
        since = self.keys_shown_since
        return made.must_authenticate and not made.proved and since is not None and made.at > since

    def _refuse(self, subsystem: str, host: str, reason: RefusalReason, at: datetime) -> None:
        volume_id = volume_id_of_nqn(subsystem, self._prefix)
        before = self._refusals.get((subsystem, host))
        if volume_id is None or (before is not None and before.at > at):
            return
        self._refusals.pop((subsystem, host), None)
        self._refusals[subsystem, host] = Refusal(volume_id=volume_id, initiator=host, reason=reason, at=at)
        while len(self._refusals) > _MOST_REFUSALS:
            self._refusals.popitem(last=False)


class KernelLog:
    """Follows /dev/kmsg in a thread between start() and stop(). Safe to use from any thread."""

    def __init__(
        self, nqn_prefix: str, path: Path = KMSG, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._path = path
        self._now = now
        self._lock = threading.Lock()
        self._findings = Findings(nqn_prefix)
        self._descriptor = -1
        self._next: int | None = None
        self._complete = False
        self._wake_reader, self._wake_writer = -1, -1
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Follow what is there and what comes. Where the log cannot be read nothing is known, and a warning says so."""
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            _log.warning("%s cannot be read (%s): refused hosts are not told of", self._path, error.strerror)
            return
        self._wake_reader, self._wake_writer = os.pipe()
        self._thread = threading.Thread(target=self._follow, name="kernel log")
        self._thread.start()

    def stop(self) -> None:
        if self._thread is None:
            return
        os.write(self._wake_writer, b"x")
        self._thread.join()
        with self._lock:  # who asks meanwhile must not read what has its number next
            for descriptor in (self._descriptor, self._wake_reader, self._wake_writer):
                os.close(descriptor)
            self._descriptor = -1
        self._thread = None

    def watch_keys(self) -> None:
        if self._findings.keys_shown_since is not None:
            return
        try:
            _DYNAMIC_DEBUG.write_text(_SHOW_AUTHENTICATED)
        except OSError as error:
            _log.info("hosts that have no key are not told of: %s: %s", _DYNAMIC_DEBUG, error.strerror)
            return
        with self._lock:
            self._findings.keys_shown_since = self._now()

    def controllers(self, subsystem: str) -> Sequence[Controller] | None:
        self._read()
        with self._lock:
            is_known = self._complete and self._findings.is_understood()
            return self._findings.controllers(subsystem) if is_known else None

    def ended(self, controllers: Sequence[Controller]) -> None:
        with self._lock:
            self._findings.ended(controllers)

    def refusals(self, volume_id: VolumeId) -> Sequence[Refusal]:
        self._read()
        with self._lock:
            return self._findings.refusals(volume_id, self._now())

    def _follow(self) -> None:
        lines, end = select.poll(), select.poll()
        lines.register(self._descriptor, select.POLLIN)
        for each in (lines, end):
            each.register(self._wake_reader, select.POLLIN)
        while True:
            lines.poll()
            if end.poll(_GATHERING_MILLISECONDS):
                return
            self._read()

    def _read(self) -> None:
        """Take every line that was not taken yet."""
        with self._lock:
            if self._descriptor < 0:
                return
            while True:
                try:
                    record = os.read(self._descriptor, _LARGEST_RECORD)
                except BlockingIOError:
                    return
                except BrokenPipeError:
                    continue  # the oldest lines were overwritten; the next number shows the gap
                except OSError as error:
                    _log.warning("%s cannot be read any more: %s", self._path, error.strerror)
                    self._complete = False
                    return
                if not record:
                    return
                self._take(record)

    def _take(self, record: bytes) -> None:
        """`priority,number,microseconds,flags;message` and lines of details (Documentation/ABI/testing/dev-kmsg)."""
        head, _, rest = record.partition(b";")
        try:
            priority, number, microseconds = map(int, head.split(b",")[:3])
        except ValueError:
            return
        if self._next is None:
            self._complete = number == 0
        elif number != self._next:
            self._complete = False
            self._findings.forget()
        self._next = number + 1
        if priority >> 3 == 0 and rest.startswith(_OF_NVMET) and not rest.startswith(_OF_NAMESPACES):
            age = time.clock_gettime(time.CLOCK_MONOTONIC) - microseconds / 1e6
            line = rest.partition(b"\n")[0].decode(errors="replace")
            self._findings.take(line, self._now() - timedelta(seconds=age))
