"""On the host: turning a connection into a device or a file.

open_connector("nvmeof").attach(data)    # the connection data of weft, OpenSDS or os-brick's clients
"""

from weft.config import Config, ConnectorKind, load_config
from weft.connectors.host import HostConnector
from weft.connectors.kernel_host import why_not_kernel
from weft.connectors.nvmeof import NvmeofConnector
from weft.connectors.nvmeof_user import NvmeofUserConnector
from weft.errors import UnsupportedError
from weft.model import Protocol

__all__ = ["HostConnector", "NvmeofConnector", "NvmeofUserConnector", "open_connector", "why_not_kernel"]


def open_connector(protocol: Protocol | str, config: Config | None = None) -> HostConnector:
    """The connector for a protocol, by the configuration given or the one that the machine has.

    With host.connector = auto the kernel attaches where it can, and the embedded host, through FUSE, elsewhere. Raises
    UnsupportedError for a protocol that weft has no connector for, InvalidValueError for a wrong configuration.
    """
    if protocol != Protocol.NVMEOF:
        raise UnsupportedError(f"weft has no connector for {str(protocol)!r} on this host, only for nvmeof")
    config = config or load_config()
    match config.host.connector:
        case ConnectorKind.KERNEL:
            return HostConnector([NvmeofConnector(config)])
        case ConnectorKind.EMBEDDED:
            return HostConnector([NvmeofUserConnector(config)])
        case ConnectorKind.AUTO:
            return HostConnector([NvmeofConnector(config), NvmeofUserConnector(config)])
