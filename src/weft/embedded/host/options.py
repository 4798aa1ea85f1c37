"""How patient and how greedy a host is with a volume."""

from dataclasses import dataclass

from weft.config import HostSection


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeOptions:
    """Times in seconds.

    reconnect_delay: between two rounds of attempts over all portals. controller_loss_timeout: for how long a lost
    connection is tried to be replaced before I/O fails; -1 for ever. keep_alive: how long silence may last (KATO).
    connect_timeout: for one attempt at one portal. io_timeout: how long a command may go unanswered while the
    controller is otherwise alive. queue_depth: commands in flight at one time.
    """

    reconnect_delay: float = 1.0
    controller_loss_timeout: float = 600.0
    keep_alive: float = 5.0
    connect_timeout: float = 5.0
    io_timeout: float = 30.0
    queue_depth: int = 64

    @classmethod
    def of(cls, host: HostSection) -> "VolumeOptions":
        """The options that the configuration gives."""
        return cls(
            reconnect_delay=host.reconnect_delay,
            controller_loss_timeout=host.controller_loss_timeout,
            keep_alive=host.keep_alive,
        )
