"""TLS on a listener, with strangers' handshakes bounded in time and number."""

import asyncio
import ssl

from weft.api.idle import IdleClosingProtocol


class TlsProtocol(IdleClosingProtocol):
    """HTTP/1.1 behind TLS; a subclass gives context, and belongs to one listener.

    asyncio's own TLS servers make the protocol only once the handshake is done, so whoever connects and says nothing
    would count for none of the connections that a listener may have.
    """

    context: ssl.SSLContext
    handshake_seconds = 10.0
    handshaking: "dict[TlsProtocol, asyncio.Transport]"
    """The oldest first."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.handshaking = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._secured = self._lost = False
        if len(self.living()) + len(self.handshaking) >= self.most_connections and not self._make_room():
            transport.abort()
            return
        transport.pause_reading()  # what comes next is for start_tls
        self._early = bytearray()
        self.handshaking[self] = transport
        self._handshake = self.loop.create_task(self._shake_hands(transport))

    def _make_room(self) -> bool:
        """The oldest handshake goes first, then as everywhere."""
        oldest = next(iter(self.handshaking), None)
        if oldest is None:
            return self.end_a_stranger()
        self.handshaking.pop(oldest).abort()
        return True

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        try:
            secured = await self.loop.start_tls(
                transport,
                self,
                self.context,
                server_side=True,
                ssl_handshake_timeout=self.handshake_seconds,
            )
        except OSError:  # also of a peer that does not speak TLS, or not in time
            transport.abort()
            return
        except asyncio.CancelledError:
            transport.abort()
            raise
        finally:
            self.handshaking.pop(self, None)
        if self._lost or secured is None:  # while the end of the handshake was on its way here
            return
        self._secured = True
        super().connection_made(secured)
        early, self._early = bytes(self._early), bytearray()
        if early:
            super().data_received(early)

    def data_received(self, data: bytes) -> None:
        """A client may send its request together with the end of its handshake."""
        if not self._secured:
            self._early += data
        else:
            super().data_received(data)

    def eof_received(self) -> None:
        if self._secured:
            super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._secured:
            super().connection_lost(exc)
