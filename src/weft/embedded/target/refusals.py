"""What the target remembers of hosts that it turned away, so that it can tell why: a host itself learns little."""

import threading
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Final

from weft.model import Refusal, RefusalReason, VolumeId

REMEMBERED_HOSTS: Final = 64
"""For each volume; strangers may make up as many names as they like."""


class Refusals:
    """The last refusal of each host, of one volume. Safe to use from any thread."""

    def __init__(self, volume_id: VolumeId) -> None:
        self._volume_id = volume_id
        self._lock = threading.Lock()
        self._by_host: OrderedDict[str, Refusal] = OrderedDict()

    def remember(self, host_nqn: str, reason: RefusalReason) -> None:
        refusal = Refusal(volume_id=self._volume_id, initiator=host_nqn, reason=reason, at=datetime.now(UTC))
        with self._lock:
            self._by_host[host_nqn] = refusal
            self._by_host.move_to_end(host_nqn)
            if len(self._by_host) > REMEMBERED_HOSTS:
                self._by_host.popitem(last=False)

    def forget(self, host_nqn: str) -> None:
        """The host has been let in since."""
        with self._lock:
            self._by_host.pop(host_nqn, None)

    def all(self) -> tuple[Refusal, ...]:
        """The last first."""
        with self._lock:
            return tuple(reversed(self._by_host.values()))
