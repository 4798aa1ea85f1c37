"""Keeps the embedded target's process running."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Final

from weft.config import Config
from weft.embedded.target.control import ControlClient
from weft.errors import WeftError
from weft.targets.embedded import EmbeddedTarget

_log = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 10.0
_SETTLED_SECONDS: Final = 10.0
_GLANCE_SECONDS: Final = 60.0


class TargetKeeper:
    """Starts the target's process, or adopts the one that runs, and starts it again at once when it ends.

    A process that does not live for long is started again after pauses that grow. stop() ends the keeping, not the
    process.
    """

    def __init__(self, target: EmbeddedTarget) -> None:
        self._target = target
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._client: ControlClient | None = None
        self._thread = threading.Thread(target=self._run, name="target keeper")

    def start(self) -> None:
        """Have the process running, and begin to keep it so. A process that cannot be started is tried again."""
        self._look_after()
        self._thread.start()

    def stop(self) -> None:
        """Stop to keep the process, which lives on."""
        with self._lock:
            self._stopping.set()
            if self._client is not None:
                self._client.interrupt()
        self._thread.join()

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.is_set():
            began = time.monotonic()
            client = self._look_after()
            if client is not None:
                self._watch(client)
            if time.monotonic() - began >= _SETTLED_SECONDS:
                pause = 0.0
            self._stopping.wait(pause)
            pause = min(max(_FIRST_PAUSE, pause * 2), _LONGEST_PAUSE)

    def _look_after(self) -> ControlClient | None:
        """The connection by which the process is watched; None if it does not run and cannot be started."""
        if self._client is not None:
            return self._client
        try:
            client = self._target.ensure_running()
        except WeftError as error:
            _log.error("%s", error)
            return None
        with self._lock:
            self._client = client
            if self._stopping.is_set():
                client.interrupt()
        return client

    def _watch(self, client: ControlClient) -> None:
        """Wait for the end of the process, or of the keeping."""
        while not client.wait_until_gone(_GLANCE_SECONDS):
            pass
        if not self._stopping.is_set():
            _log.warning("the embedded target has ended; it is started again")
        with self._lock:
            self._client = None
            client.close()


class KeptEmbeddedTarget(EmbeddedTarget):
    """The embedded target with its process kept running between start() and stop()."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._keeper = TargetKeeper(self)

    def start(self) -> None:
        self._keeper.start()

    def stop(self) -> None:
        """The process goes on serving, unless it has nothing to serve."""
        self._keeper.stop()
        try:
            exports = self.exports()
            if not exports:
                self.stop_target()
                return
            _log.info("the target goes on serving %d volumes; `weft target stop` ends it", len(exports))
        except WeftError as error:
            _log.warning("the target was left as it is: %s", error)

    def troubles(self) -> Sequence[str]:
        try:
            portals = self.status().portals
        except WeftError as error:
            return [f"the target does not tell its portals: {error}"]
        return [
            f"portal {each.portal} cannot be bound yet: {each.reason}; it is tried again"
            for each in portals
            if not each.bound
        ]
