"""/dev/nvme-fabrics: the door by which the kernel's NVMe host is told to connect (drivers/nvme/host/fabrics.c)."""

import errno
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from weft.config import HostSection
from weft.connection import NvmeofPortal
from weft.errors import (
    CommandError,
    ConflictError,
    InvalidValueError,
    PermissionDeniedError,
    UnavailableError,
    UnsupportedError,
    WeftError,
)
from weft.kernel import Kernel
from weft.model import DhChapSecrets, HostIdentity, Transport
from weft.nvme.dhchap_key import InvalidKeyError, parse_dhchap_key
from weft.run import run

MODULES: Final[Mapping[Transport, str]] = {
    Transport.TCP: "nvme-tcp",
    Transport.RDMA: "nvme-rdma",
    Transport.LOOP: "nvme-loop",
}
FABRICS_MODULE: Final = "nvme-fabrics"

_MODPROBE_TIMEOUT: Final = 60.0
_LONGEST_ANSWER: Final = 4096

_UNREACHABLE: Final = frozenset(
    {
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTUNREACH,
        errno.EHOSTDOWN,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.ETIMEDOUT,
        errno.EADDRNOTAVAIL,
    }
)
_WRONG_KEY: Final = frozenset({errno.EKEYREJECTED, errno.ENOKEY, errno.EACCES})


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectRequest:
    """One controller to be made: a portal, the subsystem behind it, who asks, and how patient it is to be.

    second: although this host has a connection to the subsystem by this portal already.
    """

    portal: NvmeofPortal
    nqn: str
    identity: HostIdentity
    host: HostSection
    secrets: DhChapSecrets | None = field(default=None, repr=False)
    second: bool = False

    def options(self) -> str:
        """What is written to /dev/nvme-fabrics; as secret as the keys in it.

        Raises InvalidValueError for a key that is none: the kernel would take it, and a comma in it would end it.
        """
        options = {
            "nqn": self.nqn,
            "transport": self.portal.transport.value,
            "hostnqn": self.identity.nqn,
            "hostid": self.identity.id,
            "keep_alive_tmo": str(max(1, math.ceil(self.host.keep_alive))),
        }
        if self.portal.transport is not Transport.LOOP:  # it takes none of these, and cannot be lost
            options |= {
                "traddr": self.portal.address,
                "trsvcid": str(self.portal.port),
                "ctrl_loss_tmo": str(math.ceil(self.host.controller_loss_timeout)),
                "reconnect_delay": str(max(1, math.ceil(self.host.reconnect_delay))),
            }
        if self.host.io_queues:
            options["nr_io_queues"] = str(self.host.io_queues)
        if self.secrets is not None:
            options["dhchap_secret"] = _checked_key("dhchapSecret", self.secrets.host_key)
            if self.secrets.controller_key is not None:
                options["dhchap_ctrl_secret"] = _checked_key("dhchapCtrlSecret", self.secrets.controller_key)
        words = [f"{name}={value}" for name, value in options.items()]
        return ",".join([*words, "duplicate_connect"] if self.second else words)


class Fabrics:
    """Makes controllers, below root. The kernel makes one at a time for the whole machine (nvmf_dev_mutex)."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._device = root / "dev/nvme-fabrics"
        self._kernel = Kernel(root=root)

    def connect(self, request: ConnectRequest) -> str:
        """Make a controller and return its name, such as nvme0. Its namespaces are looked for after that.

        Takes a few seconds when nobody answers at the portal, up to a minute when somebody does who then is silent.
        Raises UnavailableError when the portal cannot be reached, PermissionDeniedError when the target refuses or
        breaks off (the kernel does not tell which, nor why), ConflictError when there is such a controller already,
        UnsupportedError when the kernel cannot do it.
        """
        options = request.options().encode()
        self._load(FABRICS_MODULE)
        self._load(MODULES[request.portal.transport])
        if request.secrets is not None:
            self._require_authentication()
        descriptor = self._open()
        try:
            os.write(descriptor, options)
            answer = os.read(descriptor, _LONGEST_ANSWER).decode(errors="replace")
        except OSError as error:
            raise _connect_error(request, error.errno or 0) from None  # nothing that might hold the options
        finally:
            os.close(descriptor)
        made = re.search(r"instance=([0-9]+)", answer)
        if made is None:
            raise UnavailableError(f"{self._device} gave an answer without a controller in it")
        return f"nvme{made[1]}"

    def _load(self, module: str) -> None:
        if self._kernel.module(module).active:
            return
        why_not = self._kernel.why_not_module(module)
        if why_not is not None:
            raise UnsupportedError(why_not)
        try:
            run(["modprobe", module], timeout=_MODPROBE_TIMEOUT)
        except CommandError as error:
            raise UnsupportedError(f"the kernel module {module} cannot be loaded: {error}") from error

    def _open(self) -> int:
        try:
            return os.open(self._device, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise UnsupportedError(f"{self._device} cannot be opened: {error.strerror}") from error

    def _require_authentication(self) -> None:
        """A descriptor by which nothing was written tells the options that the kernel knows (from Linux 5.17)."""
        descriptor = self._open()
        try:
            known = os.read(descriptor, _LONGEST_ANSWER).decode(errors="replace")
        except OSError:
            return
        finally:
            os.close(descriptor)
        if "dhchap_secret" not in known:
            raise UnsupportedError(
                "this host is to authenticate itself, and its kernel cannot (CONFIG_NVME_HOST_AUTH is missing;"
                " Debian's kernels have it from 6.12 on)"
            )


def _checked_key(name: str, key: str) -> str:
    try:
        parse_dhchap_key(key)
    except InvalidKeyError as error:
        raise InvalidValueError(name, str(error)) from None
    return key


def _connect_error(request: ConnectRequest, number: int) -> WeftError:
    where, reason = f"{request.nqn} at {request.portal}", os.strerror(number)
    if number == errno.EALREADY:
        return ConflictError(f"this host has a connection to {where} already")
    if number in _UNREACHABLE:
        return UnavailableError(f"{where} cannot be reached: {reason}")
    if number in _WRONG_KEY:
        return PermissionDeniedError(
            f"{where} and this host ({request.identity.nqn}) do not agree on their keys: {reason}"
        )
    if number == errno.EINVAL:
        return PermissionDeniedError(
            f"{where} refused this host ({request.identity.nqn}), or this kernel does not take one of the"
            " options: its log tells which (dmesg)"
        )
    if number == errno.EIO:
        return PermissionDeniedError(
            f"{where} refused this host ({request.identity.nqn}), or broke off the connection; the kernel does not"
            " tell why, the storage node does"
        )
    return UnavailableError(f"the kernel cannot connect to {where}: {reason}")
