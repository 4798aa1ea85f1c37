"""One door to all the ways in which this host can attach a volume."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from weft.connection import Connection, from_data
from weft.errors import UnsupportedError, WeftError
from weft.model import HostIdentity, Initiator, VolumeId
from weft.ports import AttachedVolume, Connector


class HostConnector:
    """Attaches by the first of several connectors that can, and finds again which of them holds a volume.

    Connections are taken as such, or as the data that weft, OpenSDS or os-brick's clients have of them.
    """

    def __init__(self, connectors: Sequence[Connector]) -> None:
        """connectors: one at least, the best first. All are of one host, with one identity."""
        self._connectors = tuple(connectors)

    def initiator(self) -> Initiator:
        """Who this host is."""
        return self._connectors[0].initiator()

    def identity(self) -> HostIdentity:
        """This host's NQN and identifier; made once if there were none."""
        return self._connectors[0].identity()

    def missing(self) -> str | None:
        """Why attach cannot work here, as a clause for a person; None if nothing is in the way."""
        reasons = [each.missing() for each in self._connectors]
        return None if None in reasons else "; ".join(dict.fromkeys(filter(None, reasons)))

    def attached(self) -> Sequence[AttachedVolume]:
        """What is attached to this host and can be used."""
        return [volume for each in self._connectors for volume in each.attached()]

    def abandoned(self) -> Sequence[AttachedVolume]:
        """What was attached and cannot be used any more; attach makes it anew, detach clears it away."""
        return [volume for each in self._connectors for volume in each.abandoned()]

    def attach(self, connection: Connection | Mapping[str, object]) -> Path:
        """Give the volume a path on this host; an attached one keeps the path that it has.

        Raises InvalidValueError naming the key of the data that is missing or wrong, and what the connectors raise.
        """
        wanted = _connection(connection)
        holder = self._holder(wanted.volume_id)
        if holder is not None:
            return holder.attach(wanted)
        able = [each for each in self._connectors if each.missing() is None]
        for each in able[:-1]:
            try:
                return each.attach(wanted)
            except UnsupportedError:
                continue  # the next one may speak to the volume's portals
        return (able or self._connectors)[-1].attach(wanted)

    def extend(self, connection: Connection | Mapping[str, object]) -> int:
        """Have growth seen on every path; returns the size now seen, in bytes."""
        wanted = _connection(connection)
        return (self._holder(wanted.volume_id) or self._connectors[0]).extend(wanted)

    def detach(self, connection: Connection | Mapping[str, object], *, force: bool = False) -> None:
        """Flush, disconnect and wait until the path is gone; in doubt an error. force: for a dead target."""
        wanted = _connection(connection)
        failures: list[WeftError] = []
        for each in self._connectors:  # whichever holds it, or has left something of it behind
            try:
                each.detach(wanted, force=force)
            except WeftError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _holder(self, volume_id: VolumeId) -> Connector | None:
        return next(
            (each for each in self._connectors if volume_id in {held.volume_id for held in each.attached()}),
            None,
        )


def _connection(given: Connection | Mapping[str, object]) -> Connection:
    return from_data(given) if isinstance(given, Mapping) else given
