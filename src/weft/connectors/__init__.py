"""On the host: turning a connection into a device or a file."""

from weft.config import Config
from weft.connectors.nvmeof_user import NvmeofUserConnector
from weft.errors import UnsupportedError
from weft.model import Protocol
from weft.ports import Connector


def open_connector(protocol: Protocol | str, config: Config) -> Connector:
    """The connector for a protocol. Raises UnsupportedError for one that weft has none for."""
    if protocol == Protocol.NVMEOF:
        return NvmeofUserConnector(config)
    raise UnsupportedError(f"weft has no connector for {str(protocol)!r} on this host, only for nvmeof")
