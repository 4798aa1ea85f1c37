"""Tokens: who may use the API from another machine, and for what."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from weft.control.rows import claims, is_visible, now, retry_on_conflict
from weft.errors import (
    InvalidValueError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from weft.model import Host, HostId, Protocol, TenantId
from weft.names import check_host_name, check_name, check_nqn, new_id
from weft.ports import CLAIMS, HOSTS, TOKENS, Delete, Key, Put, Revision, Row, Store, Write
from weft.requests import Caller, CreateTokenRequest, OneHost
from weft.tokens import Token, TokenId, TokenScope, digest, token_id, write_token
from weft.views import NewToken, TokenView

_LONGEST_DAYS = 36500


@dataclass(frozen=True, slots=True)
class _Bound:
    """What of a host a token is for; what is empty is left to the host."""

    tenant_id: TenantId
    host_id: HostId | None = None
    name: str = ""
    nqn: str = ""


class Tokens:
    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, caller: Caller, request: CreateTokenRequest) -> NewToken:
        """Make a token. Raises ConflictError when there is one of that name."""
        _require_admin(caller)
        name = check_name("name", request.name, maximum=64)
        bound = self._bound(caller, request.host)
        made_at = now()
        row_id = TokenId(new_id())
        text = write_token(row_id)
        token = Token(
            id=row_id,
            name=name,
            scope=TokenScope.HOST if request.host else TokenScope.ADMIN,
            tenant_id=bound.tenant_id,
            digest=digest(text),
            created_at=made_at,
            expires_at=_expiry(made_at, request.valid_days),
            host_id=bound.host_id,
            host_name=bound.name,
            host_nqn=bound.nqn,
        )

        def attempt() -> NewToken:
            expected, writes = claims(self._store, token.id, _claims(token))
            self._store.transact(expected, [Put(TOKENS, token), *writes])
            return NewToken(view_token(token), text)

        return retry_on_conflict(attempt)

    def list(self, caller: Caller) -> list[TokenView]:
        _require_admin(caller)
        return [view_token(row.value) for row in self._store.list(TOKENS)]

    def revoke(self, caller: Caller, row_id: TokenId) -> None:
        """Have a token open nothing any more, from this moment on; one that is not there is a NotFoundError."""
        _require_admin(caller)

        def attempt() -> None:
            row = self._store.get(TOKENS, row_id)
            if row is None:
                raise NotFoundError(f"token {row_id} can't be found")
            _, writes = claims(self._store, row_id, {}, _claims(row.value))
            key = Key(TOKENS.name, row_id)
            self._store.transact({key: row.revision}, [Delete(key), *writes])

        retry_on_conflict(attempt)

    def authenticate(self, text: str) -> Token | None:
        """The token that text is; None for one that never was, was revoked or has expired."""
        row_id = token_id(text)
        row = self._store.get(TOKENS, row_id) if row_id is not None else None
        if row is None or not row.value.is_valid(text, datetime.now(UTC)):
            return None
        return row.value

    def one_host(self, token: Token) -> OneHost:
        """The host that a token of scope host is for, as it is registered now."""
        host = _host_of(self._store, token)
        return OneHost(token_id=token.id, host_id=host.id if host is not None else None)

    def _bound(self, caller: Caller, wanted: str) -> _Bound:
        if not wanted:
            return _Bound(caller.tenant_id)
        host = self._registered(wanted)
        if host is not None and is_visible(caller, host):
            return _Bound(host.tenant_id, host.id, host.name, host.initiator(Protocol.NVMEOF) or "")
        if wanted.startswith("nqn."):
            return _Bound(caller.tenant_id, nqn=check_nqn("host", wanted))
        return _Bound(caller.tenant_id, name=check_host_name("host", wanted))

    def _registered(self, wanted: str) -> Host | None:
        for claim_id in (f"host:{wanted}", f"initiator:{wanted}"):
            claim = self._store.get(CLAIMS, claim_id)
            if claim is not None:
                wanted = claim.value.owner
                break
        row = self._store.get(HOSTS, wanted)
        return row.value if row is not None else None


def view_token(token: Token) -> TokenView:
    return TokenView(
        id=token.id,
        name=token.name,
        scope=token.scope,
        tenant_id=token.tenant_id,
        created_at=token.created_at,
        expires_at=token.expires_at,
        host_id=token.host_id,
        host_name=token.host_name,
        host_nqn=token.host_nqn,
    )


def bind_token(store: Store, caller: Caller, host: Host) -> tuple[Mapping[Key, Revision], list[Write]]:
    """What to expect and to write so that the caller's token is bound to the host that it registers.

    Nothing for a caller who may register any host. Raises PermissionDeniedError when the token is for another host.
    """
    if caller.only is None:
        return {}, []
    row = store.get(TOKENS, caller.only.token_id)
    if row is None:
        raise UnauthenticatedError("the token was revoked")
    _check_registration(store, row, host)
    bound = replace(
        row.value, host_id=host.id, host_name=host.name, host_nqn=host.initiator(Protocol.NVMEOF) or ""
    )
    return {Key(TOKENS.name, bound.id): row.revision}, [Put(TOKENS, bound)]


def _check_registration(store: Store, row: Row[Token], host: Host) -> None:
    token = row.value
    known = _host_of(store, token)
    if known is not None:
        raise PermissionDeniedError(
            f"this token is for host {known.name} with NQN {known.initiator(Protocol.NVMEOF)}, which is registered;"
            " a host with another identity needs a token of its own"
        )
    if token.host_name and host.name != token.host_name:
        raise PermissionDeniedError(
            f"this token is for a host named {token.host_name}, not {host.name}: register it with"
            f" `weft host register {token.host_name}`"
        )
    nqn = host.initiator(Protocol.NVMEOF)
    if len(host.initiators) != 1 or nqn is None:
        raise PermissionDeniedError("by its own token a host registers with one initiator: its NQN")
    if token.host_nqn and nqn != token.host_nqn:
        raise PermissionDeniedError(f"this token is for the host with NQN {token.host_nqn}, not {nqn}")
    if not token.host_nqn and _is_promised(store, nqn):
        raise PermissionDeniedError(
            f"another token is for the host with NQN {nqn}; an administrator can revoke that one (`weft token list"
            f" --host {nqn}`), or make another for this NQN"
        )


def _is_promised(store: Store, nqn: str) -> bool:
    """Whether there is a token for the host with this NQN: who registered it by another would share that host."""
    present = datetime.now(UTC)
    return any(not row.value.has_expired(present) for row in store.list(TOKENS, where={"host_nqn": nqn}))


def _host_of(store: Store, token: Token) -> Host | None:
    """By its id or, when it is registered anew, by its NQN."""
    row = store.get(HOSTS, token.host_id) if token.host_id is not None else None
    if row is None and token.host_nqn:
        claim = store.get(CLAIMS, f"initiator:{token.host_nqn}")
        row = store.get(HOSTS, claim.value.owner) if claim is not None else None
    return row.value if row is not None and row.value.tenant_id == token.tenant_id else None


def _claims(token: Token) -> dict[str, str]:
    return {
        f"token:{token.name}": f"there is a token named {token.name} already; revoke it or choose another name"
    }


def _expiry(since: datetime, days: int | None) -> datetime | None:
    if days is None:
        return None
    if not 1 <= days <= _LONGEST_DAYS:
        raise InvalidValueError("validDays", f"{days} is not between 1 and {_LONGEST_DAYS}")
    return since + timedelta(days=days)


def _require_admin(caller: Caller) -> None:
    if not caller.is_admin or caller.only is not None:
        raise PermissionDeniedError("only an administrator deals with tokens")
