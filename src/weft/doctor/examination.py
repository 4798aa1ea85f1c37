"""All checks, one after the other, each with a deadline, on one machine."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from weft.config import Config
from weft.doctor import general, host, identity, pools, portals, target
from weft.doctor.case import Case
from weft.doctor.finding import Finding, Part, Report, Section
from weft.doctor.machine import Machine
from weft.errors import WeftError

Check = Callable[[Case], Iterable[Finding]]

CHECK_SECONDS: Final = 30.0

_CHECKS: Final[tuple[tuple[Part, str, Check], ...]] = (
    (Part.MACHINE, "configuration", general.check_configuration),
    (Part.MACHINE, "user", general.check_user),
    (Part.MACHINE, "directories", general.check_directories),
    (Part.MACHINE, "clock", general.check_clock),
    (Part.MACHINE, "RDMA", general.check_rdma),
    (Part.NODE, "daemon", general.check_daemon),
    (Part.NODE, "API", portals.check_api),
    (Part.NODE, "target", target.check_target),
    (Part.NODE, "modules", target.check_target_modules),
    (Part.NODE, "configfs", target.check_configfs),
    (Part.NODE, "in-band authentication", target.check_target_authentication),
    (Part.NODE, "portals", portals.check_portals),
    (Part.NODE, "firewall", portals.check_firewall),
    (Part.NODE, "pools", pools.check_pools),
    (Part.HOST, "login", host.check_login),
    (Part.HOST, "connector", host.check_connector),
    (Part.HOST, "modules", host.check_host_modules),
    (Part.HOST, "/dev/nvme-fabrics", host.check_fabrics_device),
    (Part.HOST, "native multipath", host.check_multipath),
    (Part.HOST, "in-band authentication", host.check_host_authentication),
    (Part.HOST, "identity", identity.check_identity),
    (Part.HOST, "FUSE", host.check_fuse),
)


def examine(
    machine: Machine,
    config: Config,
    *,
    config_error: str = "",
    parts: Iterable[Part] = tuple(Part),
    seconds: float = CHECK_SECONDS,
) -> Report:
    """What works on the machine and what is missing for what the configuration asks for. Changes nothing.

    config_error: why the configuration was refused, where config is that of the defaults. No check takes longer than
    seconds; what could not be looked at within them, or for another reason, is a finding that says so.
    """
    case = Case(machine=machine, config=config, config_error=config_error)
    wanted = frozenset({*parts, Part.MACHINE})
    findings: list[Finding] = []
    for part, about, check in _CHECKS:
        if part in wanted:
            findings += _within(seconds, Section(part), about, check, case)
    return Report(findings=tuple(findings), config_error=config_error)


def _within(seconds: float, section: Section, about: str, check: Check, case: Case) -> list[Finding]:
    """The findings of a check; those that it had made, and that it did not end, when its time is over.

    A read of a dead disk or mount cannot be broken off: its thread is left behind, and ends with the process.
    """
    found: list[Finding] = []
    bugs: list[Exception] = []

    def look() -> None:
        try:
            found.extend(check(case))
        except WeftError as error:
            found.append(section.unknown(about, f"This could not be looked at: {error}.", _as_root(case)))
        except Exception as error:  # noqa: BLE001 -- raised again in the thread that waits
            bugs.append(error)

    thread = threading.Thread(target=look, name=f"doctor: {about}", daemon=True)
    thread.start()
    thread.join(seconds)
    if bugs:
        raise bugs[0]
    if thread.is_alive():
        sentence = (
            f"This could not be looked at within {seconds:g} s: a disk, a mount or a program does not answer."
        )
        return [*found, section.unknown(about, sentence)]
    return _without_sudo(found) if case.machine.is_root else found


def _as_root(case: Case) -> str:
    return "" if case.machine.is_root else "sudo weft doctor"


def _without_sudo(findings: Iterable[Finding]) -> list[Finding]:
    return [replace(each, command=each.command.removeprefix("sudo ")) for each in findings]
