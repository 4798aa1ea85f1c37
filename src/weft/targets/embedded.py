"""The Target that hands everything to the embedded target's process, over its control socket."""

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from weft import __version__
from weft.config import Config, parse_portal
from weft.connection import NvmeofConnection
from weft.embedded.target.control import (
    CONTROL_VERSION,
    ControlClient,
    CreateExport,
    Done,
    Exported,
    Exports,
    HoldWrites,
    ListExports,
    ListRefusals,
    Refusals,
    Released,
    ReleaseWrites,
    RemoveExport,
    ReplyT,
    Request,
    StatusRequest,
    Stop,
    TargetStatus,
)
from weft.embedded.target.settings import encode_settings, settings_of
from weft.errors import InvalidValueError, UnavailableError, UnsupportedError
from weft.model import Export, FoundExport, HostId, Refusal, VolumeId
from weft.names import check_id
from weft.run import Daemon, start_daemon

_log = logging.getLogger(__name__)

_START_SECONDS: Final = 20.0
_RESTART_SECONDS: Final = 2.0
_STOP_SECONDS: Final = 30.0
_LARGEST_LOG: Final = 16 * 2**20
_LONGEST_SAYING: Final = 4096
_LOG_PREFIX: Final = re.compile(r"^[-0-9]{10}T[0-9:]+Z [A-Z]+ +[\w.]+: ")


class EmbeddedTarget:
    """Exports by the embedded target's process, which outlives this one. Safe to use from any thread.

    Every verb may raise UnavailableError when the process does not answer; see ensure_running and TargetKeeper. A
    process that is started is given start_seconds each time before that is called an error.
    """

    def __init__(self, config: Config, *, start_seconds: float = _START_SECONDS) -> None:
        self._settings = settings_of(config)
        self._start_seconds = start_seconds
        self._socket = config.target_socket
        self._starting = threading.Lock()
        self._daemon: Daemon | None = None
        self._said_before = 0

    @property
    def log_file(self) -> Path:
        """What the process says, when it was started from here."""
        return Path(self._settings.target_dir) / "target.log"

    def create_export(self, export: Export) -> Mapping[HostId, NvmeofConnection]:
        """See the door. The connections lead to the portals that are bound now.

        Raises InvalidValueError, NotFoundError (the path), ConflictError, NoSpaceError, DataError, and
        UnavailableError: also when the export is made, but no portal is bound.
        """
        made = self._call(CreateExport(export), Exported)
        portals = tuple(parse_portal("portals", each) for each in made.portals)
        if not portals:
            raise UnavailableError(f"no portal is bound: {_reasons(self.status())}")
        return {
            host.host_id: NvmeofConnection(
                volume_id=export.volume_id, nqn=made.nqn, portals=portals, host_nqn=host.initiator
            )
            for host in export.hosts
        }

    def remove_export(self, volume_id: VolumeId) -> None:
        self._call(RemoveExport(volume_id), Done)

    def export(self, volume_id: VolumeId) -> FoundExport | None:
        found = self._call(ListExports(check_id("volume_id", volume_id)), Exports).exports
        return found[0] if found else None

    def exports(self) -> Mapping[VolumeId, FoundExport]:
        return {each.volume_id: each for each in self._call(ListExports(), Exports).exports}

    def expect(self, volume_ids: frozenset[VolumeId]) -> None:
        """Nothing to do: the process restores its exports from its own files before it listens."""

    def awaits(self, volume_id: VolumeId) -> bool:  # noqa: ARG002
        """Never."""
        return False

    def restore(self, exports: Sequence[Export]) -> None:
        """Nothing to do, as in expect()."""

    def refusals(self, volume_id: VolumeId) -> Sequence[Refusal]:
        """See the door. What was before the process last began is forgotten."""
        return self._call(ListRefusals(check_id("volume_id", volume_id)), Refusals).refusals

    def hold_writes(self, volume_id: VolumeId, seconds: float) -> AbstractContextManager[None] | None:
        """Hold hosts' writes to a volume while the context lasts; None if it is not exported.

        Entering returns once every acknowledged write is in the volume and no other is under way. Leaving lets the
        writes go on, and raises UnavailableError if they were not held all the time: because it took longer than
        seconds, or because the target's process ended. Reads go on.
        """
        return None if self.export(volume_id) is None else self._held(volume_id, seconds)

    def status(self) -> TargetStatus:
        return self._call(StatusRequest(), TargetStatus)

    def ensure_running(self) -> ControlClient:
        """A new connection to the process, which is started if it does not run.

        A process that runs with other settings than the configuration's is started anew, for only so do a new
        portal or pool come into force; its hosts see a pause. Raises UnsupportedError when the process that runs is
        of another weft that cannot be talked to, and UnavailableError when it does not come up.
        """
        with self._starting:
            return self._adopt() or self._start()

    def _adopt(self) -> ControlClient | None:
        """A connection to the process that runs; None if there is none with these settings any more."""
        try:
            client = ControlClient(self._socket)
        except UnavailableError:
            return None
        try:
            status = _status(client)
            _check_compatible(status)
        except BaseException:
            client.close()
            raise
        if status.settings is None or status.settings == self._settings:
            return client
        client.close()
        _log.warning(
            "the configuration has changed since the embedded target was started; it is started anew"
        )
        self.stop_target()
        return None

    def stop_target(self) -> None:
        """End the process, and wait until it has ended; hosts lose their volumes until it runs again."""
        try:
            client = ControlClient(self._socket)
        except UnavailableError:
            return
        with client:
            client.call(Stop(), Done)
            if not client.wait_until_gone(_STOP_SECONDS):
                raise UnavailableError(f"the embedded target did not end within {_STOP_SECONDS:g} s")
        if self._daemon is not None and self._daemon.wait(_STOP_SECONDS) is None:
            raise UnavailableError(f"process {self._daemon.pid} of the embedded target does not end")

    def _call(self, request: Request, reply_type: type[ReplyT]) -> ReplyT:
        with ControlClient(self._socket, connect_within=_RESTART_SECONDS) as client:
            return client.call(request, reply_type)

    @contextmanager
    def _held(self, volume_id: VolumeId, seconds: float) -> Iterator[None]:
        # On a connection of its own: if this process dies, the connection ends, and with it the hold.
        with ControlClient(self._socket, connect_within=_RESTART_SECONDS) as client:
            client.call(HoldWrites(volume_id, seconds), Done, timeout=seconds + 10)
            yield
            if not client.call(ReleaseWrites(volume_id), Released).lasted:
                raise UnavailableError(
                    f"writes to volume {volume_id} could only be held for {seconds:g} s, and that was not enough"
                )

    def _start(self) -> ControlClient:
        """Have a process that answers. One that was started before, and still comes up or goes down, is waited for: a
        second one beside it could only fail.
        """
        fresh = False
        deadline = time.monotonic() + self._start_seconds
        while True:
            if self._daemon is None or (self._daemon.exit_code() is not None and not fresh):
                self._daemon, fresh = self._launch(), True
            try:
                return ControlClient(self._socket, connect_within=0.1)
            except UnavailableError:
                if (code := self._daemon.exit_code()) is not None and fresh:
                    said = _last_line(self.log_file, self._said_before) or "it said nothing"
                    raise UnavailableError(
                        f"the embedded target ended at once with exit code {code}: {said} (see {self.log_file})"
                    ) from None
            if time.monotonic() >= deadline:
                raise UnavailableError(
                    f"process {self._daemon.pid} of the embedded target has not answered for"
                    f" {self._start_seconds:g} s; it is waited for (see {self.log_file})"
                )

    def _launch(self) -> Daemon:
        try:
            Path(self._settings.target_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._said_before = _rotate(self.log_file)
            return start_daemon(self._command_line(), log=self.log_file)
        except OSError as error:
            raise UnavailableError(f"the embedded target cannot be started: {error}") from None

    def _command_line(self) -> list[str]:
        # -P: no module of the current directory takes the place of one of weft's.
        return [sys.executable, "-P", "-m", "weft.embedded.target_process", encode_settings(self._settings)]


def _status(client: ControlClient) -> TargetStatus:
    try:
        return client.call(StatusRequest(), TargetStatus)
    except InvalidValueError as error:
        raise UnsupportedError(
            f"the embedded target that runs answers in a way that weft {__version__} does not know ({error.reason});"
            " end it with `weft target stop`, and this weft starts its own"
        ) from None


def _check_compatible(status: TargetStatus) -> None:
    if status.control_version != CONTROL_VERSION:
        raise UnsupportedError(
            f"the embedded target that runs (process {status.pid}, weft {status.version}) cannot be controlled by "
            f"weft {__version__}; end it, and this weft starts its own"
        )
    if status.version != __version__:
        _log.warning(
            "the embedded target that runs is weft %s, this is %s; it is taken as it is until it is restarted",
            status.version,
            __version__,
        )


def _reasons(status: TargetStatus) -> str:
    return "; ".join(f"{each.portal}: {each.reason}" for each in status.portals if not each.bound)


def _rotate(log: Path) -> int:
    """How many bytes are in the log now. One old log is kept: a target that is started over and over fills no disk."""
    try:
        size = log.stat().st_size
    except FileNotFoundError:
        return 0
    if size <= _LARGEST_LOG:
        return size
    log.replace(log.with_name(log.name + ".1"))
    return 0


def _last_line(log: Path, start: int) -> str:
    """The last that was said behind start, without time, level and name; empty if it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - _LONGEST_SAYING))
            lines = file.read(_LONGEST_SAYING).decode(errors="replace").splitlines()
    except OSError:
        return ""
    return _LOG_PREFIX.sub("", next((line for line in reversed(lines) if line.strip()), ""))
