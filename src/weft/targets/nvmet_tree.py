"""The part of nvmet's configfs tree that concerns one export: as wanted, as it is, and the way from one to the other.

    subsystems/<nqn>/attr_model, attr_serial, attr_qid_max, attr_allow_any_host
    subsystems/<nqn>/namespaces/1/device_path, device_uuid, device_nguid, enable
    subsystems/<nqn>/allowed_hosts/<host nqn>  ->  hosts/<host nqn>
    hosts/<host nqn>/dhchap_key, dhchap_ctrl_key, dhchap_hash

Files and their rules are those of drivers/nvme/target/configfs.c (Linux 6.12). Pure but for read_*.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from weft.errors import ConflictError, UnsupportedError
from weft.model import DhChapSecrets, VolumeId
from weft.names import NSID, serial_number
from weft.nvme.dhchap_key import parse_dhchap_key
from weft.targets.configfs import PRIVATE, SECRET, Configfs

MODEL: Final = "weft"
"""Of every subsystem that weft makes, and of no other: it tells weft's own."""
SUBSYSTEMS: Final = "subsystems"
HOST_KEY: Final = "dhchap_key"
CONTROLLER_KEY: Final = "dhchap_ctrl_key"
_HASH: Final = "dhchap_hash"
_NO_KEY: Final = "\0"
_UNSET_PATH: Final = "(null)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A namespace. uuid and nguid are in the UUID's text form."""

    device_path: str
    uuid: str
    nguid: str
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Subsystem:
    """A subsystem with its one namespace; hosts are the NQNs that it lets in."""

    nqn: str
    model: str
    serial: str
    qid_max: int | None
    allow_any_host: bool
    namespace: Namespace | None
    hosts: frozenset[str] = frozenset()

    @property
    def is_ours(self) -> bool:
        """Made by weft, or so little made that only a crash of weft can have left it so."""
        return self.model == MODEL or (self.namespace is None and not self.hosts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host's directory. is_ours: made by weft, and for weft to change and remove."""

    nqn: str
    is_ours: bool
    secrets: DhChapSecrets | None = None
    knows_keys: bool = field(default=True, compare=False)
    """Whether the kernel has files for keys; 6.1 has none."""


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    path: str


@dataclass(frozen=True, slots=True)
class SetMode:
    path: str
    mode: int


@dataclass(frozen=True, slots=True)
class Write:
    path: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Link:
    target: str
    path: str


@dataclass(frozen=True, slots=True)
class Unlink:
    path: str


@dataclass(frozen=True, slots=True)
class RemoveDirectory:
    path: str


Operation = MakeDirectory | SetMode | Write | Link | Unlink | RemoveDirectory


def apply(configfs: Configfs, operations: tuple[Operation, ...]) -> None:
    """Do them in order. Raises ConfigfsError; what was done until then stays."""
    for each in operations:
        match each:
            case MakeDirectory(path):
                configfs.make_directory(path)
            case SetMode(path, mode):
                configfs.set_mode(path, mode)
            case Write(path, value):
                configfs.write(path, value)
            case Link(target, path):
                configfs.link(target, path)
            case Unlink(path):
                configfs.unlink(path)
            case RemoveDirectory(path):
                configfs.remove_directory(path)


def subsystem_path(nqn: str) -> str:
    return f"{SUBSYSTEMS}/{nqn}"


def namespace_path(nqn: str) -> str:
    return f"{SUBSYSTEMS}/{nqn}/namespaces/{NSID}"


def host_path(host_nqn: str) -> str:
    return f"hosts/{host_nqn}"


def allowed_hosts_path(nqn: str) -> str:
    return f"{SUBSYSTEMS}/{nqn}/allowed_hosts"


def read_subsystem(configfs: Configfs, nqn: str) -> Subsystem | None:
    """A subsystem as it is."""
    path = subsystem_path(nqn)
    model = configfs.read(f"{path}/attr_model")
    if model is None:
        return None
    qid_max = configfs.read(f"{path}/attr_qid_max")
    return Subsystem(
        nqn=nqn,
        model=model,
        serial=configfs.read(f"{path}/attr_serial") or "",
        qid_max=int(qid_max) if qid_max else None,
        allow_any_host=configfs.read(f"{path}/attr_allow_any_host") == "1",
        namespace=_read_namespace(configfs, nqn),
        hosts=frozenset(configfs.names(allowed_hosts_path(nqn))),
    )


def read_host(configfs: Configfs, host_nqn: str) -> Host | None:
    """A host's directory as it is."""
    path = host_path(host_nqn)
    mode = configfs.mode(path)
    if mode is None:
        return None
    host_key = configfs.read(f"{path}/{HOST_KEY}")
    return Host(
        nqn=host_nqn,
        is_ours=mode == PRIVATE,
        secrets=_secrets(host_key, configfs.read(f"{path}/{CONTROLLER_KEY}")),
        knows_keys=host_key is not None,
    )


def make_subsystem(configfs: Configfs, nqn: str, volume_id: VolumeId, device_path: str, qid_max: int) -> None:
    """Make the subsystem of a volume, where there is nothing of it, with its namespace, and without hosts.

    Straight on, for after a restart this is done a thousand times. The namespace is left to enable_namespace(), once
    the hosts are let in. Raises ConfigfsError; what was done until then stays, and subsystem_difference() tells what is
    missing.
    """
    path = subsystem_path(nqn)
    configfs.make_directory(path)
    configfs.write(f"{path}/attr_model", MODEL)
    configfs.write(f"{path}/attr_serial", serial_number(volume_id))
    configfs.write(f"{path}/attr_qid_max", str(qid_max))
    path = namespace_path(nqn)
    configfs.make_directory(path)
    configfs.write(f"{path}/device_path", device_path)
    configfs.write(f"{path}/device_uuid", volume_id)
    configfs.write(f"{path}/device_nguid", volume_id)


def enable_namespace(configfs: Configfs, nqn: str) -> None:
    """The last step of an export: one whose namespace is enabled is whole, wherever a crash came."""
    configfs.write(f"{namespace_path(nqn)}/enable", "1")


def let_in(configfs: Configfs, nqn: str, hosts: Iterable[str]) -> None:
    """Let hosts in, whose directories are there, to a subsystem that make_subsystem() has just made."""
    for each in hosts:
        configfs.link(f"hosts/{each}", f"{SUBSYSTEMS}/{nqn}/allowed_hosts/{each}")


def let_everyone_in(configfs: Configfs, nqn: str) -> None:
    """The same for any host."""
    configfs.write(f"{subsystem_path(nqn)}/attr_allow_any_host", "1")


def wanted_subsystem(
    nqn: str, volume_id: VolumeId, device_path: str, qid_max: int, hosts: Iterable[str] | None
) -> Subsystem:
    """What make_subsystem(), letting in these hosts or, for None, everyone, and enable_namespace() make."""
    return Subsystem(
        nqn=nqn,
        model=MODEL,
        serial=serial_number(volume_id),
        qid_max=qid_max,
        allow_any_host=hosts is None,
        namespace=Namespace(device_path=device_path, uuid=volume_id, nguid=volume_id),
        hosts=frozenset(hosts or ()),
    )


def subsystem_difference(wanted: Subsystem, live: Subsystem, *, shown: bool) -> tuple[Operation, ...]:
    """How a subsystem becomes what is wanted, hosts aside; shown: a portal leads to it, so hosts may be using it.

    Of one that is shown nothing is taken away, and what the kernel lets nobody change under hosts stays as it is.
    Raises ConflictError when it holds another device.
    """
    path = subsystem_path(wanted.nqn)
    operations: list[Operation] = []
    if live.model != wanted.model:
        operations.append(Write(f"{path}/attr_model", wanted.model))
    if not shown and live.serial != wanted.serial:
        operations.append(Write(f"{path}/attr_serial", wanted.serial))
    # A write of attr_qid_max ends every controller of the subsystem.
    if not shown and wanted.qid_max is not None and live.qid_max != wanted.qid_max:
        operations.append(Write(f"{path}/attr_qid_max", str(wanted.qid_max)))
    if wanted.namespace is not None:
        operations += _namespace_difference(wanted.nqn, wanted.namespace, live.namespace, shown=shown)
    return tuple(operations)


def access_difference(wanted: Subsystem, live: Subsystem) -> tuple[Operation, ...]:
    """How the wanted hosts come to be let in. Those that are to go are left to revoke()."""
    path = subsystem_path(wanted.nqn)
    if wanted.allow_any_host:
        # The kernel takes either a list of hosts or any host.
        unlinks = [Unlink(f"{path}/allowed_hosts/{each}") for each in sorted(live.hosts)]
        opening = () if live.allow_any_host else (Write(f"{path}/attr_allow_any_host", "1"),)
        return (*unlinks, *opening)
    closing = [Write(f"{path}/attr_allow_any_host", "0")] if live.allow_any_host else []
    there = live.hosts
    links = [Link(host_path(each), f"{path}/allowed_hosts/{each}") for each in sorted(wanted.hosts - there)]
    return (*closing, *links)


def host_difference(host_nqn: str, secrets: DhChapSecrets | None, live: Host | None) -> tuple[Operation, ...]:
    """How a host comes to have a directory with these keys.

    Raises ConflictError when someone else made it and gave it other keys.
    """
    path = host_path(host_nqn)
    operations: list[Operation] = []
    if live is None:
        # Private from the start: the files of keys in it are readable by everyone.
        operations += [MakeDirectory(path), SetMode(path, PRIVATE)]
    if (live.secrets if live is not None else None) == secrets:
        return tuple(operations)
    if live is not None and not live.is_ours:
        raise ConflictError(
            f"host {host_nqn} is in this node's nvmet already, made by someone else and with other DH-HMAC-CHAP keys"
            f" than weft's; remove it there: rmdir /sys/kernel/config/nvmet/hosts/{host_nqn}"
        )
    return (*operations, *_key_operations(path, secrets))


def check_knows_keys(host: Host) -> None:
    """Raises UnsupportedError when the kernel has no authentication."""
    if not host.knows_keys:
        raise UnsupportedError(
            "this node's kernel has no DH-HMAC-CHAP for NVMe targets (CONFIG_NVME_TARGET_AUTH, Debian's from 6.12):"
            " use a newer kernel, or take the keys away from the host"
        )


def removal(nqn: str, live: Subsystem) -> tuple[Operation, ...]:
    """How a subsystem goes that no port holds any more. Its hosts' directories stay."""
    path = subsystem_path(nqn)
    operations: list[Operation] = [Unlink(f"{path}/allowed_hosts/{each}") for each in sorted(live.hosts)]
    if live.namespace is not None:
        if live.namespace.enabled:
            operations.append(Write(f"{namespace_path(nqn)}/enable", "0"))
        operations.append(RemoveDirectory(namespace_path(nqn)))
    return (*operations, RemoveDirectory(path))


def _namespace_difference(
    nqn: str, wanted: Namespace, live: Namespace | None, *, shown: bool
) -> list[Operation]:
    path = namespace_path(nqn)
    if live == wanted:
        return []
    operations: list[Operation] = [MakeDirectory(path)] if live is None else []
    changes: list[Operation] = []
    if live is None or live.device_path != wanted.device_path:
        changes.append(Write(f"{path}/device_path", wanted.device_path))
    if live is None or live.uuid != wanted.uuid:
        changes.append(Write(f"{path}/device_uuid", wanted.uuid))
    if live is None or live.nguid != wanted.nguid:
        changes.append(Write(f"{path}/device_nguid", wanted.nguid))
    if live is not None and live.enabled:
        if shown:
            raise ConflictError(
                f"subsystem {nqn} shows {live.device_path} as {live.uuid}, and not {wanted.device_path} as"
                f" {wanted.uuid}; detach its hosts first, for they would take it for another device"
            )
        operations.append(Write(f"{path}/enable", "0"))
    operations += changes
    if wanted.enabled:
        operations.append(Write(f"{path}/enable", "1"))
    return operations


def _key_operations(path: str, secrets: DhChapSecrets | None) -> list[Operation]:
    host_key, controller_key = f"{path}/{HOST_KEY}", f"{path}/{CONTROLLER_KEY}"
    if secrets is None:
        return [Write(controller_key, _NO_KEY), Write(host_key, _NO_KEY)]
    operations: list[Operation] = [SetMode(host_key, SECRET), SetMode(controller_key, SECRET)]
    used_hash = parse_dhchap_key(secrets.host_key).hash
    if used_hash is not None:
        operations.append(Write(f"{path}/{_HASH}", f"hmac({used_hash.algorithm})"))
    return [
        *operations,
        Write(controller_key, secrets.controller_key or _NO_KEY),
        Write(host_key, secrets.host_key),
    ]


def _read_namespace(configfs: Configfs, nqn: str) -> Namespace | None:
    path = namespace_path(nqn)
    enabled = configfs.read(f"{path}/enable")
    if enabled is None:
        return None
    device_path = configfs.read(f"{path}/device_path") or ""
    return Namespace(
        device_path="" if device_path == _UNSET_PATH else device_path,
        uuid=_uuid_text(configfs.read(f"{path}/device_uuid")),
        nguid=_uuid_text(configfs.read(f"{path}/device_nguid")),
        enabled=enabled == "1",
    )


def _uuid_text(value: str | None) -> str:
    try:
        return str(uuid.UUID(value or ""))
    except ValueError:
        return ""


def _secrets(host_key: str | None, controller_key: str | None) -> DhChapSecrets | None:
    return DhChapSecrets(host_key=host_key, controller_key=controller_key or None) if host_key else None
