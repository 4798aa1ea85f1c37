"""Closes connections that ask for nothing, and those that are too many."""

import asyncio
import itertools

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

_arrivals = itertools.count()


class IdleClosingProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, except that a connection on which no request becomes complete in time is closed, whether
    it sends nothing or its head a byte at a time, and that a listener has no more connections than it may have.

    One more makes the oldest go that has not asked for anything yet, so that strangers who connect and keep silent
    cannot keep others out; when all have asked for something, it goes itself.
    """

    idle_seconds = 30.0
    most_connections = 256
    """To one listener. Each takes a descriptor, and whoever can connect must not take those that volumes need."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arrival = next(_arrivals)
        self._seen: RequestResponseCycle | None = None
        self._idle_check = self.loop.call_later(self.idle_seconds, self._close_if_idle)
        if len(self.living()) > self.most_connections and not self.end_a_silent_one():
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

    @property
    def is_silent(self) -> bool:
        """Whether no request has come whole yet."""
        latest: RequestResponseCycle | None = self.cycle
        return latest is None

    def end_a_silent_one(self) -> bool:
        """End the oldest other connection that has not asked for anything; False when there is none."""
        silent = [each for each in self.living() if each.is_silent and each is not self]
        if not silent:
            return False
        min(silent, key=lambda each: each._arrival).transport.abort()  # noqa: SLF001 -- of the same class
        return True

    def _close_if_idle(self) -> None:
        latest: RequestResponseCycle | None = self.cycle
        is_idle = latest is None or latest.response_complete
        if is_idle and latest is self._seen:
            self.transport.close()
            return
        self._seen = latest
        self._idle_check = self.loop.call_later(self.idle_seconds, self._close_if_idle)
