"""An I/O queue: carries out commands of the NVM command set on the subsystem's namespace."""

import errno
import logging
import time
from collections import deque
from typing import Final

from weft.embedded.target.backend import Backend
from weft.embedded.target.controller import Controller
from weft.embedded.target.namespace import BLOCK_SIZE, Namespace
from weft.embedded.target.queue_pair import MAXIMUM_TRANSFER
from weft.embedded.target.responder import Responder
from weft.names import NSID
from weft.nvme.events import CommandReceived
from weft.nvme.fabrics import Disconnect, PropertyGet, PropertySet
from weft.nvme.nvm import (
    DSM_RANGE_SIZE,
    Compare,
    DatasetManagement,
    Flush,
    Read,
    Verify,
    Write,
    WriteZeroes,
    decode_dsm_ranges,
)
from weft.nvme.sqe import ALL_NAMESPACES
from weft.nvme.status import SUCCESS, Status, StatusCode, do_not_retry

_log = logging.getLogger(__name__)

_WRITING: Final = (Write, WriteZeroes, DatasetManagement)
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_DATA: Final = memoryview(b"")

_NvmCommand = Read | Write | Compare | Verify | WriteZeroes | Flush | DatasetManagement


class IoQueue:
    """Queue `qid` of a controller; attach it to the controller first."""

    def __init__(self, controller: Controller, namespace: Namespace, qid: int, responder: Responder) -> None:
        self._controller = controller
        self._namespace = namespace
        self._qid = qid
        self._responder = responder
        self._held: deque[tuple[CommandReceived, memoryview]] = deque()

    def execute(self, received: CommandReceived, data: memoryview | None) -> None:
        """Carry out a command, or keep it until writes are no longer held."""
        self._controller.last_command = time.monotonic()
        if not self._attempt(received, data if data is not None else _NO_DATA):
            self._held.append((received, data if data is not None else _NO_DATA))
            if len(self._held) == 1:
                self._namespace.on_release(self._responder.wake)

    def resume(self) -> None:
        """Carry out what was held."""
        while self._held:
            if not self._attempt(*self._held[0]):
                self._namespace.on_release(self._responder.wake)
                return
            self._held.popleft()

    def deadline(self) -> float | None:
        return self._namespace.hold_deadline if self._held else None

    def closed(self) -> None:
        self._controller.detach(self._qid)

    def _attempt(self, received: CommandReceived, data: memoryview) -> bool:
        """Carry out a command and answer it; False if it writes and writes are held."""
        command = received.command
        match command:
            case Read() | Write() | Compare() | Verify() | WriteZeroes() | Flush() | DatasetManagement():
                refusal = self._check(command, received.length)
                if refusal is not None:
                    self._responder.complete(received.cid, do_not_retry(refusal))
                    return True
                return self._on_backend(received.cid, command, data)
            case Disconnect():
                self._responder.complete(received.cid)
                self._responder.finish()
            case PropertyGet() | PropertySet():
                self._responder.complete(received.cid, do_not_retry(StatusCode.INVALID_QUEUE_TYPE))
            case _:
                self._responder.complete(received.cid, do_not_retry(StatusCode.INVALID_COMMAND_OPCODE))
        return True

    def _check(self, command: _NvmCommand, length: int) -> StatusCode | None:
        """Why the command cannot be carried out, None if it can; length is that of its data."""
        if isinstance(command, Flush):
            return None if command.nsid in {NSID, ALL_NAMESPACES} else StatusCode.INVALID_NAMESPACE_OR_FORMAT
        if command.nsid != NSID:
            return StatusCode.INVALID_NAMESPACE_OR_FORMAT
        if isinstance(command, DatasetManagement):
            wanted = command.ranges * DSM_RANGE_SIZE
            return None if length >= wanted else StatusCode.DATA_SGL_LENGTH_INVALID
        if command.slba + command.blocks > self._namespace.blocks:
            return StatusCode.LBA_OUT_OF_RANGE
        if isinstance(command, Read | Write | Compare):
            if command.blocks * BLOCK_SIZE > MAXIMUM_TRANSFER:
                return StatusCode.INVALID_FIELD_IN_COMMAND
            if length != command.blocks * BLOCK_SIZE:
                return StatusCode.DATA_SGL_LENGTH_INVALID
        return None

    def _on_backend(self, cid: int, command: _NvmCommand, data: memoryview) -> bool:
        writes = isinstance(command, _WRITING)
        room = self._room_for(command)
        backend = self._namespace.begin(writes=writes)
        if backend is None:
            return False
        try:
            status = self._carry_out(command, backend, data, room)
        except OSError as error:
            _log.error("volume %s: %s failed: %s", self._namespace.volume_id, type(command).__name__, error)
            status = _status_of(error, writes=writes)
        finally:
            self._namespace.end(writes=writes)
        if isinstance(command, Read) and status.ok:
            self._responder.send(cid, room)
        else:
            self._responder.complete(cid, status)
        return True

    def _room_for(self, command: _NvmCommand) -> memoryview:
        """Where data that is read goes."""
        if isinstance(command, Read | Verify):
            return self._responder.read_buffer(min(command.blocks * BLOCK_SIZE, MAXIMUM_TRANSFER))
        return _NO_DATA

    def _carry_out(
        self, command: _NvmCommand, backend: Backend, data: memoryview, room: memoryview
    ) -> Status:
        match command:
            case Read():
                backend.read_into(command.slba * BLOCK_SIZE, room)
            case Write():
                backend.write(command.slba * BLOCK_SIZE, data)
                if command.fua:
                    return self._flush(backend)
            case Compare():
                if not backend.equals(command.slba * BLOCK_SIZE, data):
                    return do_not_retry(StatusCode.COMPARE_FAILURE)
            case Verify():
                _read_all(backend, command.slba * BLOCK_SIZE, command.blocks * BLOCK_SIZE, room)
            case WriteZeroes():
                offset, length = command.slba * BLOCK_SIZE, command.blocks * BLOCK_SIZE
                backend.write_zeroes(offset, length, deallocate=command.deallocate)
                if command.fua:
                    return self._flush(backend)
            case Flush():
                return self._flush(backend)
            case DatasetManagement():
                return self._manage(command, backend, data)
        return SUCCESS

    def _flush(self, backend: Backend) -> Status:
        try:
            backend.flush()
        except OSError as error:
            _log.error("volume %s: flushing failed: %s", self._namespace.volume_id, error)
            # Even where there was no room: hosts take that for a matter of one write, and this one concerns all.
            return do_not_retry(StatusCode.WRITE_FAULT)
        return SUCCESS

    def _manage(self, command: DatasetManagement, backend: Backend, data: memoryview) -> Status:
        ranges = decode_dsm_ranges(data, command.ranges)
        if ranges is None:
            return do_not_retry(StatusCode.DATA_SGL_LENGTH_INVALID)
        if any(each.slba + each.blocks > self._namespace.blocks for each in ranges):
            return do_not_retry(StatusCode.LBA_OUT_OF_RANGE)
        if command.deallocate:
            for each in ranges:
                if each.blocks:
                    backend.deallocate(each.slba * BLOCK_SIZE, each.blocks * BLOCK_SIZE)
        return SUCCESS


def _read_all(backend: Backend, offset: int, length: int, room: memoryview) -> None:
    end = offset + length
    while offset < end:
        part = room[: end - offset]
        backend.read_into(offset, part)
        offset += len(part)


def _status_of(error: OSError, *, writes: bool) -> Status:
    if error.errno in _NO_ROOM:
        return do_not_retry(StatusCode.CAPACITY_EXCEEDED)
    return Status(StatusCode.WRITE_FAULT if writes else StatusCode.UNRECOVERED_READ_ERROR)
