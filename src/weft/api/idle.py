"""Closes connections that ask for nothing."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle


class IdleClosingProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, except that a connection on which no request becomes complete in time is closed, whether
    it sends nothing or its head a byte at a time.
    """

    idle_seconds = 30.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._seen: RequestResponseCycle | None = None
        self._idle_check = self.loop.call_later(self.idle_seconds, self._close_if_idle)

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
