"""One controller as the host uses it: an admin queue, one I/O queue, and what the controller says of itself.

The bring-up follows what Linux does (Base Specification 2.0, 3.5.1 and 3.3.1): Connect, enable, Identify, event
configuration, then the I/O queue.
"""

import contextlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from weft.connection import NvmeofPortal
from weft.embedded.host.authentication import Authenticator
from weft.embedded.host.exchange import Exchange
from weft.embedded.host.options import VolumeOptions
from weft.embedded.host.queue_pair import ConnectionLostError, QueueListener
from weft.embedded.host.statuses import command_error, connect_error
from weft.errors import DataError, PermissionDeniedError, UnavailableError, UnsupportedError, WeftError
from weft.model import HostIdentity
from weft.names import NSID
from weft.nvme.admin import AsynchronousEventRequest, GetLogPage, Identify, KeepAlive, SetFeatures
from weft.nvme.async_event import AsyncEvent
from weft.nvme.command import Command
from weft.nvme.dhchap_proof import DhChapKeys
from weft.nvme.events import CommandCompleted
from weft.nvme.fabrics import AUTHREQ_ASCR, AUTHREQ_ATR, Connect, ConnectData, PropertyGet, PropertySet
from weft.nvme.features import FeatureId, NumberOfQueues
from weft.nvme.identify import (
    PAGE_SIZE,
    Cns,
    IdentifyController,
    IdentifyNamespace,
    IdentifyNvmController,
    NamespaceDescriptors,
    Oaes,
    Oncs,
)
from weft.nvme.layout import BytesLike
from weft.nvme.logpage import CHANGED_NAMESPACES_MAX, LogPageId
from weft.nvme.nvm import BLOCKS_MAX
from weft.nvme.properties import (
    PAGE_SHIFT,
    Capabilities,
    ControllerConfiguration,
    ControllerStatus,
    Property,
    ShutdownNotification,
    ShutdownStatus,
)

ADMIN_QUEUE_SIZE: Final = 32
"""Entries of the admin queue, as many as Linux asks for."""

MAXIMUM_TRANSFER: Final = 2**20
"""Bytes in one read or write where the controller would take more, so that many small waits do not become one long."""

_EVENT_CID: Final = 0
_POLL: Final = 0.02
_SHUTDOWN_TIMEOUT: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """uuid: as the controller tells it, lower case, empty if it has none. Sizes in bytes."""

    uuid: str
    size: int
    block_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a controller takes. Bytes for reads and writes, blocks for Write Zeroes; depth is commands at a time."""

    maximum_transfer: int
    maximum_zeroes: int
    depth: int
    write_zeroes: bool
    dataset_management: bool


class Association:
    """Owns two connections. Make it with `associate`, and close it in any case."""

    def __init__(
        self,
        portal: NvmeofPortal,
        nqn: str,
        identity: HostIdentity,
        options: VolumeOptions,
        keys: DhChapKeys | None = None,
    ) -> None:
        """keys: what this host authenticates with, if the controller asks for it."""
        self.portal = portal
        self.namespace: Namespace
        self.limits: Limits
        self._nqn = nqn
        self._identity = identity
        self._options = options
        self._deadline = time.monotonic() + options.connect_timeout
        self._admin: Exchange | None = None
        self._io: Exchange | None = None
        self._on_event: Callable[[], None] = _nothing
        self._authenticator = Authenticator(
            host_nqn=identity.nqn, subsystem_nqn=nqn, keys=keys, target=str(portal), left=self._left
        )

    @property
    def admin(self) -> Exchange:
        if self._admin is None:
            raise ConnectionLostError(f"{self.portal} is not connected")
        return self._admin

    @property
    def io(self) -> Exchange:
        if self._io is None:
            raise ConnectionLostError(f"{self.portal} is not connected")
        return self._io

    def bring_up(self, listener: QueueListener, on_event: Callable[[], None]) -> None:
        """Connect both queues. The listener gets the I/O queue; on_event is called when namespaces changed.

        Raises UnavailableError when another try may help, and other errors when it cannot.
        """
        self._on_event = on_event
        self._admin = Exchange(self.portal, _AdminListener(self, listener), self._left())
        cntlid = self._connect(self._admin, qid=0, sqsize=ADMIN_QUEUE_SIZE)
        capabilities = Capabilities.decode(self._property(Property.CAP, size=8))
        self._enable()
        controller = IdentifyController.decode(self._identify(Cns.CONTROLLER))
        self._configure()
        entries = min(capabilities.max_queue_entries, self._options.queue_depth + 1)
        self._io = Exchange(
            self.portal, listener, self._left(), in_capsule_data_size=controller.in_capsule_data_size
        )
        self._connect(self._io, qid=1, sqsize=entries, cntlid=cntlid)
        self.namespace = self.identify_namespace(self._left())
        self.limits = self._limits(controller, capabilities, entries - 1)

    def identify_namespace(self, timeout: float) -> Namespace:
        """What the volume's namespace is now."""
        page = IdentifyNamespace.decode(self._identify(Cns.NAMESPACE, nsid=NSID, timeout=timeout))
        if page.nsze == 0:
            raise UnavailableError(f"{self._nqn} at {self.portal} holds no namespace {NSID} now")
        if page.ms:
            raise DataError(
                f"{self._nqn} has {page.ms} bytes of metadata in each block, which weft cannot use"
            )
        identifiers = NamespaceDescriptors.decode(
            self._identify(Cns.NAMESPACE_DESCRIPTORS, nsid=NSID, timeout=timeout)
        )
        identifier = str(uuid.UUID(bytes=identifiers.uuid)) if identifiers.uuid else ""
        return Namespace(uuid=identifier, size=page.nsze * page.block_size, block_size=page.block_size)

    def acknowledge_event(self, timeout: float) -> None:
        """Read the log of changed namespaces, which lets the next event come."""
        command = GetLogPage(lid=LogPageId.CHANGED_NAMESPACE_LIST, length=4 * CHANGED_NAMESPACES_MAX)
        self._expect(command, timeout, into=bytearray(command.length))

    def keep_alive(self, timeout: float) -> None:
        """Tell the controller that the host lives. Raises ConnectionLostError without an answer in time."""
        self._expect(KeepAlive(), timeout)

    def shut_down(self) -> None:
        """Tell the controller that the host leaves, as far as it can still be told (Base 2.0, 3.6.1)."""
        with contextlib.suppress(WeftError):
            deadline = time.monotonic() + _SHUTDOWN_TIMEOUT
            configuration = ControllerConfiguration(enable=True, shn=ShutdownNotification.NORMAL)
            self._set_property(Property.CC, configuration.encode(), _SHUTDOWN_TIMEOUT)
            while time.monotonic() < deadline:
                if self._status(_SHUTDOWN_TIMEOUT).shutdown is ShutdownStatus.COMPLETE:
                    return
                time.sleep(_POLL)

    def abort(self, error: ConnectionLostError) -> None:
        """Give both connections up without waiting."""
        for exchange in (self._io, self._admin):
            if exchange is not None:
                exchange.queue_pair.abort(error)

    def close(self) -> None:
        """Give both connections up, and wait until their threads have ended."""
        for exchange in (self._io, self._admin):
            if exchange is not None:
                exchange.queue_pair.close()

    def admin_completed(self, completion: CommandCompleted) -> None:
        """The Asynchronous Event Request was answered. Called by the receiving thread."""
        if not completion.status.ok:
            return
        event = AsyncEvent.decode(completion.result & 0xFFFFFFFF)
        self.admin.queue_pair.submit(_EVENT_CID, AsynchronousEventRequest())
        if event.lid == LogPageId.CHANGED_NAMESPACE_LIST:
            self._on_event()

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise ConnectionLostError(
                f"{self.portal} did not bring up {self._nqn} within {self._options.connect_timeout:g} s"
            )
        return left

    def _connect(self, queue: Exchange, *, qid: int, sqsize: int, cntlid: int = 0xFFFF) -> int:
        kato_ms = round(self._options.keep_alive * 1000) if qid == 0 else 0
        command = Connect(qid=qid, sqsize=sqsize - 1, kato_ms=kato_ms)
        data = ConnectData(
            hostid=self._identity.hostid, subnqn=self._nqn, hostnqn=self._identity.nqn, cntlid=cntlid
        )
        completion = queue.execute(command, self._left(), data=data.encode())
        if not completion.status.ok:
            error = connect_error(completion, self._nqn, self._identity.nqn)
            # Who may use what is the admin queue's matter. An I/O queue is also refused, for good as its answer says,
            # when the target was restarted in between and knows no such controller any more.
            raise error if qid == 0 else UnavailableError(str(error))
        self._authenticate(queue, qid, completion.result)
        return completion.result & 0xFFFF

    def _authenticate(self, queue: Exchange, qid: int, result: int) -> None:
        """Prove who we are if the result of Connect asks for it."""
        if result & AUTHREQ_ASCR:
            raise UnsupportedError(
                f"{self.portal} wants a secure channel (TLS) for {self._nqn}, which weft's embedded host cannot make"
            )
        try:
            if result & AUTHREQ_ATR:
                self._authenticator.authenticate(queue)
            else:
                self._authenticator.check_not_needed()
        except PermissionDeniedError as error:
            # The admin queue's word counts; an I/O queue that is refused behind it met a key that was just changed.
            raise error if qid == 0 else UnavailableError(str(error)) from None

    def _enable(self) -> None:
        self._set_property(Property.CC, ControllerConfiguration(enable=True).encode(), self._left())
        while not (status := self._status(self._left())).ready:
            if status.fatal:
                raise UnavailableError(
                    f"the controller of {self._nqn} at {self.portal} reports a fatal state"
                )
            time.sleep(_POLL)

    def _configure(self) -> None:
        self._expect(
            SetFeatures(
                fid=FeatureId.NUMBER_OF_QUEUES, cdw11=NumberOfQueues(submission=1, completion=1).encode()
            ),
            self._left(),
        )
        self._expect(
            SetFeatures(fid=FeatureId.ASYNCHRONOUS_EVENT_CONFIGURATION, cdw11=Oaes.NAMESPACE_ATTRIBUTE),
            self._left(),
        )
        self.admin.queue_pair.submit(_EVENT_CID, AsynchronousEventRequest())

    def _limits(self, controller: IdentifyController, capabilities: Capabilities, depth: int) -> Limits:
        page_size = 1 << PAGE_SHIFT + capabilities.mpsmin
        transfer = min(
            page_size << controller.mdts if controller.mdts else MAXIMUM_TRANSFER, MAXIMUM_TRANSFER
        )
        block_size = self.namespace.block_size
        return Limits(
            maximum_transfer=max(block_size, min(transfer, BLOCKS_MAX * block_size)),
            maximum_zeroes=self._maximum_zeroes(page_size, block_size),
            depth=min(depth, controller.maxcmd) if controller.maxcmd else depth,
            write_zeroes=bool(controller.oncs & Oncs.WRITE_ZEROES),
            dataset_management=bool(controller.oncs & Oncs.DATASET_MANAGEMENT),
        )

    def _maximum_zeroes(self, page_size: int, block_size: int) -> int:
        page = bytearray(PAGE_SIZE)
        answer = self.admin.execute(Identify(cns=Cns.IO_COMMAND_SET_CONTROLLER), self._left(), into=page)
        wzsl = IdentifyNvmController.decode(page).wzsl if answer.status.ok else 0
        return min(BLOCKS_MAX, (page_size << wzsl) // block_size) if wzsl else BLOCKS_MAX

    def _identify(self, cns: Cns, *, nsid: int = 0, timeout: float | None = None) -> bytearray:
        page = bytearray(PAGE_SIZE)
        self._expect(Identify(cns=cns, nsid=nsid), self._left() if timeout is None else timeout, into=page)
        return page

    def _property(self, offset: Property, *, size: int = 4, timeout: float | None = None) -> int:
        left = self._left() if timeout is None else timeout
        return self._expect(PropertyGet(offset=offset, size=size), left).result

    def _set_property(self, offset: Property, value: int, timeout: float) -> None:
        self._expect(PropertySet(offset=offset, value=value), timeout)

    def _status(self, timeout: float) -> ControllerStatus:
        return ControllerStatus.decode(self._property(Property.CSTS, timeout=timeout))

    def _expect(self, command: Command, timeout: float, *, into: BytesLike = b"") -> CommandCompleted:
        completion = self.admin.execute(command, timeout, into=into)
        if not completion.status.ok:
            raise UnavailableError(f"{self.portal}: {command_error(command, completion.status)}")
        return completion


class _AdminListener:
    """The admin queue's events and its loss; a lost admin queue is a lost association."""

    def __init__(self, association: Association, listener: QueueListener) -> None:
        self._association = association
        self._listener = listener

    def completed(self, completion: CommandCompleted) -> None:
        with contextlib.suppress(ConnectionLostError):
            self._association.admin_completed(completion)

    def lost(self, error: ConnectionLostError) -> None:
        self._association.abort(error)


def _nothing() -> None:
    return None
