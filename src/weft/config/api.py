"""The section `api`: where the API listens, and who may use it."""

from enum import StrEnum
from pathlib import Path

from weft.config.portals import parse_portal
from weft.config.section import Section, directory
from weft.errors import InvalidValueError
from weft.model import Transport
from weft.names import is_loopback


class ApiAuth(StrEnum):
    """Who may use the API over TCP. The unix socket always goes by its file mode: its owner only."""

    TOKEN = "token"  # noqa: S105 -- a word of the configuration, not a secret
    NONE = "none"


class TlsSection(Section, frozen=True):
    """Paths of a certificate (with those between it and its authority) and its key, PEM; without them one is made."""

    certificate: str = ""
    key: str = ""


class ApiSection(Section, frozen=True):
    """`listen`: host:port addresses beside the unix socket that is always there; TLS is spoken off loopback."""

    listen: tuple[str, ...] = ()
    auth: ApiAuth = ApiAuth.TOKEN
    tls: TlsSection = TlsSection()


def parse_listen(field: str, value: str) -> tuple[str, int]:
    """`address:port`."""
    portal = parse_portal(field, value)
    if portal.transport is not Transport.TCP or "://" in value or not value.endswith(f":{portal.port}"):
        raise InvalidValueError(field, f"{value!r} is not address:port, such as 127.0.0.1:50040")
    return portal.address, portal.port


def check_api(api: ApiSection) -> None:
    listens = [parse_listen("api.listen", each) for each in api.listen]
    if len(set(listens)) != len(listens):
        raise InvalidValueError("api.listen", "names the same address and port twice")
    if api.auth is ApiAuth.NONE and not all(is_loopback(address) for address, _ in listens):
        raise InvalidValueError(
            "api.auth", "none is for loopback alone; whoever reaches another address must show a token"
        )
    if bool(api.tls.certificate) != bool(api.tls.key):
        raise InvalidValueError(
            "api.tls", "certificate and key belong together: give both, or neither to have them made"
        )
    directory("api.tls.certificate", api.tls.certificate, Path())
    directory("api.tls.key", api.tls.key, Path())
