"""Why the node did not let this host in: the host's own error tells little of it."""

from weft.client import Client
from weft.connection import Connection
from weft.errors import PermissionDeniedError, WeftError

_SLACK_SECONDS = 1.0
"""For what the node saw just before this host began to count."""


def explained(client: Client, error: WeftError, connection: Connection, elapsed: float) -> WeftError:
    """error or, when the node turned this host away within the elapsed seconds, an error that says why."""
    try:
        refusals = client.refusals(connection.volume_id, connection.host_nqn)
    except WeftError:
        return error  # that it cannot be told why does not matter beside the failure
    for each in refusals:
        if each.age is None or each.age <= elapsed + _SLACK_SECONDS:
            return PermissionDeniedError(f"the node refused this host: {each.message} ({error})")
    return error
