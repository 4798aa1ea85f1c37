"""What a token of one host opens. Every other route is for administrators, a new one too until it is named here.

Which rows it sees behind a route is decided where rows are read: weft.control.rows.is_visible.
"""

from typing import Final

from weft.errors import PermissionDeniedError
from weft.requests import Caller

HOST_ROUTES: Final = frozenset(
    {
        ("GET", "/token"),
        ("GET", "/block/volumes"),
        ("GET", "/block/volumes/{id}"),
        ("GET", "/block/volumes/{id}/refusals"),
        ("POST", "/block/attachments"),
        ("GET", "/block/attachments"),
        ("GET", "/block/attachments/{id}"),
        ("PUT", "/block/attachments/{id}"),
        ("DELETE", "/block/attachments/{id}"),
        ("POST", "/host/hosts"),
        ("GET", "/host/hosts"),
        ("GET", "/host/hosts/{id}"),
    }
)
"""Volumes to find one by its name; attachments and hosts as far as they are its own."""


def check_access(caller: Caller, method: str, path: str) -> None:
    """Raise PermissionDeniedError when the caller may not use the route; path is the one in the table of routes."""
    if caller.only is None or (method, path) in HOST_ROUTES:
        return
    raise PermissionDeniedError(
        "this token is for one host: it registers that host, attaches volumes to it and detaches them, and nothing"
        " else; ask an administrator"
    )
