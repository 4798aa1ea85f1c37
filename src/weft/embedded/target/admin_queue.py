"""An admin queue: controller properties, features, log pages, Identify, keep alive and asynchronous events."""

import time
from collections import deque
from typing import Final, Protocol

from weft.embedded.target.controller import MAXIMUM_QUEUE_ENTRIES, Controller
from weft.embedded.target.queue_pair import MAXIMUM_TRANSFER
from weft.embedded.target.responder import EndOfAssociationError, Responder
from weft.nvme.admin import (
    Abort,
    AsynchronousEventRequest,
    GetFeatures,
    GetLogPage,
    Identify,
    KeepAlive,
    SetFeatures,
)
from weft.nvme.async_event import AsyncEvent
from weft.nvme.events import CommandReceived
from weft.nvme.fabrics import PropertyGet, PropertySet
from weft.nvme.features import (
    EXTENDED_HOST_IDENTIFIER,
    FeatureCapabilities,
    FeatureId,
    FeatureSelect,
    NumberOfQueues,
)
from weft.nvme.identify import PAGE_SIZE
from weft.nvme.logpage import part_of_log
from weft.nvme.properties import (
    PAGE_SHIFT,
    Capabilities,
    ControllerConfiguration,
    ControllerStatus,
    Property,
    ShutdownNotification,
    ShutdownStatus,
    version,
)
from weft.nvme.status import StatusCode, do_not_retry

VERSION: Final = version(2, 0)
ABORT_LIMIT: Final = 4
EVENT_REQUEST_LIMIT: Final = 4
TRANSFER_PAGES_LOG2: Final = (MAXIMUM_TRANSFER >> PAGE_SHIFT).bit_length() - 1
"""MDTS."""

_NOT_ABORTED: Final = 1
_WRITE_CACHE_ENABLED: Final = 1
_WIDE_PROPERTIES: Final = frozenset({Property.CAP, Property.ASQ, Property.ACQ})
_END_OF_PROPERTIES: Final = 0x1000  # from here on they are the transport's
_CAPABILITIES: Final = Capabilities(max_queue_entries=MAXIMUM_QUEUE_ENTRIES).encode()


class Pages(Protocol):
    """What sets the two kinds of controllers apart: what they say about themselves."""

    notice: AsyncEvent
    """The asynchronous event that this kind of controller sends."""
    notice_bit: int
    """Its bit in OAES and in the Asynchronous Event Configuration."""
    has_io_queues: bool

    def identify(self, command: Identify) -> bytes | StatusCode:
        """A page of 4096 bytes, or why there is none."""

    def log_page(self, command: GetLogPage) -> bytes | StatusCode:
        """A whole log page, or why there is none."""

    def shut_down(self) -> None:
        """The host says that it is leaving: what it wrote must be safe."""


class AdminQueue:
    """Queue 0 of a controller."""

    def __init__(
        self, controller: Controller, pages: Pages, responder: Responder, *, idle_seconds: float | None = None
    ) -> None:
        """idle_seconds: for how long a host without a keep alive timeout may be silent; None: for ever."""
        self._controller = controller
        self._pages = pages
        self._responder = responder
        self._idle_seconds = idle_seconds
        self._configuration = ControllerConfiguration(iosqes=0, iocqes=0)
        self._status = ControllerStatus()
        self._event_requests: deque[int] = deque()
        self._event_configuration = 0

    def execute(self, received: CommandReceived, _data: memoryview | None) -> None:
        """Carry out a command; an Asynchronous Event Request is answered when there is an event."""
        self._controller.last_command = time.monotonic()
        command = received.command
        if isinstance(command, PropertyGet):
            self._get_property(received.cid, command)
        elif isinstance(command, PropertySet):
            self._set_property(received.cid, command)
        elif not self._status.ready:
            self._refuse(received.cid, StatusCode.COMMAND_SEQUENCE_ERROR)
        else:
            self._execute_admin(received)

    def resume(self) -> None:
        """Tell what has happened. Raises EndOfAssociationError when the host was silent for too long."""
        self._tell()
        deadline = self.deadline()
        if deadline is not None and time.monotonic() >= deadline:
            raise EndOfAssociationError("the host was silent for longer than its keep alive timeout allows")

    def deadline(self) -> float | None:
        keep_alive = self._controller.keep_alive_deadline
        if keep_alive is None and self._idle_seconds is not None:
            return self._controller.last_command + self._idle_seconds
        return keep_alive

    def closed(self) -> None:
        self._controller.detach(0)

    def _execute_admin(self, received: CommandReceived) -> None:
        cid, command = received.cid, received.command
        match command:
            case KeepAlive():
                self._responder.complete(cid)
            case Identify():
                self._send_page(received, self._pages.identify(command), PAGE_SIZE)
            case GetLogPage():
                self._get_log_page(received, command)
            case GetFeatures():
                self._get_features(received, command)
            case SetFeatures():
                self._set_features(cid, command)
            case AsynchronousEventRequest():
                self._request_event(cid)
            case Abort():
                self._responder.complete(cid, result=_NOT_ABORTED)
            case _:
                self._refuse(cid, StatusCode.INVALID_COMMAND_OPCODE)

    def _refuse(self, cid: int, code: StatusCode) -> None:
        self._responder.complete(cid, do_not_retry(code))

    def _send_page(self, received: CommandReceived, page: bytes | StatusCode, length: int) -> None:
        if isinstance(page, StatusCode):
            self._refuse(received.cid, page)
        elif received.length < length:
            self._refuse(received.cid, StatusCode.DATA_SGL_LENGTH_INVALID)
        else:
            self._responder.send(received.cid, page)

    # Properties

    def _get_property(self, cid: int, command: PropertyGet) -> None:
        values: dict[int, int] = {
            Property.CAP: _CAPABILITIES,
            Property.VS: VERSION,
            Property.CC: self._configuration.encode(),
            Property.CSTS: self._status.encode(),
        }
        size = 8 if command.offset in _WIDE_PROPERTIES else 4
        known = command.offset in values or _is_reserved(command.offset)
        if not known or command.size != size:
            self._refuse(cid, StatusCode.INVALID_FIELD_IN_COMMAND)
        else:
            self._responder.complete(cid, result=values.get(command.offset, 0))

    def _set_property(self, cid: int, command: PropertySet) -> None:
        if command.offset != Property.CC or command.size != 4:
            self._refuse(cid, StatusCode.INVALID_FIELD_IN_COMMAND)
            return
        self._configure(ControllerConfiguration.decode(command.value))
        self._responder.complete(cid)

    def _configure(self, new: ControllerConfiguration) -> None:
        old, self._configuration = self._configuration, new
        ready, fatal, shutdown = self._status.ready, self._status.fatal, self._status.shutdown
        if new.enable and not old.enable:
            ready, shutdown = _is_possible(new), ShutdownStatus.NORMAL
            fatal = not ready
        elif old.enable and not new.enable:
            self._controller.end_io_queues()
            ready, fatal, shutdown = False, False, ShutdownStatus.NORMAL
        if new.shn is not ShutdownNotification.NONE and old.shn is ShutdownNotification.NONE:
            self._pages.shut_down()
            shutdown = ShutdownStatus.COMPLETE
        elif new.shn is ShutdownNotification.NONE:
            shutdown = ShutdownStatus.NORMAL
        self._status = ControllerStatus(ready=ready, fatal=fatal, shutdown=shutdown)
        self._controller.ready = ready

    # Features

    def _get_features(self, received: CommandReceived, command: GetFeatures) -> None:
        cid = received.cid
        if command.fid == FeatureId.HOST_IDENTIFIER and command.cdw11 & EXTENDED_HOST_IDENTIFIER:
            self._send_page(received, self._controller.hostid, len(self._controller.hostid))
            return
        value = self._feature(command.fid)
        if value is None:
            self._refuse(cid, StatusCode.INVALID_FIELD_IN_COMMAND)
        elif command.sel == FeatureSelect.SUPPORTED_CAPABILITIES:
            changeable = command.fid in {
                FeatureId.ASYNCHRONOUS_EVENT_CONFIGURATION,
                FeatureId.KEEP_ALIVE_TIMER,
                FeatureId.NUMBER_OF_QUEUES,
            }
            self._responder.complete(cid, result=FeatureCapabilities.CHANGEABLE if changeable else 0)
        else:
            self._responder.complete(cid, result=value)

    def _feature(self, fid: int) -> int | None:
        match fid:
            case FeatureId.ASYNCHRONOUS_EVENT_CONFIGURATION:
                return self._event_configuration
            case FeatureId.KEEP_ALIVE_TIMER:
                return round(self._controller.kato * 1000)
        if not self._pages.has_io_queues:
            return None
        match fid:
            case FeatureId.NUMBER_OF_QUEUES:
                queues = self._controller.io_queues
                return NumberOfQueues(submission=queues, completion=queues).encode()
            case FeatureId.VOLATILE_WRITE_CACHE:
                return _WRITE_CACHE_ENABLED
            case (
                FeatureId.ARBITRATION
                | FeatureId.POWER_MANAGEMENT
                | FeatureId.ERROR_RECOVERY
                | FeatureId.WRITE_ATOMICITY
            ):
                return 0
        return None

    def _set_features(self, cid: int, command: SetFeatures) -> None:
        if command.save:
            self._refuse(cid, StatusCode.FEATURE_IDENTIFIER_NOT_SAVEABLE)
            return
        match command.fid:
            case FeatureId.ASYNCHRONOUS_EVENT_CONFIGURATION:
                self._event_configuration = command.cdw11 & self._pages.notice_bit
                self._controller.enable_notice(enabled=bool(self._event_configuration))
                self._responder.complete(cid)
                self._tell()
            case FeatureId.KEEP_ALIVE_TIMER:
                self._controller.kato = command.cdw11 / 1000
                self._responder.complete(cid)
            case FeatureId.HOST_IDENTIFIER:
                # Connect has given it, and over fabrics it stays (Base 2.0, 5.27.1.25).
                self._refuse(cid, StatusCode.COMMAND_SEQUENCE_ERROR)
            case FeatureId.NUMBER_OF_QUEUES if self._pages.has_io_queues:
                self._grant_queues(cid, NumberOfQueues.decode(command.cdw11))
            case FeatureId.VOLATILE_WRITE_CACHE if self._pages.has_io_queues:
                self._refuse(cid, StatusCode.FEATURE_NOT_CHANGEABLE)
            case _:
                self._refuse(cid, StatusCode.INVALID_FIELD_IN_COMMAND)

    def _grant_queues(self, cid: int, wanted: NumberOfQueues | None) -> None:
        if wanted is None:
            self._refuse(cid, StatusCode.INVALID_FIELD_IN_COMMAND)
            return
        # A queue over fabrics is a submission and a completion queue at once.
        granted = min(self._controller.io_queues, max(wanted.submission, wanted.completion))
        self._responder.complete(cid, result=NumberOfQueues(submission=granted, completion=granted).encode())

    # Log pages and asynchronous events

    def _get_log_page(self, received: CommandReceived, command: GetLogPage) -> None:
        if command.length > MAXIMUM_TRANSFER:
            self._refuse(received.cid, StatusCode.INVALID_FIELD_IN_COMMAND)
            return
        page = self._pages.log_page(command)
        if isinstance(page, bytes):
            part = part_of_log(page, command.offset, command.length)
            page = StatusCode.INVALID_FIELD_IN_COMMAND if part is None else part
        self._send_page(received, page, command.length)
        self._tell()

    def _request_event(self, cid: int) -> None:
        if len(self._event_requests) >= EVENT_REQUEST_LIMIT:
            self._refuse(cid, StatusCode.ASYNCHRONOUS_EVENT_REQUEST_LIMIT_EXCEEDED)
            return
        self._event_requests.append(cid)
        self._tell()

    def _tell(self) -> None:
        if self._event_requests and self._controller.take_notice():
            self._responder.complete(self._event_requests.popleft(), result=self._pages.notice.encode())


def _is_reserved(offset: int) -> bool:
    """Whether a property is one that this controller lacks, as most over fabrics: it reads as 0 (Base 2.0, 3.1.3).

    `nvme show-regs` asks for those too, and gives up at the first that is refused.
    """
    return Property.INTMS <= offset < _END_OF_PROPERTIES and offset % 4 == 0


def _is_possible(wanted: ControllerConfiguration) -> bool:
    return (
        wanted.css in {0, 6} and wanted.mps == 0 and wanted.ams == 0
    )  # queue entry sizes do not matter to fabrics: 6 and 4 or, before they are set, 0
