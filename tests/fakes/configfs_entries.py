"""The entries of nvmet's configfs: what each holds when it is made, and the errors of those that are not there."""

import errno
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

ThingT = TypeVar("ThingT")

KEY_FILES = {
    "dhchap_key": "",
    "dhchap_ctrl_key": "",
    "dhchap_hash": "hmac(sha256)",
    "dhchap_dhgroup": "null",
}


@dataclass(eq=False)
class Subsystem:
    attributes: dict[str, str] = field(
        default_factory=lambda: {
            "attr_model": "Linux",
            "attr_serial": os.urandom(10).hex(),
            "attr_qid_max": "128",
            "attr_allow_any_host": "0",
        }
    )
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    allowed: set[str] = field(default_factory=set)
    discovered: bool = False
    size: int = 0
    """Of the namespace, as hosts see it."""


@dataclass(eq=False)
class Port:
    attributes: dict[str, str] = field(
        default_factory=lambda: {
            "addr_trtype": "",
            "addr_adrfam": "",
            "addr_traddr": "",
            "addr_trsvcid": "",
            "param_inline_data_size": "-1",
            "param_max_queue_size": "-1",
        }
    )
    subsystems: set[str] = field(default_factory=set)

    @property
    def address(self) -> tuple[str, ...]:
        return tuple(self.attributes[f"addr_{each}"] for each in ("trtype", "traddr", "trsvcid"))


def namespace() -> dict[str, str]:
    made = str(uuid.uuid4())
    return {
        "enable": "0",
        "device_path": "(null)",
        "device_uuid": made,
        "device_nguid": str(uuid.UUID(int=0)),
    }


def error(code: int, path: str) -> OSError:
    return OSError(code, os.strerror(code), path)


def line(attributes: dict[str, str], name: str, path: str) -> bytes:
    return f"{get(attributes, name, path)}\n".encode()


def get(things: Mapping[str, ThingT], name: str, path: str) -> ThingT:
    if name not in things:
        raise error(errno.ENOENT, path)
    return things[name]


def make(things: dict[str, ThingT], name: str, new: Callable[[], ThingT]) -> None:
    if name in things:
        raise error(errno.EEXIST, name)
    things[name] = new()


def pop(things: dict[str, ThingT], name: str, path: str) -> None:
    if things.pop(name, None) is None:
        raise error(errno.ENOENT, path)


def add(things: set[str], name: str, path: str) -> None:
    if name in things:
        raise error(errno.EEXIST, path)
    things.add(name)


def drop(things: set[str], name: str, path: str) -> None:
    if name not in things:
        raise error(errno.ENOENT, path)
    things.remove(name)
