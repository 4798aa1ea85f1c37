"""Who this host is to controllers, and whether that can be so. Reads what load_identity would read, makes nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from weft.doctor.case import Case
from weft.doctor.finding import HOST, Finding
from weft.doctor.machine import Machine
from weft.embedded.host.identity import SYSTEM_DIRECTORY
from weft.errors import InvalidValueError
from weft.names import check_id, check_nqn, host_nqn

_ABOUT: Final = "identity"
_UUID: Final = "/proc/sys/kernel/random/uuid"
_NIL: Final = "00000000-0000-0000-0000-000000000000"
_MAKE_NEW: Final = (
    f"mkdir -p {SYSTEM_DIRECTORY} && id=$(cat {_UUID}) && echo {host_nqn('$id')} > {SYSTEM_DIRECTORY}/hostnqn"
    f" && echo $id > {SYSTEM_DIRECTORY}/hostid"
)
_IMAGE_SECONDS: Final = 60.0
"""By how much the identity may be older than the machine's: both are made during one installation."""


@dataclass(frozen=True, slots=True)
class _Identity:
    nqn: str
    id: str
    place: str


def check_identity(case: Case) -> Iterator[Finding]:
    identity = _identity(case)
    if isinstance(identity, Finding):
        yield identity
    elif identity is None:
        yield HOST.ok(
            _ABOUT, "This host has no NQN yet; weft makes one, with its host id, at the first attach."
        )
    else:
        yield from _judge(case, identity)


def _identity(case: Case) -> _Identity | Finding | None:
    """The identity, or what is wrong with it, or None where there is none yet."""
    if case.config.host.nqn:
        return _Identity(case.config.host.nqn, case.config.host.id, "the configuration")
    nqn = case.machine.text(SYSTEM_DIRECTORY / "hostnqn") or ""
    identifier = case.machine.text(SYSTEM_DIRECTORY / "hostid") or ""
    if nqn and identifier:
        return _checked(nqn, identifier, str(SYSTEM_DIRECTORY))
    if nqn or identifier:
        there, absent = ("hostnqn", "hostid") if nqn else ("hostid", "hostnqn")
        return HOST.missing(
            _ABOUT,
            f"{SYSTEM_DIRECTORY / there} is there and {SYSTEM_DIRECTORY / absent} is not: they belong together.",
            _complete(nqn, identifier),
        )
    own = case.config.data_dir / "host-identity"
    lines = (case.machine.text(own) or "").splitlines()
    return _checked(lines[0], lines[1], str(own)) if len(lines) == 2 else None


def _complete(nqn: str, identifier: str) -> str:
    """The missing half: of the same UUID where that can be seen."""
    if identifier:
        return (
            f"echo {host_nqn(identifier)} > {SYSTEM_DIRECTORY}/hostnqn" if _is_id(identifier) else _MAKE_NEW
        )
    in_nqn = nqn.rpartition(":uuid:")[2].lower()
    return (
        f"echo {in_nqn} > {SYSTEM_DIRECTORY}/hostid"
        if _is_id(in_nqn)
        else f"cat {_UUID} > {SYSTEM_DIRECTORY}/hostid"
    )


def _checked(nqn: str, identifier: str, place: str) -> _Identity | Finding:
    identifier = identifier.lower()
    try:
        check_nqn("hostnqn", nqn)
        if not _is_id(identifier):
            raise InvalidValueError("hostid", f"{identifier!r} is not a UUID that can be a host's")
    except InvalidValueError as error:
        return HOST.missing(_ABOUT, f"The identity in {place} is damaged: {error}.", _MAKE_NEW)
    return _Identity(nqn, identifier, place)


def _is_id(value: str) -> bool:
    try:
        return check_id("hostid", value) != _NIL
    except InvalidValueError:
        return False


def _judge(case: Case, identity: _Identity) -> Iterator[Finding]:
    held = _held_by_kernel(case.machine)
    for controller, nqn, identifier in held:
        if (nqn == identity.nqn) != (identifier == identity.id):
            yield HOST.missing(
                _ABOUT,
                f"The controller {controller} was connected as {nqn} with the host id {identifier}, and {identity.place} "
                f"has {identity.nqn} with {identity.id}: with half of it equal, the kernel refuses to connect.",
                _put_back(nqn, identifier)
                if identity.place == str(SYSTEM_DIRECTORY)
                else "${EDITOR:-vi} /etc/weft/weft.toml  # host.nqn and host.id as the controller has them",
            )
            return
    if _may_be_cloned(case.machine, identity):
        yield HOST.warn(
            _ABOUT,
            f"{identity.place} is older than this machine's id: other machines made from the same image may have the "
            f"same {identity.nqn}, and a host is let in by that name alone. Nothing may be attached while it is changed.",
            _MAKE_NEW,
        )
        return
    yield HOST.ok(_ABOUT, f"This host is {identity.nqn}, by {identity.place}.")


def _put_back(nqn: str, identifier: str) -> str:
    return f"echo {nqn} > {SYSTEM_DIRECTORY}/hostnqn && echo {identifier} > {SYSTEM_DIRECTORY}/hostid"


def _held_by_kernel(machine: Machine) -> Iterator[tuple[str, str, str]]:
    """Of each controller that is reached by a fabric: its name, and whom it was connected as."""
    for name in machine.names("/sys/class/nvme"):
        directory = Path("/sys/class/nvme") / name
        nqn, identifier = machine.text(directory / "hostnqn"), machine.text(directory / "hostid")
        if nqn and identifier:
            yield name, nqn, identifier.lower()


def _may_be_cloned(machine: Machine, identity: _Identity) -> bool:
    """The id of a machine is made anew when an image first boots, machine-id(5); the identity is not."""
    if identity.place != str(SYSTEM_DIRECTORY):
        return False
    made, born = machine.status(SYSTEM_DIRECTORY / "hostid"), machine.status("/etc/machine-id")
    return made is not None and born is not None and made.st_mtime + _IMAGE_SECONDS < born.st_mtime
