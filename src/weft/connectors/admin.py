"""Admin commands by a controller's character device (linux/nvme_ioctl.h)."""

import ctypes
import fcntl
import os
import struct
from pathlib import Path
from typing import Final

from weft.errors import UnavailableError
from weft.nvme.identify import Cns, IdentifyNamespace

_ADMIN_COMMAND: Final = 0xC0484E41
"""NVME_IOCTL_ADMIN_CMD: _IOWR('N', 0x41, struct nvme_passthru_cmd)."""
_COMMAND: Final = struct.Struct("=BBHIIIQQII6III")
"""struct nvme_passthru_cmd: opcode, flags, -, nsid, cdw2, cdw3, metadata, address, their lengths, cdw10-15, timeout
in milliseconds, result."""
_IDENTIFY: Final = 0x06
_PAGE: Final = 4096
_TIMEOUT_MS: Final = 10_000


def identify_namespace(controller: Path, nsid: int) -> IdentifyNamespace:
    """Ask the controller what a namespace is like now; nvmet looks at the backing device's size for it.

    Raises UnavailableError when it does not answer well within ten seconds.
    """
    page = ctypes.create_string_buffer(_PAGE)
    command = bytearray(
        _COMMAND.pack(
            *(_IDENTIFY, 0, 0, nsid, 0, 0),
            *(0, ctypes.addressof(page), 0, _PAGE),
            *(Cns.NAMESPACE, 0, 0, 0, 0, 0),
            *(_TIMEOUT_MS, 0),
        )
    )
    try:
        descriptor = os.open(controller, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = fcntl.ioctl(descriptor, _ADMIN_COMMAND, command)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UnavailableError(
            f"{controller} does not tell the size of its namespace: {error.strerror}"
        ) from error
    if status != 0:
        raise UnavailableError(
            f"{controller} does not tell the size of its namespace: NVMe status {status:#x}"
        )
    return IdentifyNamespace.decode(page.raw)
