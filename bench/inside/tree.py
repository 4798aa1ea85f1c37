"""nvmet's tree written by hand: the fewest system calls that make what weft makes, in one loop, with nothing checked.

What weft is measured against. It remembers, looks at and mends nothing; a failure in the middle leaves it half-made.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NVMET: Final = "/sys/kernel/config/nvmet"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainExport:
    """One volume as it is to be shown, to one host. uuid: the namespace's, and its nguid."""

    nqn: str
    serial: str
    device: str
    uuid: str
    host: str
    qid_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainPort:
    id: str
    transport: str
    address: str
    port: int


def write_exports(exports: Sequence[PlainExport], ports: Sequence[PlainPort]) -> None:
    """Make subsystems, namespaces, hosts and ports, and link every subsystem to every port."""
    for host in dict.fromkeys(each.host for each in exports):
        os.mkdir(f"{NVMET}/hosts/{host}")
    for each in exports:
        _write_subsystem(each)
    for port in ports:
        path = f"{NVMET}/ports/{port.id}"
        if not Path(path).exists():
            os.mkdir(path)
            _write(f"{path}/addr_trtype", port.transport)
            _write(f"{path}/addr_adrfam", "ipv4")
            _write(f"{path}/addr_traddr", port.address)
            _write(f"{path}/addr_trsvcid", str(port.port))
        for each in exports:
            os.symlink(f"{NVMET}/subsystems/{each.nqn}", f"{path}/subsystems/{each.nqn}")


def remove_exports(exports: Sequence[PlainExport], ports: Sequence[PlainPort]) -> None:
    """The end of write_exports."""
    for port in ports:
        for each in exports:
            os.unlink(f"{NVMET}/ports/{port.id}/subsystems/{each.nqn}")
        os.rmdir(f"{NVMET}/ports/{port.id}")
    for each in exports:
        subsystem = f"{NVMET}/subsystems/{each.nqn}"
        os.unlink(f"{subsystem}/allowed_hosts/{each.host}")
        os.rmdir(f"{subsystem}/namespaces/1")
        os.rmdir(subsystem)
    for host in dict.fromkeys(each.host for each in exports):
        os.rmdir(f"{NVMET}/hosts/{host}")


def read_tree() -> dict[str, str]:
    """Everything that is in nvmet: each file's content, each link's end; what the kernel chooses is left out."""
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(NVMET):
        for name in [*folders, *files]:
            path = f"{folder}/{name}"
            if os.path.islink(path):
                found[path] = os.readlink(path)
            elif name in files:
                found[path] = _read(path)
    return found


def _write_subsystem(export: PlainExport) -> None:
    subsystem = f"{NVMET}/subsystems/{export.nqn}"
    namespace = f"{subsystem}/namespaces/1"
    os.mkdir(subsystem)
    _write(f"{subsystem}/attr_model", "weft")
    _write(f"{subsystem}/attr_serial", export.serial)
    _write(f"{subsystem}/attr_qid_max", str(export.qid_max))
    os.mkdir(namespace)
    _write(f"{namespace}/device_path", export.device)
    _write(f"{namespace}/device_uuid", export.uuid)
    _write(f"{namespace}/device_nguid", export.uuid)
    _write(f"{namespace}/enable", "1")
    os.symlink(f"{NVMET}/hosts/{export.host}", f"{subsystem}/allowed_hosts/{export.host}")


def _write(path: str, value: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, value.encode())
    os.close(descriptor)


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", errors="replace").strip()
    except OSError as error:
        return str(error.strerror)
