"""The plane's node as a daemon runs it, with its threads, and waiting for what it does."""

from collections.abc import Iterator
from contextlib import contextmanager

from control.control_plane import NODE, ControlPlane
from weft.control.node import Node
from weft.errors import UnavailableError
from weft.model import Protocol

DOWN = UnavailableError("the pool does not answer")


@contextmanager
def running(plane: ControlPlane, **settings: float) -> Iterator[Node]:
    """The plane's node as a daemon runs it, with its threads."""
    workers = int(settings.pop("workers", 4))
    node = Node(
        NODE, plane.store, plane.drivers, {Protocol.NVMEOF: plane.target}, workers=workers, **settings
    )
    node.start()
    try:
        yield node
    finally:
        node.stop()
