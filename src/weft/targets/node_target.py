"""What the daemon needs of a target beside the door."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from weft.model import VolumeId
from weft.ports import Target


class NodeTarget(Target, Protocol):
    """A target together with what keeps it serving on this node."""

    def start(self) -> None:
        """Have it serve and keep it serving; what cannot be had yet is tried again in the background."""

    def stop(self) -> None:
        """End what start() began in this process. Exports go on, for hosts use them."""

    def stop_target(self) -> None:
        """End all exports, after stop(): hosts wait until it serves again, and all that they wrote is on stable storage."""

    def hold_writes(self, volume_id: VolumeId, seconds: float) -> AbstractContextManager[None] | None:
        """Hold hosts' writes to a volume while the context lasts, see weft.drivers.HoldWrites.

        Raises UnsupportedError when the volume is exported and this target cannot hold writes.
        """

    def troubles(self) -> Sequence[str]:
        """What keeps it from serving as configured, such as portals that cannot be bound; sentences."""
