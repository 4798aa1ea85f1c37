"""How fields lie on the wire: little-endian structs and fixed-size texts."""

import struct
from typing import Final, TypeAlias

from weft.nvme.errors import LocalProtocolError

BytesLike: TypeAlias = bytes | bytearray | memoryview

NQN_FIELD: Final = 256  # bytes on the wire
NQN_MAX: Final = 223  # bytes of the name itself (Base 2.0, 4.5)


def pack(layout: struct.Struct, *values: int | bytes) -> bytes:
    """`layout.pack`, where a value that does not fit its field is the caller's error."""
    try:
        return layout.pack(*values)
    except struct.error as error:
        raise LocalProtocolError(f"A field does not fit its place on the wire: {error}.") from error


def padded_text(text: str, size: int, *, pad: bytes = b" ") -> bytes:
    """`text` in a field of `size` bytes; ASCII strings of Identify are filled with spaces, NQNs with NULs."""
    raw = text.encode()
    if len(raw) > size:
        raise LocalProtocolError(f"{text!r} does not fit into {size} bytes.")
    return raw.ljust(size, pad)


def padded_nqn(nqn: str) -> bytes:
    """An NQN in its field of 256 bytes, of which at most 223 are the name."""
    if len(nqn.encode()) > NQN_MAX:
        raise LocalProtocolError(f"The NQN {nqn!r} is longer than {NQN_MAX} bytes.")
    return padded_text(nqn, NQN_FIELD, pad=b"\0")


def read_text(field: BytesLike) -> str:
    """The text of a space- or NUL-filled field; what is not UTF-8 is shown as replacement characters."""
    return bytes(field).split(b"\0", 1)[0].rstrip(b" ").decode(errors="replace")


def read_nqn(field: BytesLike) -> str | None:
    """The NQN in its field of 256 bytes, None if it is empty, unterminated, too long, not UTF-8 or not printable."""
    name, terminator, _ = bytes(field).partition(b"\0")
    if not terminator or not 0 < len(name) <= NQN_MAX:
        return None
    try:
        nqn = name.decode()
    except UnicodeDecodeError:
        return None
    return nqn if nqn.isprintable() else None
