"""A TCP proxy that cuts, stalls and delays what goes through it."""

import contextlib
import random
import socket
import struct
import threading
import time

_CHUNK = 65536


class Proxy:
    """Forwards a port of its own to another one. Each accepted connection gets two threads, joined at stop()."""

    def __init__(self, to_port: int) -> None:
        self.to_port = to_port
        self.accepted = 0
        self.delay = 0.0
        self.cut_after: int | None = None
        """Bytes, in either direction, after which a new connection is reset."""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._flowing = threading.Event()
        self._flowing.set()
        self._stopping = False
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._cut: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def stall(self) -> None:
        """Swallow nothing and forward nothing, as a network that is away does."""
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    def cut(self) -> None:
        """Reset every connection."""
        with self._lock:
            cut, self._sockets = self._sockets, set()
            self._cut |= cut
        for each in cut:
            _reset(each)

    def stop(self) -> None:
        self._stopping = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._flowing.set()
        self._threads[0].join()
        self.cut()
        for thread in self._threads[1:]:
            thread.join()
        for each in self._cut:
            each.close()
        self._listening.close()

    def _accept(self) -> None:
        while not self._stopping:
            try:
                host, _ = self._listening.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                target = socket.create_connection(("127.0.0.1", self.to_port), 5)
                target.settimeout(None)
            except OSError:
                host.close()
                continue
            with self._lock:
                self._sockets |= {host, target}
            left = self.cut_after
            for source, sink in ((host, target), (target, host)):
                thread = threading.Thread(target=self._forward, args=(source, sink, left))
                self._threads.append(thread)
                thread.start()

    def _forward(self, source: socket.socket, sink: socket.socket, left: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                self._flowing.wait()
                if self.delay:
                    time.sleep(random.uniform(0, self.delay))
                if left is not None and left <= len(data):
                    sink.sendall(data[:left])
                    break
                sink.sendall(data)
                left = None if left is None else left - len(data)
        for each in (source, sink):
            _reset(each)


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
