"""A wire between VMs: an Ethernet switch in a thread, one socket for each VM's NIC."""

import contextlib
import enum
import selectors
import socket
import threading
from dataclasses import dataclass
from typing import Self

from lab.errors import LabError

MAX_FRAME = 65536 + 18
BUFFER = 4 << 20  # bytes on the way to one NIC; beyond them its sender waits, as with Ethernet's flow control
BATCH = 64  # frames that one NIC may send before it is another's turn
STALLED = 0.2  # seconds after which a NIC that takes nothing loses frames instead of stopping the wire


class Direction(enum.Flag):
    """Seen from the VM."""

    NONE = 0
    IN = enum.auto()
    OUT = enum.auto()
    BOTH = IN | OUT


@dataclass(slots=True, eq=False)
class _Port:
    vm: str
    socket: socket.socket
    cut: Direction
    stalled: bool = False


class Wire:
    """Carries frames between the VMs on it; any of them can be cut off, silently and in one direction if asked.

    A silent cut is what a broken switch does: carrier stays, frames vanish. (`Vm.unplug` takes the carrier away.)
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._ports: dict[str, _Port] = {}
        self._cuts: dict[str, Direction] = {}
        self._selector = selectors.DefaultSelector()
        self._wake, waker = socket.socketpair()
        self._waker = waker
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._where: dict[bytes, _Port] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._forward, name=f"wire {name}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def plug(self, vm: str) -> socket.socket:
        """The socket for a VM's NIC, to be handed to its QEMU and then closed here. Replaces the VM's former one."""
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (theirs, ours):
            try:
                end.setsockopt(socket.SOL_SOCKET, 32, BUFFER)  # SO_SNDBUFFORCE, for root
            except PermissionError:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            end.setblocking(False)
        with self._lock:
            if self._closed:
                raise LabError(f"{self.name} is closed")
            self._remove(vm)
            port = _Port(vm, ours, self._cuts.get(vm, Direction.NONE))
            self._ports[vm] = port
            self._selector.register(ours, selectors.EVENT_READ, port)
        self._waker.send(b"\0")
        return theirs

    def cut(self, vm: str, direction: Direction = Direction.BOTH) -> None:
        """Drop every frame to or from this VM from now on, until `restore`; it outlasts the VM's restarts."""
        with self._lock:
            self._cuts[vm] = direction
            if vm in self._ports:
                self._ports[vm].cut = direction

    def restore(self, vm: str) -> None:
        self.cut(vm, Direction.NONE)

    def close(self) -> None:
        """End the wire; what was on its way is lost."""
        with self._lock:
            self._closed = True
        self._waker.send(b"\0")
        self._thread.join()
        for vm in list(self._ports):
            self._remove(vm)
        self._selector.close()
        self._wake.close()
        self._waker.close()

    def _remove(self, vm: str) -> None:
        port = self._ports.pop(vm, None)
        if port is None:
            return
        self._selector.unregister(port.socket)
        port.socket.close()
        self._where = {mac: where for mac, where in self._where.items() if where is not port}

    def _forward(self) -> None:
        frame = bytearray(MAX_FRAME)
        while True:
            events = self._selector.select()
            with self._lock:
                if self._closed:
                    return
                for key, _ in events:
                    port = key.data
                    if not isinstance(port, _Port):
                        self._wake.recv(4096)
                    elif self._ports.get(port.vm) is port:
                        self._take_from(port, frame)

    def _take_from(self, port: _Port, frame: bytearray) -> None:
        for _ in range(BATCH):
            try:
                length = port.socket.recv_into(frame)
            except BlockingIOError:
                return
            except OSError:  # its QEMU has ended
                length = 0
            if length == 0:
                self._remove(port.vm)
                return
            if Direction.OUT not in port.cut:
                self._deliver(port, memoryview(frame)[:length])

    def _deliver(self, sender: _Port, frame: memoryview) -> None:
        target, source = bytes(frame[:6]), bytes(frame[6:12])
        self._where[source] = sender
        known = None if target[0] & 1 else self._where.get(target)
        for port in [known] if known else list(self._ports.values()):
            if port is not sender and Direction.IN not in port.cut:
                self._give_to(port, frame)

    def _give_to(self, port: _Port, frame: memoryview) -> None:
        with contextlib.suppress(BlockingIOError):
            self._send(port, frame)
            return
        if port.stalled:
            return
        with selectors.DefaultSelector() as writable:
            writable.register(port.socket, selectors.EVENT_WRITE)
            port.stalled = not writable.select(STALLED)
        with contextlib.suppress(BlockingIOError):
            self._send(port, frame)

    @staticmethod
    def _send(port: _Port, frame: memoryview) -> None:
        try:
            port.socket.send(frame)
            port.stalled = False
        except BlockingIOError:
            raise
        except OSError:  # its QEMU has ended; the next read from it says so and removes the port
            pass
