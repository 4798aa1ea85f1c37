"""Words that errors of all drivers share."""

from weft.model import Snapshot, Volume


def describe_source(source: Snapshot | Volume) -> str:
    kind = "volume" if isinstance(source, Volume) else "snapshot"
    return f"{kind} {source.id}, the volume's source"
