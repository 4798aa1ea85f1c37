"""nvmet's configfs in memory, with the rules of the kernel's, and hosts that connect.

What it takes and refuses is that of Linux 6.12 (drivers/nvme/target/configfs.c and fs/configfs); the tests in
tests/lab hold the real one against the same statements.
"""

import errno
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from fakes import configfs_entries as entries
from fakes.configfs_entries import KEY_FILES, Port, Subsystem
from fakes.crash import CrashPlan
from weft.connection import NvmeofPortal
from weft.errors import PermissionDeniedError, UnavailableError
from weft.model import Refusal, Transport, VolumeId
from weft.targets.nvmet_log import Controller

ROOT = Path("/configfs/nvmet")
_ADDRESSES = frozenset({"192.0.2.1", "192.0.2.2", "2001:db8::1"})


@dataclass(frozen=True)
class Session:
    """A controller of a host's, reached by a port."""

    controller: Controller
    port: str


class FakeNvmet:
    """The calls of weft.targets.configfs.Calls, and Sessions and Probe, on a kernel in memory.

    Effects, for the plan: `configfs.mkdir`, `configfs.write` and so on. Hosts that are cut off by a write of
    attr_qid_max and may stay connect again at once.
    """

    def __init__(self, plan: CrashPlan | None = None) -> None:
        self.plan = plan or CrashPlan()
        self.addresses = set(_ADDRESSES)
        self.has_keys = True
        self.log_is_complete = True
        self.port_parameters = True
        self.probe_answers = True
        self.is_locked_by_another = False
        self.refuse_link = ""
        """The subsystem that no port may show."""
        self.refuse_at: int | None = None
        """So many changes from now the kernel refuses one."""
        self.refusal = errno.ENOMEM
        self.changes = 0
        self.sessions: list[Session] = []
        self.lost: list[tuple[str, str]] = []
        """(subsystem, host) whose device is gone for good: a listening port turned the host away."""
        self.cuts = 0
        self.probes = 0
        """Of how many controllers it was asked whether they live."""
        self.keys_watched = False
        self._controllers: dict[int, Controller] = {}
        self._lock = threading.RLock()
        self.forget()

    def forget(self) -> None:
        """The machine starts again."""
        with self._lock:
            self._subsystems: dict[str, Subsystem] = {}
            self._hosts: dict[str, dict[str, str]] = {}
            self._ports: dict[str, Port] = {}
            self._modes: dict[str, int] = {}
            self.sessions.clear()
            self._controllers.clear()

    # -- what hosts do ----------------------------------------------------------------------------------------

    def connect(self, portal: NvmeofPortal, subsystem: str, host: str) -> None:
        """Raises UnavailableError when nothing listens, PermissionDeniedError when the host is turned away."""
        with self._lock:
            port = next(
                (name for name, each in self._ports.items() if each.address == _address(portal)), None
            )
            if port is None or not self._ports[port].subsystems:
                raise UnavailableError(f"nothing listens at {portal}")
            if not self._may_connect(port, subsystem, host):
                self.lost.append((subsystem, host))
                raise PermissionDeniedError(f"{host} may not use {subsystem}")
            self._subsystems[subsystem].discovered = True
            taken = {each.controller.id for each in self.sessions}
            number = next(each for each in range(1, 65536) if each not in taken)
            controller = self._controllers[number] = Controller(number, subsystem, host)
            self.sessions.append(Session(controller, port))

    def disconnect(self, subsystem: str, host: str) -> None:
        with self._lock:
            self.sessions = [
                each
                for each in self.sessions
                if (each.controller.subsystem, each.controller.host) != (subsystem, host)
            ]

    def connected(self, subsystem: str) -> frozenset[str]:
        return frozenset(
            each.controller.host for each in self.sessions if each.controller.subsystem == subsystem
        )

    def size(self, subsystem: str) -> int:
        """Of the volume, as hosts see it."""
        return self._subsystems[subsystem].size

    def tree(self) -> object:
        """All of it, to compare."""
        with self._lock:
            return (
                {
                    nqn: (each.attributes, each.namespaces, sorted(each.allowed))
                    for nqn, each in sorted(self._subsystems.items())
                },
                sorted(self._hosts.items()),
                {name: (each.address, sorted(each.subsystems)) for name, each in sorted(self._ports.items())},
                sorted((path, mode) for path, mode in self._modes.items() if mode != 0o755),
            )

    # -- Sessions and Probe -----------------------------------------------------------------------------------

    def controllers(self, subsystem: str) -> Sequence[Controller] | None:
        if not self.log_is_complete:
            return None
        return [each for each in self._controllers.values() if each.subsystem == subsystem]

    def ended(self, controllers: Sequence[Controller]) -> None:
        for each in controllers:
            self._controllers.pop(each.id, None)

    def refusals(self, volume_id: VolumeId) -> Sequence[Refusal]:  # noqa: ARG002 -- the protocol's
        return ()

    def watch_keys(self) -> None:
        self.keys_watched = True

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def living(self, controllers: Iterable[Controller], portal: NvmeofPortal) -> list[Controller]:  # noqa: ARG002
        controllers = list(controllers)
        self.probes += len(controllers)
        if not self.probe_answers:
            raise UnavailableError("a firewall is in the way")
        living = {each.controller for each in self.sessions}
        return [each for each in controllers if each in living]

    # -- Calls ------------------------------------------------------------------------------------------------

    def mkdir(self, path: str) -> None:
        with self._change("mkdir"):
            match _parts(path):
                case ["subsystems", nqn]:
                    entries.make(self._subsystems, nqn, Subsystem)
                case ["subsystems", nqn, "namespaces", number]:
                    entries.make(self._subsystem(nqn).namespaces, number, entries.namespace)
                case ["hosts", nqn]:
                    entries.make(self._hosts, nqn, lambda: dict(KEY_FILES) if self.has_keys else {})
                case ["ports", number]:
                    entries.make(self._ports, number, Port)
                    if not self.port_parameters:
                        del self._ports[number].attributes["param_max_queue_size"]
                case _:
                    raise entries.error(errno.EPERM, path)

    def rmdir(self, path: str) -> None:
        with self._change("rmdir"):
            match _parts(path):
                case ["subsystems", nqn]:
                    found = self._subsystem(nqn)
                    linked = any(nqn in each.subsystems for each in self._ports.values())
                    if linked or found.allowed or found.namespaces:
                        raise entries.error(errno.EBUSY if linked else errno.ENOTEMPTY, path)
                    del self._subsystems[nqn]
                case ["subsystems", nqn, "namespaces", number]:
                    entries.pop(self._subsystem(nqn).namespaces, number, path)
                case ["hosts", nqn]:
                    if any(nqn in each.allowed for each in self._subsystems.values()):
                        raise entries.error(errno.EBUSY, path)
                    entries.pop(self._hosts, nqn, path)
                case ["ports", number]:
                    if number in self._ports and self._ports[number].subsystems:
                        raise entries.error(errno.ENOTEMPTY, path)
                    entries.pop(self._ports, number, path)
                case _:
                    raise entries.error(errno.EPERM, path)
            gone = _full(path)
            for each in [each for each in self._modes if each == gone or each.startswith(f"{gone}/")]:
                del self._modes[each]

    def symlink(self, target: str, path: str) -> None:
        with self._change("symlink"):
            match _parts(path), _parts(target):
                case ["subsystems", nqn, "allowed_hosts", host], ["hosts", name] if host == name:
                    if host not in self._hosts:
                        raise entries.error(errno.ENOENT, target)
                    subsystem = self._subsystem(nqn)
                    if subsystem.attributes["attr_allow_any_host"] == "1":
                        raise entries.error(errno.EINVAL, path)
                    entries.add(subsystem.allowed, host, path)
                case ["ports", number, "subsystems", nqn], ["subsystems", name] if nqn == name:
                    self._subsystem(nqn)
                    if nqn == self.refuse_link:
                        raise entries.error(errno.ENOMEM, path)
                    port = self._port(number)
                    if not port.subsystems:
                        self._enable(port, path)
                    entries.add(port.subsystems, nqn, path)
                case _:
                    raise entries.error(errno.EPERM, path)

    def unlink(self, path: str) -> None:
        with self._change("unlink"):
            match _parts(path):
                case ["subsystems", nqn, "allowed_hosts", host]:
                    entries.drop(self._subsystem(nqn).allowed, host, path)
                case ["ports", number, "subsystems", nqn]:
                    entries.drop(self._port(number).subsystems, nqn, path)
                    self._end(lambda each: each.port == number and each.controller.subsystem == nqn)
                case _:
                    raise entries.error(errno.EPERM, path)

    def chmod(self, path: str, mode: int) -> None:
        with self._change("chmod"):
            self.mode(path)
            self._modes[_full(path)] = mode

    def write(self, path: str, value: bytes) -> None:
        text = value.decode().rstrip("\n")
        with self._change("write"):
            match _parts(path):
                case ["subsystems", nqn, name] if name in (subsystem := self._subsystem(nqn)).attributes:
                    self._write_subsystem(nqn, subsystem, name, text)
                case ["subsystems", nqn, "namespaces", number, name]:
                    namespace = entries.get(self._subsystem(nqn).namespaces, number, path)
                    self._write_namespace(self._subsystem(nqn), namespace, name, text, path)
                case ["hosts", nqn, name] if name in entries.get(self._hosts, nqn, path):
                    if name.endswith("key") and text != "\0" and not text.startswith("DHHC-1:"):
                        raise entries.error(errno.EINVAL, path)
                    self._hosts[nqn][name] = "" if text == "\0" else text
                case ["ports", number, name] if name in (port := self._port(number)).attributes:
                    if port.subsystems:
                        raise entries.error(errno.EACCES, path)
                    port.attributes[name] = text
                case _:
                    raise entries.error(errno.ENOENT, path)

    def read(self, path: str) -> bytes:
        with self._lock:
            match _parts(path):
                case ["subsystems", nqn, name]:
                    return entries.line(self._subsystem(nqn).attributes, name, path)
                case ["subsystems", nqn, "namespaces", number, name]:
                    return entries.line(
                        entries.get(self._subsystem(nqn).namespaces, number, path), name, path
                    )
                case ["hosts", nqn, name]:
                    return entries.line(entries.get(self._hosts, nqn, path), name, path)
                case ["ports", number, name]:
                    return entries.line(self._port(number).attributes, name, path)
                case _:
                    raise entries.error(errno.ENOENT, path)

    def names(self, path: str) -> list[str]:
        with self._lock:
            match _parts(path):
                case ["subsystems"]:
                    return list(self._subsystems)
                case ["subsystems", nqn, "namespaces"]:
                    return list(self._subsystem(nqn).namespaces)
                case ["subsystems", nqn, "allowed_hosts"]:
                    return list(self._subsystem(nqn).allowed)
                case ["hosts"]:
                    return list(self._hosts)
                case ["ports"]:
                    return list(self._ports)
                case ["ports", number, "subsystems"]:
                    return list(self._port(number).subsystems)
                case _:
                    raise entries.error(errno.ENOENT, path)

    def mode(self, path: str) -> int:
        with self._lock:
            match _parts(path):
                case ["subsystems", nqn, *rest]:
                    subsystem = self._subsystem(nqn)
                    if rest[:1] == ["allowed_hosts"] and rest[1:] and rest[1] not in subsystem.allowed:
                        raise entries.error(errno.ENOENT, path)
                case ["hosts", nqn, *rest]:
                    if rest and rest[0] not in entries.get(self._hosts, nqn, path):
                        raise entries.error(errno.ENOENT, path)
                    entries.get(self._hosts, nqn, path)
                case ["ports", number, *rest]:
                    if (
                        rest[:1] == ["subsystems"]
                        and rest[1:]
                        and rest[1] not in self._port(number).subsystems
                    ):
                        raise entries.error(errno.ENOENT, path)
                    self._port(number)
                case _:
                    raise entries.error(errno.ENOENT, path)
            return self._modes.get(_full(path), 0o755)

    def lock(self, path: str) -> int:
        if self.is_locked_by_another:
            raise BlockingIOError(errno.EAGAIN, "locked", path)
        return -1

    def unlock(self, descriptor: int) -> None:
        assert descriptor == -1

    def inside(self, path: str) -> AbstractContextManager["FakeNvmet"]:
        assert path == str(ROOT), "relative paths begin there"
        return nullcontext(self)

    # -- helpers ----------------------------------------------------------------------------------------------

    def _change(self, verb: str) -> "_Change":
        return _Change(self, verb)

    def _subsystem(self, nqn: str) -> Subsystem:
        return entries.get(self._subsystems, nqn, nqn)

    def _port(self, number: str) -> Port:
        return entries.get(self._ports, number, number)

    def _enable(self, port: Port, path: str) -> None:
        transport, address, service = port.address
        if transport == Transport.LOOP:
            return
        if not transport:
            raise entries.error(errno.EINVAL, path)
        if address not in self.addresses:
            raise entries.error(errno.EADDRNOTAVAIL, path)
        if any(
            each is not port and each.subsystems and each.address[1:] == (address, service)
            for each in self._ports.values()
        ):
            raise entries.error(errno.EADDRINUSE, path)

    def _write_subsystem(self, nqn: str, subsystem: Subsystem, name: str, value: str) -> None:
        if name in {"attr_serial", "attr_model"} and subsystem.discovered:
            raise entries.error(errno.EINVAL, name)
        if name == "attr_allow_any_host" and value == "1" and subsystem.allowed:
            raise entries.error(errno.EINVAL, name)
        subsystem.attributes[name] = value
        if name == "attr_qid_max":
            before = [each for each in self.sessions if each.controller.subsystem == nqn]
            self._end(lambda each: each.controller.subsystem == nqn)
            self.cuts += bool(before)
            for each in before:
                if self._may_connect(each.port, nqn, each.controller.host):
                    self.sessions.append(each)

    def _write_namespace(
        self, subsystem: Subsystem, namespace: dict[str, str], name: str, value: str, path: str
    ) -> None:
        enabled = namespace["enable"] == "1"
        if name == "enable":
            if value == "1" and not enabled:
                subsystem.size = _size(namespace["device_path"])
            namespace["enable"] = value
        elif name == "revalidate_size":
            if enabled:
                subsystem.size = _size(namespace["device_path"])
        elif name not in namespace:
            raise entries.error(errno.ENOENT, path)
        elif enabled:
            raise entries.error(errno.EBUSY, path)
        else:
            namespace[name] = value

    def _may_connect(self, port: str, subsystem: str, host: str) -> bool:
        found = self._subsystems.get(subsystem)
        if found is None or subsystem not in self._ports[port].subsystems:
            return False
        return host in found.allowed or found.attributes["attr_allow_any_host"] == "1"

    def _end(self, which: Callable[[Session], bool]) -> None:
        self.sessions = [each for each in self.sessions if not which(each)]


class _Change:
    """One change: under the lock, between the two announcements, refused when it is its turn."""

    def __init__(self, kernel: FakeNvmet, verb: str) -> None:
        self._kernel = kernel
        self._effect = kernel.plan.effect(f"configfs.{verb}")

    def __enter__(self) -> None:
        self._kernel._lock.acquire()
        try:
            self._effect.__enter__()
            self._kernel.changes += 1
            if self._kernel.refuse_at is not None:
                self._kernel.refuse_at -= 1
                if self._kernel.refuse_at < 0:
                    self._kernel.refuse_at = None
                    raise entries.error(self._kernel.refusal, "injected")
        except BaseException:
            self._kernel._lock.release()
            raise

    def __exit__(self, *raised: object) -> None:
        try:
            if raised[0] is None:
                self._effect.__exit__(None, None, None)
        finally:
            self._kernel._lock.release()


def _parts(path: str) -> list[str]:
    return path.removeprefix(f"{ROOT}/").split("/")


def _full(path: str) -> str:
    return path if path.startswith(f"{ROOT}/") else f"{ROOT}/{path}"


def _address(portal: NvmeofPortal) -> tuple[str, ...]:
    if portal.transport is Transport.LOOP:
        return (portal.transport.value, "", "")
    return (portal.transport.value, portal.address, str(portal.port))


def _size(path: str) -> int:
    return Path(path).stat().st_size
