"""Keys of DH-HMAC-CHAP and the text that they are written as (Base 2.0, 8.13.5.7 and 8.13.5.8).

    DHHC-1:<hash>:<base64 of the key and of its CRC-32>:

`<hash>` is `00` for a key that is used as it is, or says by which hash function it is made into one that belongs to
an NQN alone: `01` SHA-256, `02` SHA-384, `03` SHA-512. The key has 32, 48 or 64 bytes; with a hash function, as many
as that gives. The CRC (that of zlib) is little-endian.
"""

import base64
import hmac
import re
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final


class DhChapHash(IntEnum):
    """Hash functions, by their identifiers on the wire (Base 2.0, 8.13.5.2)."""

    SHA_256 = 1
    SHA_384 = 2
    SHA_512 = 3

    @property
    def algorithm(self) -> str:
        """Its name in hashlib, in nvmet's `dhchap_hash` within `hmac(...)`, and for a person."""
        return f"sha{self.size * 8}"

    @property
    def size(self) -> int:
        """Bytes of a digest."""
        return _SIZES[self]


_SIZES: Final[Mapping[DhChapHash, int]] = {
    DhChapHash.SHA_256: 32,
    DhChapHash.SHA_384: 48,
    DhChapHash.SHA_512: 64,
}
_CRC_SIZE: Final = 4
_TEXT: Final = re.compile(r"DHHC-1:(?P<hash>[0-9]{2}):(?P<base64>[A-Za-z0-9+/]+=*):")
_PURPOSE: Final = b"NVMe-over-Fabrics"


class InvalidKeyError(ValueError):
    """A text is not a key. Says why as the end of a sentence, without the text."""


@dataclass(frozen=True, slots=True)
class DhChapKey:
    """A key. hash: by what it is made into one for an NQN, None for a key that is used as it is."""

    secret: bytes = field(repr=False)
    hash: DhChapHash | None

    def transformed(self, nqn: str) -> bytes:
        """The key as `nqn` uses it: a host's for its host NQN, a controller's for that of its subsystem."""
        if self.hash is None:
            return self.secret
        return hmac.digest(self.secret, nqn.encode() + _PURPOSE, self.hash.algorithm)

    def encode(self) -> str:
        """The text to keep it by; as secret as the key itself."""
        crc = zlib.crc32(self.secret).to_bytes(_CRC_SIZE, "little")
        encoded = base64.b64encode(self.secret + crc).decode()
        return f"DHHC-1:{self.hash or 0:02}:{encoded}:"


def parse_dhchap_key(text: str) -> DhChapKey:
    """Read and check a key's text. Raises InvalidKeyError.

    Checked here because nvmet takes any text that begins like a key, and refuses hosts afterwards.
    """
    matched = _TEXT.fullmatch(text)
    if matched is None:
        raise InvalidKeyError("is not a DH-HMAC-CHAP key, which looks like DHHC-1:01:<base64>:")
    number = int(matched["hash"])
    if number > max(DhChapHash):
        raise InvalidKeyError(f"names hash {number:02}, and a DH-HMAC-CHAP key has 00, 01, 02 or 03 there")
    used_hash = DhChapHash(number) if number else None
    raw = _decode(matched["base64"])
    secret, crc = raw[:-_CRC_SIZE], raw[-_CRC_SIZE:]
    allowed = [used_hash.size] if used_hash else sorted(_SIZES.values())
    if len(secret) not in allowed:
        raise InvalidKeyError(
            f"holds {len(secret)} bytes, and a key with hash {number:02} has {' or '.join(map(str, allowed))}"
        )
    if zlib.crc32(secret).to_bytes(_CRC_SIZE, "little") != crc:
        raise InvalidKeyError("is mistyped: its check sum is wrong")
    return DhChapKey(secret, used_hash)


def generate_dhchap_key(used_hash: DhChapHash = DhChapHash.SHA_256) -> str:
    """The text of a new random key, as long as the hash function's digests."""
    return DhChapKey(secrets.token_bytes(used_hash.size), used_hash).encode()


def _decode(encoded: str) -> bytes:
    try:
        raw = base64.b64decode(encoded, validate=True)
    except ValueError:
        raw = b""
    if len(raw) <= _CRC_SIZE or base64.b64encode(raw).decode() != encoded:
        raise InvalidKeyError("is mistyped: its middle part is not base64")
    return raw
