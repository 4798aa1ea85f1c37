"""The ASGI application: the table of routes, and what happens around every handler."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from weft.api import attachments, hosts, pools, profiles, snapshots, tokens, versions, volumes
from weft.api.access import check_access
from weft.api.call import Answer, Api, Call, Handler, Waiters
from weft.api.errors import JSON, error_response, http_exception_response
from weft.api.gates import Gate
from weft.api.idle import let_in
from weft.api.preference import preferred_wait
from weft.control.service import Service
from weft.control.tokens import view_token
from weft.errors import InvalidValueError, PermissionDeniedError, UnavailableError
from weft.model import TenantId
from weft.requests import DEFAULT_TENANT, Caller
from weft.tokens import TokenScope
from weft.views import TokenView
from weft.wire.codec import encode

LARGEST_BODY = 2**20
_BODY_SECONDS = 30.0
_TENANT = re.compile(r"[A-Za-z0-9._-]{1,64}")

PUBLIC_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/", versions.list_),
    ("GET", "/{version}", versions.get),
)

ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/block/volumes", volumes.create),
    ("GET", "/block/volumes", volumes.list_),
    ("GET", "/block/volumes/{id}", volumes.get),
    ("PUT", "/block/volumes/{id}", volumes.update),
    ("DELETE", "/block/volumes/{id}", volumes.delete),
    ("POST", "/block/volumes/{id}/resize", volumes.extend),
    ("POST", "/block/volumes/{id}/revert", volumes.revert),
    ("GET", "/block/volumes/{id}/refusals", volumes.refusals),
    ("POST", "/block/snapshots", snapshots.create),
    ("GET", "/block/snapshots", snapshots.list_),
    ("GET", "/block/snapshots/{id}", snapshots.get),
    ("PUT", "/block/snapshots/{id}", snapshots.update),
    ("DELETE", "/block/snapshots/{id}", snapshots.delete),
    ("POST", "/block/attachments", attachments.create),
    ("GET", "/block/attachments", attachments.list_),
    ("GET", "/block/attachments/{id}", attachments.get),
    ("PUT", "/block/attachments/{id}", attachments.update),
    ("DELETE", "/block/attachments/{id}", attachments.delete),
    ("POST", "/host/hosts", hosts.create),
    ("GET", "/host/hosts", hosts.list_),
    ("GET", "/host/hosts/{id}", hosts.get),
    ("PUT", "/host/hosts/{id}", hosts.update),
    ("DELETE", "/host/hosts/{id}", hosts.delete),
    ("GET", "/host/hosts/{id}/secrets", hosts.secrets),
    ("PUT", "/host/hosts/{id}/secrets", hosts.set_secrets),
    ("DELETE", "/host/hosts/{id}/secrets", hosts.remove_secrets),
    ("GET", "/token", tokens.own),
    ("POST", "/tokens", tokens.create),
    ("GET", "/tokens", tokens.list_),
    ("DELETE", "/tokens/{id}", tokens.revoke),
    ("GET", "/pools", pools.list_),
    ("GET", "/pools/{id}", pools.get),
    ("GET", "/availabilityZones", pools.availability_zones),
    ("POST", "/profiles", profiles.create),
    ("GET", "/profiles", profiles.list_),
    ("GET", "/profiles/{id}", profiles.get),
    ("PUT", "/profiles/{id}", profiles.update),
    ("DELETE", "/profiles/{id}", profiles.delete),
    ("POST", "/profiles/{id}/customProperties", profiles.add_properties),
    ("GET", "/profiles/{id}/customProperties", profiles.list_properties),
    ("DELETE", "/profiles/{id}/customProperties/{key}", profiles.remove_property),
)


def build_app(service: Service, gate: Gate, waiters: Waiters | None = None) -> Starlette:
    """The API as it looks through one listener: gate decides who comes in there.

    waiters is shared by the applications of one server.
    """
    api = Api(service, waiters or Waiters())
    routes = [*_routes(api, "", PUBLIC_ROUTES, None), *_routes(api, "/v1beta/{tenant}", ROUTES, gate)]
    app = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: http_exception_response,
            Exception: http_exception_response,
        },
    )
    app.router.redirect_slashes = False
    return app


def _routes(
    api: Api, prefix: str, table: Sequence[tuple[str, str, Handler]], gate: Gate | None
) -> Iterator[Route]:
    """One route for each path, so that a method that it does not know is told those that it does."""
    paths: dict[str, dict[str, Handler]] = {}
    for method, path, handler in table:
        paths.setdefault(path, {})[method] = handler
    for path, handlers in paths.items():
        yield Route(prefix + path, _endpoint(api, path, handlers, gate), methods=list(handlers))


def _endpoint(
    api: Api, path: str, handlers: Mapping[str, Handler], gate: Gate | None
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            method = "GET" if request.method == "HEAD" else request.method
            tenant = request.path_params.get("tenant", DEFAULT_TENANT)
            caller, token = await run_in_threadpool(_admit, api, gate, request, tenant)
            if gate is not None:
                let_in(request)
            check_access(caller, method, path)
            call = Call(
                caller=caller,
                token=token,
                ids=request.path_params,
                query=request.query_params.multi_items(),
                body=await _body(request),
                wait=preferred_wait(request.headers.getlist("prefer")),
                hung_up=threading.Event(),
            )
            async with _noticing_hang_up(request, call):
                return await run_in_threadpool(lambda: _response(handlers[method](api, call), call))
        except Exception as error:  # noqa: BLE001 -- every failure becomes an answer, and bugs are logged there
            return error_response(error, f"{request.method} {request.url.path!r}")

    return endpoint


def _admit(api: Api, gate: Gate | None, request: Request, tenant: str) -> tuple[Caller, TokenView | None]:
    """On whose behalf a request is made, and the token that it came with if that has a name.

    The tenant that a path names is not authenticated, as in OpenSDS's noauth strategy, except for a host's token,
    which belongs to a tenant.
    """
    token = gate.admit(request.headers, request.client.host if request.client else "") if gate else None
    if not _TENANT.fullmatch(tenant):
        raise InvalidValueError("tenantId", "may only hold letters, digits, dots, dashes and underscores")
    view = view_token(token) if token is not None else None
    if token is None or token.scope is TokenScope.ADMIN:
        return Caller(tenant_id=TenantId(tenant), is_admin=tenant == DEFAULT_TENANT), view
    if token.tenant_id != tenant:
        raise PermissionDeniedError("this token belongs to another tenant than the path names")
    return Caller(tenant_id=token.tenant_id, only=api.service.tokens.one_host(token)), view


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST_BODY:
                    raise InvalidValueError("body", f"is larger than {LARGEST_BODY} bytes")
    except TimeoutError:
        raise UnavailableError(f"the request's body did not arrive within {_BODY_SECONDS:g} s") from None
    except ClientDisconnect:
        raise UnavailableError("the connection ended before the request's body") from None
    return bytes(body)


@asynccontextmanager
async def _noticing_hang_up(request: Request, call: Call) -> AsyncIterator[None]:
    """Set call.hung_up when a client that prefers to wait goes away, so that it takes no other's place."""
    if call.wait <= 0:
        yield
        return
    task = asyncio.create_task(_hang_up(request, call))
    try:
        yield
    finally:
        task.cancel()


async def _hang_up(request: Request, call: Call) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    call.hung_up.set()


def _response(answer: Answer, call: Call) -> Response:
    headers = {"Cache-Control": "no-store"}
    if answer.waited:
        headers["Preference-Applied"] = f"wait={call.wait:.0f}"
    if answer.value is None:
        return Response(b"", answer.status, headers)
    return Response(encode(answer.value), answer.status, headers, media_type=JSON)
