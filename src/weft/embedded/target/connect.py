"""Connect: who may have which queue of which controller."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from weft.embedded.target.admin_queue import AdminQueue
from weft.embedded.target.authenticated_queue import AuthenticatedQueue
from weft.embedded.target.controller import MAXIMUM_QUEUE_ENTRIES, Controller
from weft.embedded.target.discovery import DISCOVERY_NQN, Discovery, DiscoveryPages
from weft.embedded.target.io_queue import IoQueue
from weft.embedded.target.nvm_pages import NvmPages
from weft.embedded.target.queue_pair import QueuePair
from weft.embedded.target.responder import Accepted, Queue
from weft.embedded.target.settings import Limits
from weft.embedded.target.subsystem import Subsystem, SubsystemTable
from weft.model import RefusalReason
from weft.nvme.dhchap_proof import DhChapPolicy
from weft.nvme.events import CommandReceived
from weft.nvme.fabrics import (
    DYNAMIC_CNTLID,
    Connect,
    ConnectData,
    ConnectRefusal,
    connect_parameter,
)
from weft.nvme.status import Status, StatusCode, do_not_retry

_log = logging.getLogger(__name__)

_QID: Final = connect_parameter(42)
_SQSIZE: Final = connect_parameter(44)
_CNTLID: Final = connect_parameter(16, in_data=True)
_SUBNQN: Final = connect_parameter(256, in_data=True)
_HOSTNQN: Final = connect_parameter(512, in_data=True)


@dataclass(frozen=True, slots=True)
class _Refused(Exception):  # noqa: N818 -- not an error: it carries an answer
    why: str
    status: Status
    result: int = 0


def _invalid(why: str, parameter: int) -> _Refused:
    return _Refused(why, do_not_retry(StatusCode.CONNECT_INVALID_PARAMETERS), parameter)


def _busy(why: str) -> _Refused:
    """For what may pass by itself: without DNR, so that a host that reconnects tries again."""
    return _Refused(why, Status(StatusCode.CONNECT_CONTROLLER_BUSY))


class Admission:
    """Answers every Connect. Called by the connections' threads."""

    def __init__(
        self,
        subsystems: SubsystemTable,
        discovery: Discovery,
        *,
        open_namespace: Callable[[Subsystem], bool],
        max_io_queues: int,
        max_discovery_connections: int,
        limits: Limits,
        policy: DhChapPolicy,
    ) -> None:
        """open_namespace: try to open the bytes of a subsystem that has none; whether it has them now."""
        self._subsystems = subsystems
        self._discovery = discovery
        self._open_namespace = open_namespace
        self._max_io_queues = max_io_queues
        self._max_discovery_connections = max_discovery_connections
        self._limits = limits
        self._policy = policy

    def connect(self, pair: QueuePair, received: CommandReceived, data: memoryview | None) -> Accepted | None:
        """What a Connect gives; None if it was refused, which is answered already."""
        found = ConnectData.decode(data if data is not None else b"")
        if isinstance(found, ConnectRefusal):
            _log.warning("%s: Connect was refused: its data is not valid", pair.name)
            pair.complete(received.cid, found.status, found.result)
            return None
        command = received.command
        assert isinstance(command, Connect)  # noqa: S101 -- the caller has looked
        try:
            accepted = self._admit(pair, command, found)
        except _Refused as refused:
            _log.warning("%s at %s was refused %s: %s", found.hostnqn, pair.peer, found.subnqn, refused.why)
            pair.complete(received.cid, refused.status, refused.result)
            return None
        pair.host_nqn = found.hostnqn
        if command.qid == 0:
            _log.info(
                "%s connects to %s as controller %d%s",
                pair.name, found.subnqn, accepted.cntlid,
                " and is to authenticate" if accepted.authenticate else "",
            )  # fmt: skip
        return accepted

    def _admit(self, pair: QueuePair, command: Connect, data: ConnectData) -> Accepted:
        if command.sqsize >= MAXIMUM_QUEUE_ENTRIES:
            raise _invalid(f"a queue has {MAXIMUM_QUEUE_ENTRIES} entries at most", _SQSIZE)
        if command.qid == 0 and data.cntlid != DYNAMIC_CNTLID:
            raise _invalid("controllers are dynamic, and it asked for a certain one", _CNTLID)
        if data.subnqn == DISCOVERY_NQN:
            return self._discover(pair, command, data)
        subsystem = self._subsystems.by_nqn(data.subnqn)
        if subsystem is None or subsystem.removed:
            raise _invalid("there is no such subsystem here", _SUBNQN)
        if not subsystem.allows(data.hostnqn):
            raise _not_allowed(subsystem, data)
        if subsystem.namespace is None and not self._open_namespace(subsystem):
            raise _busy("the bytes of the volume are not there yet")
        if command.qid == 0:
            return self._new_controller(pair, command, data, subsystem)
        return self._io_queue(pair, command, data, subsystem)

    def _discover(self, pair: QueuePair, command: Connect, data: ConnectData) -> Accepted:
        if command.qid != 0:
            raise _invalid("discovery controllers have no I/O queues", _QID)
        controllers = self._discovery.controllers
        if len(controllers.all()) >= self._max_discovery_connections:
            raise _busy(f"there are {self._max_discovery_connections} discovery controllers already")
        controller = controllers.create(
            host_nqn=data.hostnqn, hostid=data.hostid, kato=command.kato_ms / 1000, io_queues=0, admin=pair
        )
        pages = DiscoveryPages(self._discovery, controller, pair.local_address)
        queue = AdminQueue(controller, pages, pair, idle_seconds=self._limits.idle_discovery_seconds)
        return Accepted(queue, controller.cntlid)

    def _new_controller(
        self, pair: QueuePair, command: Connect, data: ConnectData, subsystem: Subsystem
    ) -> Accepted:
        if not subsystem.controllers.settle(data.hostnqn, self._limits.teardown_seconds):
            raise _busy("its former connections have not come to their end")
        controller = subsystem.admit(
            host_nqn=data.hostnqn,
            hostid=data.hostid,
            kato=command.kato_ms / 1000,
            io_queues=self._max_io_queues,
            admin=pair,
        )
        if controller is None:
            raise _not_allowed(subsystem, data)
        namespace = subsystem.namespace
        assert namespace is not None  # noqa: S101 -- it was opened, and only goes with the subsystem
        queue = AdminQueue(controller, NvmPages(subsystem, namespace, controller), pair)
        return self._guarded(queue, controller, subsystem, pair)

    def _io_queue(
        self, pair: QueuePair, command: Connect, data: ConnectData, subsystem: Subsystem
    ) -> Accepted:
        controller = subsystem.controllers.get(data.cntlid)
        if controller is None or controller.ended:
            raise _invalid(f"there is no controller {data.cntlid}", _CNTLID)
        if (controller.host_nqn, controller.hostid) != (data.hostnqn, data.hostid):
            raise _invalid(f"controller {data.cntlid} is another host's", _HOSTNQN)
        if command.qid > controller.io_queues:
            raise _invalid(f"it has {controller.io_queues} I/O queues, not {command.qid}", _QID)
        if not controller.ready:
            raise _Refused("the controller is not enabled", do_not_retry(StatusCode.COMMAND_SEQUENCE_ERROR))
        if not controller.attach(command.qid, pair):
            raise _Refused(
                f"queue {command.qid} exists already", do_not_retry(StatusCode.COMMAND_SEQUENCE_ERROR)
            )
        namespace = subsystem.namespace
        assert namespace is not None  # noqa: S101 -- its controller exists
        queue = IoQueue(controller, namespace, command.qid, pair)
        return self._guarded(queue, controller, subsystem, pair)

    def _guarded(
        self, queue: Queue, controller: Controller, subsystem: Subsystem, pair: QueuePair
    ) -> Accepted:
        """The queue, behind authentication where the export asks the host for a key."""
        keys = subsystem.keys_of(controller.host_nqn)
        if keys is None:
            subsystem.refusals.forget(controller.host_nqn)
            return Accepted(queue, controller.cntlid)
        guarded = AuthenticatedQueue(
            queue,
            controller,
            subsystem,
            pair,
            keys=keys,
            policy=self._policy,
            seconds=self._limits.authentication_seconds,
        )
        return Accepted(guarded, controller.cntlid, authenticate=True)


def _not_allowed(subsystem: Subsystem, data: ConnectData) -> _Refused:
    subsystem.refusals.remember(data.hostnqn, RefusalReason.NOT_LISTED)
    return _Refused(
        "the host is not among those that may use it",
        do_not_retry(StatusCode.CONNECT_INVALID_HOST),
        _HOSTNQN,
    )
