"""Serves the API on its listeners, from one thread."""

import asyncio
import logging
import socket
import ssl
import threading
import time
from contextlib import ExitStack

import uvicorn
from starlette.applications import Starlette

from weft.api.app import build_app
from weft.api.call import Waiters
from weft.api.certificate import served_pin, tls_context
from weft.api.gates import Gate, LoopbackGate, SocketGate, TokenGate
from weft.api.handshake import TlsProtocol
from weft.api.idle import IdleClosingProtocol
from weft.api.sockets import UnixListener, listen_tcp
from weft.api.token import load_token
from weft.config import ApiAuth, Config, parse_listen
from weft.control.service import Service
from weft.errors import UnavailableError
from weft.logs import RateLimit
from weft.names import is_loopback

_log = logging.getLogger("weft.api")

logging.getLogger("uvicorn.error").addFilter(RateLimit())  # strangers can cause its lines

_START_SECONDS = 10.0
_GRACE_SECONDS = 3
_JOIN_SECONDS = 5.0


class ApiServer:
    """The API on the configured unix socket and TCP addresses.

    Whoever can open the unix socket is trusted; over TCP the configuration says what is asked for, and off loopback
    TLS is spoken. Each of the three has an application of its own.
    """

    def __init__(
        self,
        service: Service,
        config: Config,
        *,
        http_protocol: type[IdleClosingProtocol] = IdleClosingProtocol,
    ) -> None:
        self._service = service
        self._config = config
        self._http_protocol = http_protocol
        self._waiters = Waiters()
        self._sockets = ExitStack()
        self._servers: list[tuple[uvicorn.Server, list[socket.socket]]] = []
        self._thread = threading.Thread(target=self._run, name="api")

    def start(self) -> None:
        """Listen, and return once requests are answered.

        Raises ConflictError when an address is taken, or when another server answers on the unix socket.
        """
        try:
            self._open()
            self._thread.start()
            self._wait_until_started()
        except BaseException:
            self.stop()
            raise

    def is_alive(self) -> bool:
        """Whether the thread that answers requests runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop listening; requests under way are answered, those that wait at once. Takes five seconds at most."""
        self._waiters.stop()
        for server, _ in self._servers:
            server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(_JOIN_SECONDS)
            if self._thread.is_alive():
                _log.error("the API's thread did not end within %g s", _JOIN_SECONDS)
        self._sockets.close()

    def _open(self) -> None:
        listener = UnixListener(self._config.api_socket)
        self._sockets.callback(listener.close)
        self._add(SocketGate(), [listener.socket])
        if not self._config.api.listen:
            return
        addresses = [parse_listen("api.listen", each) for each in self._config.api.listen]
        gate = self._tcp_gate()
        plain = [each for each in addresses if is_loopback(each[0])]
        if plain:
            self._add(gate, self._listen(plain))
        if len(plain) < len(addresses):
            protocol = _behind_tls(tls_context(self._config), self._http_protocol)
            self._add(gate, self._listen([each for each in addresses if each not in plain]), protocol)
            _log.info("the fingerprint of the API's certificate is %s", served_pin(self._config))

    def _listen(self, addresses: list[tuple[str, int]]) -> list[socket.socket]:
        sockets = []
        for address, port in addresses:
            sockets.append(listen_tcp(address, port))
            self._sockets.callback(sockets[-1].close)
        return sockets

    def _tcp_gate(self) -> Gate:
        if self._config.api.auth is ApiAuth.NONE:
            return LoopbackGate()
        return TokenGate(load_token(self._config.token_file), self._service.tokens.authenticate)

    def _add(
        self, gate: Gate, sockets: list[socket.socket], protocol: type[IdleClosingProtocol] | None = None
    ) -> None:
        app = build_app(self._service, gate, self._waiters)
        settings = _settings(app, protocol or self._http_protocol)
        self._servers.append((uvicorn.Server(settings), sockets))

    def _wait_until_started(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not all(server.started for server, _ in self._servers):
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise UnavailableError("the API did not start; the log says why")
            time.sleep(0.005)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception:  # noqa: BLE001 -- a thread's end must be in the log; start() sees that it ended
            _log.exception("the API ended by a bug")

    async def _serve(self) -> None:
        await asyncio.gather(*(server.serve(sockets) for server, sockets in self._servers))


def _behind_tls(tls: ssl.SSLContext, plain: type[IdleClosingProtocol]) -> type[TlsProtocol]:
    class Protocol(TlsProtocol):
        context = tls
        idle_seconds = plain.idle_seconds
        most_connections = plain.most_connections
        handshake_seconds = min(TlsProtocol.handshake_seconds, plain.idle_seconds)

    return Protocol


def _settings(app: Starlette, http_protocol: type[IdleClosingProtocol]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        http=http_protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=128,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
