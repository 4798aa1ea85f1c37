"""A namespace: its backend, its size, and the gate that every command to its bytes goes through."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from weft.embedded.target.backend import Backend, check_holds
from weft.errors import ConflictError, UnavailableError
from weft.model import VolumeId

BLOCK_SIZE: Final = 512
"""Bytes of a logical block, for good: changing it would change a volume's content as hosts see it.

512 is what nvmet announces for a logical volume on most disks and what disk images are made for, so a volume can
move between the two targets. It costs nothing as long as hosts write whole pages, and they do: the namespace announces
PREFERRED_BLOCKS as its granularity, which Linux shows as minimum_io_size.
"""

PREFERRED_BLOCKS: Final = 4096 // BLOCK_SIZE

_DRAIN_SECONDS: Final = 30.0


class Hold:
    """Writes to a namespace wait while this lasts; see Namespace.hold_writes."""

    def __init__(self, namespace: "Namespace", deadline: float) -> None:
        self._namespace = namespace
        self.deadline = deadline
        """In the time of time.monotonic()."""

    def release(self) -> bool:
        """Let writes go on. True if none got through since the hold began, False if it had run out."""
        return self._namespace.release(self)


class Namespace:
    """The bytes behind one volume. Sizes are bytes.

    Every command calls begin() before and end() after it touches the backend, so that a hold, a change of the backend
    and the end of the export know what is still going on.
    """

    def __init__(self, volume_id: VolumeId, backend: Backend, size: int) -> None:
        self.volume_id = volume_id
        self.size = size
        self._backend = backend
        self._changed = threading.Condition()
        self._active = 0
        self._active_writes = 0
        self._swapping = False
        self._hold: Hold | None = None
        self._waiting: list[Callable[[], None]] = []

    @property
    def path(self) -> Path:
        return self._backend.path

    @property
    def blocks(self) -> int:
        return self.size // BLOCK_SIZE

    @property
    def hold_deadline(self) -> float | None:
        """Until when writes are held, in the time of time.monotonic(); None when they are not."""
        hold = self._hold
        return hold.deadline if hold else None

    def check_holds(self, size: int) -> None:
        """Raises DataError when there are fewer than size bytes behind the namespace."""
        check_holds(self._backend, size)

    def is_at(self, path: Path) -> bool:
        """Whether path leads to the bytes that are served."""
        return self._backend.is_at(path)

    def begin(self, *, writes: bool) -> Backend | None:
        """Start a command. None: it writes, and writes are held; try again after hold_deadline or on_release."""
        with self._changed:
            while self._swapping:
                self._changed.wait()
            if writes:
                if self._is_held():
                    return None
                self._active_writes += 1
            self._active += 1
            return self._backend

    def end(self, *, writes: bool) -> None:
        """End a command that begin() let through."""
        with self._changed:
            self._active -= 1
            if writes:
                self._active_writes -= 1
            if self._hold or self._swapping:
                self._changed.notify_all()

    def on_release(self, wake: Callable[[], None]) -> None:
        """Have wake called once when the present hold is released; at once if there is none."""
        with self._changed:
            if self._hold:
                self._waiting.append(wake)
                return
        wake()

    def hold_writes(self, seconds: float) -> Hold:
        """Let writes that are going on finish, and have new ones wait for at most seconds from now.

        Reads go on. Raises ConflictError when writes are held already, and UnavailableError when the writes going on
        do not finish in time.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            if self._is_held():
                raise ConflictError(f"writes to volume {self.volume_id} are held already")
            hold = self._hold = Hold(self, deadline)
            patience = min(seconds, _DRAIN_SECONDS)
            drained = self._changed.wait_for(lambda: self._active_writes == 0, patience)
            if drained and self._hold is hold:
                return hold
        hold.release()
        raise UnavailableError(
            f"writes to volume {self.volume_id} that were going on did not finish within {patience:g} s"
        )

    def release(self, hold: Hold) -> bool:
        """End hold; see Hold.release."""
        with self._changed:
            lasted = self._hold is hold
            if lasted:
                self._hold = None
            waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()
        return lasted

    def replace_backend(self, backend: Backend) -> None:
        """Serve other bytes from now on; commands that are going on finish on the old ones, which are then closed.

        Raises UnavailableError, and changes nothing, when they do not finish in time.
        """
        with self._changed:
            self._swapping = True
            try:
                if not self._changed.wait_for(lambda: self._active == 0, _DRAIN_SECONDS):
                    raise UnavailableError(f"commands to volume {self.volume_id} do not come to an end")
                old, self._backend = self._backend, backend
            finally:
                self._swapping = False
                self._changed.notify_all()
        old.close()

    def close(self) -> None:
        """Give the backend up. The caller has ended every connection that uses it."""
        self._backend.close()

    def _is_held(self) -> bool:
        if self._hold is None:
            return False
        if time.monotonic() < self._hold.deadline:
            return True
        self._hold = None
        return False
