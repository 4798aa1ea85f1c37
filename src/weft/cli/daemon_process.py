"""The process of the control plane, found by who answers at its socket."""

import socket
import struct

from weft.config import Config
from weft.embedded.host.process import ProcessIdentity

_PEER = struct.Struct("3i")  # struct ucred, unix(7): pid, uid, gid
_CONNECT_SECONDS = 5.0


def find_daemon(config: Config) -> ProcessIdentity | None:
    """The process that listens at the API's socket, None if there is none.

    The kernel tells who listens, so there is no file with a process id that could be out of date.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_CONNECT_SECONDS)
        try:
            connection.connect(str(config.api_socket))
        except OSError:
            return None
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        return ProcessIdentity.of(int(_PEER.unpack(credentials)[0]))
