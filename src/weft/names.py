"""Names and identities: how they are made, and how those that come from outside are checked.

Every check returns the value in its normal form or raises InvalidValueError with the field that it was given by.
What a volume is called on the wire derives from its id alone and never changes:

    subsystem NQN     prefix + volume id
    namespace uuid    the volume id
    nguid             the 16 bytes of the volume id
    serial number     the first 20 hex digits of the volume id
    wwn (SCSI NAA)    the volume id's hex digits, the first replaced by 6
"""

import ipaddress
import re
import uuid
from functools import lru_cache

from weft.errors import InvalidValueError
from weft.model import GIB, VolumeId

DEFAULT_NQN_PREFIX = "nqn.2019-01.com.opensds:nvme:"

NVMEOF_PORT = 4420
"""The NVMe over Fabrics service id that IANA registered."""

NSID = 1
"""weft exports one namespace per subsystem, and this is its id."""

MAXIMUM_NAME_LENGTH = 255
MAXIMUM_NQN_LENGTH = 223
"""NVM Express Base Specification 2.0, section 4.5 (NVMe Qualified Names), bytes."""

MAXIMUM_VOLUME_SIZE = 2**50
"""1 PiB. Far above what one volume group holds, and far below what would overflow a block count."""

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NAME = re.compile(r"[a-zA-Z0-9 _.-]+")
_HOST_NAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*")
# The specification lets the part after the colon be any text. These characters are the ones that name a directory
# in configfs and an option of /dev/nvme-fabrics without meaning something else there: no slash, comma or quote.
_NQN = re.compile(r"nqn\.[0-9]{4}-(0[1-9]|1[0-2])\.[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[A-Za-z0-9._:+@=~#-]+)?")
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_PORT = re.compile(r"[0-9]{1,5}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def new_id() -> str:
    """A new id: a lower-case UUID, version 4."""
    return str(uuid.uuid4())


def check_id(field: str, value: str) -> str:
    """A UUID as weft writes them: 36 characters, lower case."""
    if not _ID.fullmatch(value):
        raise InvalidValueError(field, f"{value!r} is not a lower-case UUID")
    return value


def check_name(field: str, value: str, *, maximum: int = MAXIMUM_NAME_LENGTH) -> str:
    """A volume's, snapshot's or profile's name: letters, digits, space, dot, dash and underscore."""
    if not value.strip():
        raise InvalidValueError(field, "must not be empty")
    if len(value) > maximum:
        raise InvalidValueError(field, f"is longer than {maximum} characters")
    if not _NAME.fullmatch(value):
        raise InvalidValueError(
            field, f"{value!r} may only hold letters, digits, spaces, dots, dashes and underscores"
        )
    return value


def check_text(field: str, value: str, *, maximum: int = 1024) -> str:
    """Free text on one or more lines, without other control characters."""
    if len(value) > maximum:
        raise InvalidValueError(field, f"is longer than {maximum} characters")
    if _CONTROL.search(value):
        raise InvalidValueError(field, "must not hold control characters")
    return value


def check_host_name(field: str, value: str) -> str:
    """A host's name by RFC 1123, at most 64 characters."""
    if len(value) > 64 or not _HOST_NAME.fullmatch(value):
        raise InvalidValueError(
            field, f"{value!r} is not a host name: letters, digits, dots and dashes, at most 64"
        )
    return value


def check_nqn(field: str, value: str) -> str:
    """An NVMe Qualified Name: `nqn.yyyy-mm.reverse.domain[:name]`, at most 223 bytes.

    The name may hold letters, digits and `. _ : + @ = ~ # -`.
    """
    if len(value) > MAXIMUM_NQN_LENGTH:
        raise InvalidValueError(field, f"is longer than {MAXIMUM_NQN_LENGTH} bytes")
    if not _is_nqn(value):
        raise InvalidValueError(
            field, f"{value!r} is not an NQN such as nqn.2014-08.org.nvmexpress:uuid:<uuid>"
        )
    return value


@lru_cache(maxsize=1024)
def _is_nqn(value: str) -> bool:
    """Asked of the same hosts again and again."""
    return _NQN.fullmatch(value) is not None


def check_address(field: str, value: str) -> str:
    """An IPv4 or IPv6 address in its normal form; an IPv6 one may name its zone, as in fe80::1%eth0."""
    address, percent, zone = value.partition("%")
    try:
        normal = str(ipaddress.ip_address(address))
    except ValueError:
        raise InvalidValueError(field, f"{value!r} is not an IPv4 or IPv6 address") from None
    if percent and (":" not in normal or not _ZONE.fullmatch(zone)):
        raise InvalidValueError(field, f"{value!r} is not an IPv4 or IPv6 address: its zone is wrong")
    return normal + percent + zone


def is_loopback(text: str) -> bool:
    """Whether it is an address that only this machine can reach; names are none."""
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def check_port(field: str, value: str | int) -> int:
    """A TCP port or RDMA service id, 1 to 65535."""
    port = int(value) if isinstance(value, int) or _PORT.fullmatch(value) else 0
    if not 1 <= port <= 65535:
        raise InvalidValueError(field, f"{value!r} is not a port between 1 and 65535")
    return port


def check_size(field: str, value: int) -> int:
    """A volume's size in bytes: whole GiB, at least one, at most MAXIMUM_VOLUME_SIZE."""
    if value < GIB or value % GIB or value > MAXIMUM_VOLUME_SIZE:
        raise InvalidValueError(field, f"must be whole GiB between 1 and {MAXIMUM_VOLUME_SIZE // GIB}")
    return value


def host_nqn(host_uuid: str) -> str:
    """The host NQN that belongs to a host id, as nvme-cli makes it (Base Specification 2.0, section 4.5)."""
    return f"nqn.2014-08.org.nvmexpress:uuid:{host_uuid}"


def subsystem_nqn(volume_id: VolumeId, prefix: str = DEFAULT_NQN_PREFIX) -> str:
    return f"{prefix}{volume_id}"


def volume_id_of_nqn(nqn: str, prefix: str = DEFAULT_NQN_PREFIX) -> VolumeId | None:
    """The volume that a subsystem of weft's holds, or None if the NQN is not one of weft's."""
    volume_id = nqn.removeprefix(prefix)
    return VolumeId(volume_id) if volume_id != nqn and _ID.fullmatch(volume_id) else None


def namespace_nguid(volume_id: VolumeId) -> bytes:
    return uuid.UUID(volume_id).bytes


def serial_number(volume_id: VolumeId) -> str:
    return volume_id.replace("-", "")[:20]


def durable_name(volume_id: VolumeId) -> str:
    """The NAA name that SCSI hosts see and OpenSDS calls identifier.durableName."""
    return "6" + uuid.UUID(volume_id).hex[1:]
