"""The embedded host: volumes over NVMe/TCP without the kernel's help."""

from weft.embedded.host.discovery import discover
from weft.embedded.host.identity import load_identity
from weft.embedded.host.options import VolumeOptions
from weft.embedded.host.volume import Volume
from weft.model import HostIdentity

__all__ = ["HostIdentity", "Volume", "VolumeOptions", "discover", "load_identity"]
