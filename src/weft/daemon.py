"""The composition root: configuration -> objects -> start."""

import fcntl
import logging
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from weft.api.server import ApiServer
from weft.config import Config, PoolKind, PoolSection
from weft.control.node import Node
from weft.control.rows import now
from weft.control.service import Service
from weft.drivers import HoldWrites, open_driver
from weft.errors import ConflictError, PermissionDeniedError, UnavailableError, WeftError
from weft.model import NodeId, Pool, PoolId, PoolState, Protocol, Provisioning, StateStatus
from weft.names import new_id
from weft.notify import machine_is_going_down, notify, wait_watched
from weft.ports import POOL_STATES, POOLS, VOLUMES, Delete, Key, Put, Store, VolumeDriver, Write
from weft.store.sqlite import SqliteStore
from weft.targets import NodeTarget, open_target

_log = logging.getLogger("weft.daemon")

_OPENING_SECONDS: Final = 20.0
_REOPEN_SECONDS: Final = 1.0


def serve(config: Config, *, stop: threading.Event | None = None) -> None:
    """Run the control plane until SIGTERM, SIGINT or stop.

    The target is started, or the one that runs is adopted; its exports go on when this returns. Raises ConflictError when another weft serves from the same data or runtime directory,
    PermissionDeniedError when other users may write to one of them.
    """
    stop = stop if stop is not None else _stop_on_signals()
    stopping = threading.Event()
    with ExitStack() as stack:
        for directory in dict.fromkeys((config.data_dir, config.runtime_dir)):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_private(directory)
            stack.enter_context(_alone(directory))
        store = SqliteStore(config.database)
        stack.callback(store.close)
        target = open_target(Protocol.NVMEOF, config)
        service = Service(store, {Protocol.NVMEOF: target})
        service.profiles.ensure_default()
        pools = _write_pools(store, config)
        drivers = Drivers(
            {pool_id: (section, config) for pool_id, section in pools.items()}, target.hold_writes, stopping
        )
        stack.callback(_end_exports_with_the_machine, target)
        target.start()
        stack.callback(target.stop)
        for trouble in target.troubles():
            _log.warning("%s", trouble)
        node = Node(NodeId(config.node_name), store, drivers, {Protocol.NVMEOF: target})
        node.start()
        stack.callback(node.stop)
        stack.callback(stopping.set)
        api = ApiServer(service, config)
        api.start()
        stack.callback(api.stop)
        _log.info("weft serves %s; its API is at %s", config.data_dir, config.api_socket)
        notify("READY=1")
        wait_watched(stop, partial(_check_alive, store, api))
        _log.info("stopping")
        notify("STOPPING=1")


def _end_exports_with_the_machine(target: NodeTarget) -> None:
    """Else hosts would go on writing while the machine goes down, and what was not flushed be lost behind their backs."""
    if machine_is_going_down():
        _log.info("the machine goes down: hosts wait for their volumes until it is back")
        try:
            target.stop_target()
        except WeftError as error:
            _log.error("exports were not ended before the machine goes down: %s", error)


def _check_alive(store: Store, api: ApiServer) -> None:
    """What the watchdog asks of a living weft: that the API is there, and that rows can be read for its answers."""
    if not api.is_alive():
        raise UnavailableError("the API has ended by itself")
    store.list(POOLS, limit=1)


class Drivers(Mapping[PoolId, VolumeDriver]):
    """The drivers of the configured pools, each opened when it is first needed.

    A pool that is not there yet raises UnavailableError, and is tried again a second later at the earliest: many ask
    for it. So does one that takes long to open, while one of them waits for its disks. Copies are broken off once
    stopping is set.
    """

    def __init__(
        self,
        pools: Mapping[PoolId, tuple[PoolSection, Config]],
        hold_writes: HoldWrites,
        stopping: threading.Event,
    ) -> None:
        self._pools = pools
        self._hold_writes = hold_writes
        self._stopping = stopping
        self._open: dict[PoolId, VolumeDriver] = {}
        self._locks = {pool_id: threading.Lock() for pool_id in pools}
        self._began: dict[PoolId, float] = {}
        self._failures: dict[PoolId, tuple[float, WeftError]] = {}

    def __getitem__(self, pool_id: PoolId) -> VolumeDriver:
        if pool_id in self._open:
            return self._open[pool_id]
        now = time.monotonic()
        patience = max(0.0, self._began.get(pool_id, now) + _OPENING_SECONDS - now)
        lock = self._locks[pool_id]
        if not lock.acquire(timeout=patience):
            raise UnavailableError(
                f"pool {self._pools[pool_id][0].name} takes longer than {_OPENING_SECONDS:g} s to open: its disks do not"
                " answer, or the commands that look at them; it goes on by itself once they do"
            )
        try:
            if pool_id not in self._open:
                self._open[pool_id] = self._opened(pool_id)
            return self._open[pool_id]
        finally:
            lock.release()

    def _opened(self, pool_id: PoolId) -> VolumeDriver:
        failed_at, error = self._failures.get(pool_id, (float("-inf"), None))
        if error is not None and time.monotonic() < failed_at + _REOPEN_SECONDS:
            raise error.with_traceback(None)
        self._began[pool_id] = time.monotonic()
        try:
            return open_driver(*self._pools[pool_id], self._hold_writes, progress=self._end_copies)
        except WeftError as failure:
            self._failures[pool_id] = time.monotonic(), failure
            raise
        finally:
            del self._began[pool_id]

    def __contains__(self, pool_id: object) -> bool:
        return pool_id in self._pools

    def __iter__(self) -> Iterator[PoolId]:
        return iter(self._pools)

    def __len__(self) -> int:
        return len(self._pools)

    def _end_copies(self, made: str, _done: int, _total: int) -> None:
        if self._stopping.is_set():
            raise UnavailableError(f"weft is stopping; it makes {made} when it runs again")


def _write_pools(store: Store, config: Config) -> dict[PoolId, PoolSection]:
    """Have a row for each configured pool; a pool keeps its id as long as it keeps its name."""
    found = {row.value.name: row.value for row in store.list(POOLS)}
    pools: dict[PoolId, PoolSection] = {}
    writes: list[Write] = []
    for section in config.pools:
        wanted = _pool(section, config, found.get(section.name))
        pools[wanted.id] = section
        if wanted != found.get(section.name):
            writes.append(Put(POOLS, wanted))
    for pool in found.values():
        if pool.id not in pools:
            writes += _retire(store, pool)
    if writes:
        store.transact({}, writes)
    return pools


def _pool(section: PoolSection, config: Config, found: Pool | None) -> Pool:
    if found is None:
        found = Pool(
            id=PoolId(new_id()), name=section.name, node_id=NodeId(config.node_name), created_at=now()
        )
    wanted = replace(
        found,
        node_id=NodeId(config.node_name),
        description=section.description,
        availability_zone=section.availability_zone,
        multi_attach=section.multi_attach,
        provisioning=section.provisioning if section.kind is PoolKind.LVM else Provisioning.THIN,
        over_commit=section.over_commit,
        capabilities=dict(section.capabilities),
    )
    return wanted if wanted == found else replace(wanted, updated_at=now())


def _retire(store: Store, pool: Pool) -> list[Write]:
    """A pool that is no longer configured goes with its last volume."""
    if not store.list(VOLUMES, where={"pool_id": pool.id}, limit=1):
        return [Delete(Key(POOLS.name, pool.id)), Delete(Key(POOL_STATES.name, pool.id))]
    reason = f"pool {pool.name} is no longer in the configuration, and volumes are still in it"
    _log.warning("%s", reason)
    return [Put(POOL_STATES, PoolState(id=pool.id, status=StateStatus.ERROR, reason=reason))]


def _check_private(directory: Path) -> None:
    """Whoever may write to a directory of weft's could put a file, a socket or a link of his own there."""
    found = directory.stat()
    if found.st_uid != os.geteuid():
        raise PermissionDeniedError(
            f"{directory} belongs to another user (id {found.st_uid}); choose another"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(found.st_mode)
        raise PermissionDeniedError(
            f"others may write to {directory} (mode {mode:04o}); run chmod go-w on it or choose another"
        )


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    descriptor = os.open(
        directory / "serve.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                f"another weft serve already runs on {directory}; end it first: weft stop"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    return stop
