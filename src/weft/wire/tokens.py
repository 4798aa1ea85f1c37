"""Tokens on the wire. Only the answer that makes one holds the token itself."""

from weft.errors import DataError
from weft.model import HostId, TenantId
from weft.requests import CreateTokenRequest
from weft.tokens import TokenId, TokenScope
from weft.views import NewToken, TokenView
from weft.wire.base import Body, Resource, Whole, format_time, parse_time


class TokenBody(Body, kw_only=True):
    name: str = ""
    host: str = ""
    valid_days: Whole | None = None

    @classmethod
    def of(cls, request: CreateTokenRequest) -> "TokenBody":
        return cls(name=request.name, host=request.host, valid_days=request.valid_days)

    def request(self) -> CreateTokenRequest:
        return CreateTokenRequest(name=self.name, host=self.host, valid_days=self.valid_days)


class TokenResource(Resource, kw_only=True):
    """Of the token that a request came with, id and name are empty when it was not made by name."""

    name: str
    scope: TokenScope
    tenant_id: str
    expires_at: str = ""
    host_id: str = ""
    host_name: str = ""
    host_nqn: str = ""
    token: str = ""

    @classmethod
    def of(cls, view: TokenView, text: str = "") -> "TokenResource":
        """text: the token itself, for the one who has it made."""
        return cls(
            id=view.id,
            created_at=format_time(view.created_at),
            updated_at="",
            name=view.name,
            scope=view.scope,
            tenant_id=view.tenant_id,
            expires_at=format_time(view.expires_at),
            host_id=view.host_id or "",
            host_name=view.host_name,
            host_nqn=view.host_nqn,
            token=text,
        )

    def view(self) -> TokenView:
        return TokenView(
            id=TokenId(self.id),
            name=self.name,
            scope=self.scope,
            tenant_id=TenantId(self.tenant_id),
            created_at=parse_time(self.created_at),
            expires_at=parse_time(self.expires_at),
            host_id=HostId(self.host_id) if self.host_id else None,
            host_name=self.host_name,
            host_nqn=self.host_nqn,
        )

    def new_token(self) -> NewToken:
        if not self.token:
            raise DataError("a new token was answered without the token itself")
        return NewToken(self.view(), self.token)
