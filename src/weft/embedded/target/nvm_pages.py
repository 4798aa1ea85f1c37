"""What an I/O controller says about itself and its namespace."""

import logging
import uuid
from collections.abc import Mapping
from typing import Final

from weft import __version__
from weft.embedded.target.admin_queue import ABORT_LIMIT, EVENT_REQUEST_LIMIT, TRANSFER_PAGES_LOG2, VERSION
from weft.embedded.target.controller import MAXIMUM_QUEUE_ENTRIES, Controller
from weft.embedded.target.namespace import BLOCK_SIZE, PREFERRED_BLOCKS, Namespace
from weft.embedded.target.subsystem import Subsystem
from weft.names import NSID, namespace_nguid, serial_number
from weft.nvme.admin import GetLogPage, Identify
from weft.nvme.async_event import NAMESPACE_ATTRIBUTE_CHANGED
from weft.nvme.identify import (
    ZERO_PAGE,
    Cmic,
    Cns,
    ControllerType,
    IdentifyController,
    IdentifyIndependentNamespace,
    IdentifyNamespace,
    NamespaceDescriptors,
    Oaes,
    Ofcs,
    Oncs,
    encode_command_set_combinations,
    encode_controller_list,
    encode_namespace_list,
    encode_primary_controller_capabilities,
    ioccsz,
)
from weft.nvme.logpage import (
    Effects,
    LogPageId,
    SmartLog,
    encode_changed_namespaces,
    encode_command_effects,
    encode_empty_error_log,
    encode_firmware_slots,
    encode_supported_log_pages,
)
from weft.nvme.sqe import AdminOpcode, NvmOpcode
from weft.nvme.status import StatusCode
from weft.nvme.target import IN_CAPSULE_DATA_SIZE

_log = logging.getLogger(__name__)

MODEL_NUMBER: Final = "weft"
CTRATT: Final = 1 << 0 | 1 << 6  # host identifiers of 128 bits; traffic-based keep alive
KEEP_ALIVE_GRANULARITY: Final = 1  # KAS, units of 100 ms

_EXTENDED_LOG_DATA: Final = 1 << 2  # LPA: Get Log Page with offsets
_EFFECTS_LOG: Final = 1 << 1
_WRITE_CACHE: Final = 0b111  # VWC: there is one, and Flush takes NSID FFFFFFFFh
_SHARED: Final = 1  # NMIC
_OPTIMAL_SIZES: Final = 1 << 4  # NSFEAT: NPWG and its companions count
_DEALLOCATED_IS_ZERO: Final = 0b001 | 1 << 3  # DLFEAT, and Write Zeroes may deallocate
_FIRST_INVALID_NSID: Final = 0xFFFFFFFE

_LOG_PAGES: Final = (
    LogPageId.SUPPORTED_LOG_PAGES,
    LogPageId.ERROR_INFORMATION,
    LogPageId.SMART_HEALTH_INFORMATION,
    LogPageId.FIRMWARE_SLOT_INFORMATION,
    LogPageId.CHANGED_NAMESPACE_LIST,
    LogPageId.COMMANDS_SUPPORTED_AND_EFFECTS,
)
_ADMIN_EFFECTS: Final[Mapping[int, int]] = {
    AdminOpcode.GET_LOG_PAGE: Effects.CSUPP,
    AdminOpcode.IDENTIFY: Effects.CSUPP,
    AdminOpcode.ABORT: Effects.CSUPP,
    AdminOpcode.SET_FEATURES: Effects.CSUPP,
    AdminOpcode.GET_FEATURES: Effects.CSUPP,
    AdminOpcode.ASYNCHRONOUS_EVENT_REQUEST: Effects.CSUPP,
    AdminOpcode.KEEP_ALIVE: Effects.CSUPP,
}
_NVM_EFFECTS: Final[Mapping[int, int]] = {
    NvmOpcode.FLUSH: Effects.CSUPP,
    NvmOpcode.WRITE: Effects.CSUPP | Effects.LBCC,
    NvmOpcode.READ: Effects.CSUPP,
    NvmOpcode.COMPARE: Effects.CSUPP,
    NvmOpcode.WRITE_ZEROES: Effects.CSUPP | Effects.LBCC,
    NvmOpcode.DATASET_MANAGEMENT: Effects.CSUPP | Effects.LBCC,
    NvmOpcode.VERIFY: Effects.CSUPP,
}


class NvmPages:
    """The Pages of a controller of subsystem."""

    notice = NAMESPACE_ATTRIBUTE_CHANGED
    notice_bit = Oaes.NAMESPACE_ATTRIBUTE
    has_io_queues = True

    def __init__(self, subsystem: Subsystem, namespace: Namespace, controller: Controller) -> None:
        self._subsystem = subsystem
        self._namespace = namespace
        self._controller = controller

    def identify(self, command: Identify) -> bytes | StatusCode:
        match command.cns:
            case Cns.CONTROLLER:
                return self._controller_page()
            case Cns.CONTROLLER_LIST:
                return self._controller_list(command.cntid)
            case Cns.PRIMARY_CONTROLLER_CAPABILITIES:
                return encode_primary_controller_capabilities(self._controller.cntlid)
            case Cns.IO_COMMAND_SET_COMBINATIONS:
                return encode_command_set_combinations()
            case Cns.IO_COMMAND_SET_CONTROLLER:
                return ZERO_PAGE if command.csi == 0 else StatusCode.INVALID_FIELD_IN_COMMAND
            case Cns.ACTIVE_NAMESPACE_LIST | Cns.ALLOCATED_NAMESPACE_LIST:
                return _namespace_list(command.nsid)
            case Cns.IO_COMMAND_SET_ACTIVE_NAMESPACE_LIST if command.csi == 0:
                return _namespace_list(command.nsid)
            case (
                Cns.NAMESPACE
                | Cns.ALLOCATED_NAMESPACE
                | Cns.NAMESPACE_DESCRIPTORS
                | Cns.IO_COMMAND_SET_NAMESPACE
                | Cns.COMMAND_SET_INDEPENDENT_NAMESPACE
                | Cns.NAMESPACE_CONTROLLER_LIST
            ):
                if command.nsid != NSID:
                    return StatusCode.INVALID_NAMESPACE_OR_FORMAT
                return self._identify_namespace(Cns(command.cns), command)
        return StatusCode.INVALID_FIELD_IN_COMMAND

    def log_page(self, command: GetLogPage) -> bytes | StatusCode:
        match command.lid:
            case LogPageId.SUPPORTED_LOG_PAGES:
                return encode_supported_log_pages(_LOG_PAGES)
            case LogPageId.ERROR_INFORMATION:
                return encode_empty_error_log(1)
            case LogPageId.SMART_HEALTH_INFORMATION:
                return SmartLog().encode()
            case LogPageId.FIRMWARE_SLOT_INFORMATION:
                return encode_firmware_slots(__version__)
            case LogPageId.COMMANDS_SUPPORTED_AND_EFFECTS:
                return encode_command_effects(_ADMIN_EFFECTS, _NVM_EFFECTS)
            case LogPageId.CHANGED_NAMESPACE_LIST:
                changed = self._controller.read_log(retain=command.rae)
                return encode_changed_namespaces([NSID] if changed else [])
        return StatusCode.INVALID_LOG_PAGE

    def shut_down(self) -> None:
        backend = self._namespace.begin(writes=False)
        if backend is None:
            return
        try:
            backend.flush()
        except OSError as error:
            _log.error("volume %s: flushing at shutdown failed: %s", self._namespace.volume_id, error)
        finally:
            self._namespace.end(writes=False)

    def _controller_page(self) -> bytes:
        return IdentifyController(
            sn=serial_number(self._subsystem.volume_id),
            mn=MODEL_NUMBER,
            fr=__version__[:8],
            cmic=Cmic.MULTIPLE_PORTS | Cmic.MULTIPLE_CONTROLLERS,
            mdts=TRANSFER_PAGES_LOG2,
            cntlid=self._controller.cntlid,
            ver=VERSION,
            oaes=Oaes.NAMESPACE_ATTRIBUTE,
            ctratt=CTRATT,
            cntrltype=ControllerType.IO,
            acl=ABORT_LIMIT - 1,
            aerl=EVENT_REQUEST_LIMIT - 1,
            lpa=_EFFECTS_LOG | _EXTENDED_LOG_DATA,
            kas=KEEP_ALIVE_GRANULARITY,
            maxcmd=MAXIMUM_QUEUE_ENTRIES,
            nn=NSID,
            mnan=NSID,
            oncs=Oncs.COMPARE | Oncs.DATASET_MANAGEMENT | Oncs.WRITE_ZEROES | Oncs.VERIFY,
            vwc=_WRITE_CACHE,
            subnqn=self._subsystem.nqn,
            ioccsz=ioccsz(IN_CAPSULE_DATA_SIZE),
            ofcs=Ofcs.DISCONNECT,
        ).encode()

    def _controller_list(self, first: int) -> bytes:
        cntlids = [each.cntlid for each in self._subsystem.controllers.all()]
        return encode_controller_list(cntlids, first=first)

    def _identify_namespace(self, cns: Cns, command: Identify) -> bytes | StatusCode:
        match cns:
            case Cns.NAMESPACE_DESCRIPTORS:
                volume_id = self._subsystem.volume_id
                return NamespaceDescriptors(
                    nguid=namespace_nguid(volume_id), uuid=uuid.UUID(volume_id).bytes
                ).encode()
            case Cns.COMMAND_SET_INDEPENDENT_NAMESPACE:
                return IdentifyIndependentNamespace(nmic=_SHARED).encode()
            case Cns.IO_COMMAND_SET_NAMESPACE:
                return ZERO_PAGE if command.csi == 0 else StatusCode.INVALID_FIELD_IN_COMMAND
            case Cns.NAMESPACE_CONTROLLER_LIST:
                return self._controller_list(command.cntid)
            case _:
                return self._namespace_page()

    def _namespace_page(self) -> bytes:
        blocks = self._namespace.blocks
        preferred = PREFERRED_BLOCKS - 1
        return IdentifyNamespace(
            nsze=blocks,
            ncap=blocks,
            nuse=blocks,
            nsfeat=_OPTIMAL_SIZES,
            nmic=_SHARED,
            dlfeat=_DEALLOCATED_IS_ZERO,
            nvmcap=blocks * BLOCK_SIZE,
            npwg=preferred,
            npwa=preferred,
            npdg=preferred,
            npda=preferred,
            nows=preferred,
            nguid=namespace_nguid(self._subsystem.volume_id),
            lbads=BLOCK_SIZE.bit_length() - 1,
        ).encode()


def _namespace_list(after: int) -> bytes | StatusCode:
    if after >= _FIRST_INVALID_NSID:
        return StatusCode.INVALID_NAMESPACE_OR_FORMAT
    return encode_namespace_list([NSID], after=after)
