"""Closes connections that ask for nothing, and those that are too many."""

import asyncio
import itertools

from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

_arrivals = itertools.count()
_LET_IN = "let_in"


def let_in(request: Request) -> None:
    """Note that a gate has let the request in: its connection is no stranger's from now on."""
    setattr(request.state, _LET_IN, True)


class IdleClosingProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, except that a connection on which no request becomes complete in time is closed, whether
    it sends nothing or its head a byte at a time, and that a listener has no more connections than it may have.

    One more makes the oldest go over which nobody was let in yet, so that strangers cannot keep others out, whether they
    keep silent or ask for what nobody needs a token for; when somebody was let in over each, it goes itself.
    """

    idle_seconds = 30.0
    most_connections = 256
    """To one listener. Each takes a descriptor, and whoever can connect must not take those that volumes need."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arrival = next(_arrivals)
        self._let_in = False
        self._seen: RequestResponseCycle | None = None
        self._idle_check = self.loop.call_later(self.idle_seconds, self._close_if_idle)
        if len(self.living()) > self.most_connections and not self.end_a_stranger():
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle_check.cancel()
        super().connection_lost(exc)

    def living(self) -> "list[IdleClosingProtocol]":
        """The listener's connections, without those that are about to be gone."""
        return [
            each
            for each in self.connections
            if isinstance(each, IdleClosingProtocol) and not each.transport.is_closing()
        ]

    def on_response_complete(self) -> None:
        self._let_in = not self.is_stranger
        super().on_response_complete()

    @property
    def is_stranger(self) -> bool:
        """Whether no request that came over it was let in yet."""
        latest: RequestResponseCycle | None = self.cycle
        return not (self._let_in or (latest is not None and _LET_IN in latest.scope["state"]))

    def end_a_stranger(self) -> bool:
        """End the oldest other connection over which nobody was let in; False when there is none."""
        strangers = [each for each in self.living() if each.is_stranger and each is not self]
        if not strangers:
            return False
        min(strangers, key=lambda each: each._arrival).transport.abort()  # noqa: SLF001 -- of the same class
        return True

    def _close_if_idle(self) -> None:
        latest: RequestResponseCycle | None = self.cycle
        is_idle = latest is None or latest.response_complete
        if is_idle and latest is self._seen:
            self.transport.close()
            return
        self._seen = latest
        self._idle_check = self.loop.call_later(self.idle_seconds, self._close_if_idle)
