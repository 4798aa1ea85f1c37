"""Closes connections that ask for nothing, and those that are too many."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle


class IdleClosingProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, except that a connection on which no request becomes complete in time is closed, whether
    it sends nothing or its head a byte at a time, and that one more connection than a listener may have is too.
    """

    idle_seconds = 30.0
    most_connections = 256
    """To one listener. Each takes a descriptor, and whoever can connect must not take those that volumes need."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._seen: RequestResponseCycle | None = None
        self._idle_check = self.loop.call_later(self.idle_seconds, self._close_if_idle)
        if len(self.connections) > self.most_connections:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle_check.cancel()
        super().connection_lost(exc)

    def _close_if_idle(self) -> None:
        latest: RequestResponseCycle | None = self.cycle
        is_idle = latest is None or latest.response_complete
        if is_idle and latest is self._seen:
            self.transport.close()
            return
        self._seen = latest
        self._idle_check = self.loop.call_later(self.idle_seconds, self._close_if_idle)
