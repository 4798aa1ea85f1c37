"""Keeps hosts from connecting to a portal while nvmet learns of the subsystems behind it, one after the other.

nvmet listens from the first subsystem on, and a host that asks for one that is not there yet is told not to try again:
it loses its device for good. So while several are linked to a portal that opens, an nftables rule drops the packets
that begin a connection: hosts just try again a moment later. The rules are in a table of weft's own.

Also the mark of a crash: a table that is found at a start says that a portal may lack subsystems.
"""

import logging
from typing import Final, Protocol

from weft.connection import NvmeofPortal
from weft.errors import CommandError, UnavailableError, UnsupportedError, WeftError
from weft.model import AddressFamily, Transport
from weft.run import run

_log = logging.getLogger(__name__)

TABLE: Final = "weft_gate"
_SECONDS: Final = 10.0
_IS_SHUT: Final = "no host can connect, for the nftables rules that hold hosts off cannot be taken away"
_ROCE_PORT: Final = 4791


class Gate(Protocol):
    def close(self, portal: NvmeofPortal) -> bool:
        """Have new connections to a portal wait; whether they do, or may."""

    def open(self) -> None:
        """Let everyone in again. Open already: nothing. Raises WeftError when it stays closed."""

    def is_closed(self) -> bool:
        """Whether a gate was closed, by this process or one before it, and not opened, or may have been."""


class NftGate:
    """By nftables. Where it does not work portals open ungated, and a warning says what that risks."""

    def __init__(self) -> None:
        self._has_closed = False

    def close(self, portal: NvmeofPortal) -> bool:
        if portal.transport is Transport.LOOP:
            return False  # nobody but this machine connects by it
        try:
            run(["nft", "-f", "-"], timeout=_SECONDS, stdin=_rules(portal))
        except UnavailableError:
            pass  # nobody knows whether nft had done it when it was ended
        except WeftError as error:
            _log.warning(
                "portal %s opens without a gate (%s): a host that reconnects at this very moment may lose its device",
                portal,
                error,
            )
            return False
        self._has_closed = True
        return True

    def open(self) -> None:
        # Adding what is there changes nothing, so that deleting never fails.
        removal = f"add table inet {TABLE}\ndelete table inet {TABLE}\n"
        try:
            run(["nft", "-f", "-"], timeout=_SECONDS, stdin=removal)
        except (CommandError, UnsupportedError):
            # Without nft, or nftables in the kernel, or the right to use them, no gate was ever closed.
            if self._has_closed or self.is_closed():
                raise
        self._has_closed = False

    def is_closed(self) -> bool:
        try:
            return f"table inet {TABLE}" in run(["nft", "list", "tables", "inet"], timeout=_SECONDS).stdout
        except UnavailableError:
            return True
        except WeftError:
            return False  # a kernel without nftables, or a process that may not use them


class KeptGate:
    """A gate together with what is known of it. Not safe to use from several threads."""

    def __init__(self, gate: Gate) -> None:
        self.trouble = ""
        """Why it could not be opened, a clause."""
        self._gate = gate
        self._is_closed = False
        self._is_unknown = False

    def close(self, portal: NvmeofPortal) -> None:
        if self._gate.close(portal):
            self._is_closed = True

    def was_left_closed(self) -> bool:
        """Whether a crash may have left it closed."""
        self._is_closed = self._gate.is_closed()
        return self._is_closed

    def look_later(self) -> None:
        """Have the next open_again() find out whether a crash has left it closed."""
        self._is_unknown = True

    def open(self) -> None:
        """Raises UnavailableError when it stays closed."""
        try:
            self._open()
        except WeftError as error:
            raise UnavailableError(
                f"{_IS_SHUT}: {error}; do this again, or take them away by hand: nft delete table inet {TABLE}"
            ) from error

    def open_again(self) -> None:
        """Open it if it was closed. What keeps it closed is remembered as its trouble, and tried again next time."""
        try:
            if not self._is_closed and self._is_unknown:
                self._is_closed = self._gate.is_closed()
            self._is_unknown = False
            if self._is_closed:
                self._open()
        except WeftError as error:
            if not self.trouble:
                _log.error("%s: %s; it is tried again", _IS_SHUT, error)
            self.trouble = str(error)

    def notes(self) -> list[str]:
        """Sentences for a person about what keeps everyone out."""
        return [f"{_IS_SHUT}: {self.trouble}; it is tried again"] if self.trouble else []

    def _open(self) -> None:
        self._gate.open()
        self._is_closed, self.trouble = False, ""


def _rules(portal: NvmeofPortal) -> str:
    family = "ip6" if portal.family is AddressFamily.IPV6 else "ip"
    address = portal.address.partition("%")[0]
    chain = f"inet {TABLE} input"
    lines = [
        f"add table inet {TABLE}",
        f"add chain {chain} {{ type filter hook input priority -300; policy accept; }}",
        # iWARP in software listens by the kernel's TCP, so this is for both transports.
        f"add rule {chain} {family} daddr {address} tcp dport {portal.port} tcp flags & (syn | ack) == syn drop",
    ]
    if portal.transport is Transport.RDMA:
        lines.append(f"add rule {chain} {family} daddr {address} udp dport {_ROCE_PORT} drop")
    return "\n".join(lines) + "\n"
