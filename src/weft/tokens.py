"""Bearer tokens: how they are written, and what is kept of them."""

import hashlib
import hmac
import re
import secrets
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NewType

from weft.model import HostId, TenantId

TokenId = NewType("TokenId", str)

_SECRET_BYTES = 32
_WRITTEN = re.compile(r"weft_(?P<id>[0-9a-f]{32})_[A-Za-z0-9_-]{43}")


class TokenScope(StrEnum):
    """What a token opens: everything, or what one host needs for its own attachments."""

    ADMIN = "admin"
    HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What weft keeps of a token.

    digest is the SHA-256 of the token as its holder has it. The token holds 256 random bits, so there is nothing to
    guess, and a salted or slow hash would only make each request slow. expires_at: None for never.

    A token of scope host is for one host: the one that has host_id or, as long as that is not registered, the one
    that registers with host_nqn and host_name, where an empty one leaves the choice to the host. What the host
    registers with is written here then, and stays.
    """

    id: TokenId
    name: str
    scope: TokenScope
    tenant_id: TenantId
    digest: str = field(repr=False)
    created_at: datetime
    expires_at: datetime | None = None
    host_id: HostId | None = None
    host_name: str = ""
    host_nqn: str = ""

    def is_valid(self, text: str, now: datetime) -> bool:
        """Whether text is this token, and it has not expired."""
        fits = hmac.compare_digest(self.digest.encode(), digest(text).encode())
        return fits and not self.has_expired(now)

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and now >= self.expires_at


def write_token(token_id: TokenId) -> str:
    """A new token as its holder keeps it; it names its id, so that it can be looked up without searching."""
    return f"weft_{uuid.UUID(token_id).hex}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def token_id(text: str) -> TokenId | None:
    """The id that a token names; None for what no token of weft's looks like."""
    matched = _WRITTEN.fullmatch(text)
    return TokenId(str(uuid.UUID(matched["id"]))) if matched is not None else None


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
