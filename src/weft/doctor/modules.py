"""Modules of the kernel: what is there of one, and how it can be had."""

import shlex

from weft.doctor.finding import Finding, Section
from weft.doctor.machine import Machine
from weft.doctor.packages import install_modules
from weft.kernel import ModuleState


def module_finding(
    machine: Machine, section: Section, name: str, purpose: str, *, needed: bool, useful: bool = False
) -> Finding:
    """needed: the configuration asks for it. useful: weft does better with it. purpose: what it is."""
    what = f"{name} ({purpose})"
    match machine.kernel.module(name):
        case ModuleState.BUILT_IN:
            return section.ok(name, f"{what} is built into the kernel.")
        case ModuleState.LOADED:
            return section.ok(name, f"{what} is loaded.")
        case ModuleState.LOADABLE:
            return section.ok(name, f"{what} is there, and is loaded when it is needed.")
        case _:
            sentence = f"{what} cannot be had: {machine.kernel.why_not_module(name)}."
            command = how_to_have(machine, name)
            if needed:
                return section.missing(name, sentence, command)
            make = section.warn if useful else section.irrelevant
            return make(name, sentence, command)


def how_to_have(machine: Machine, name: str) -> str:
    """The command after which a module that is not available can be used."""
    kernel = machine.kernel
    if (forbidding := kernel.forbidden_by(name)) is not None:
        pattern = name.replace("-", "_").replace("_", "[-_]")
        path = shlex.quote(f"/{forbidding.relative_to(machine.root)}")
        return f"sed -i -E '/^[[:space:]]*install[[:space:]]+{pattern}[[:space:]]/d' {path}"
    if machine.in_container:
        return f"modprobe {name}  # on the machine that runs this container"
    if not kernel.modules_directory.is_dir() and machine.names("/lib/modules"):
        return "reboot  # the kernel was upgraded, and the running one's modules were removed"
    return install_modules(machine.family, kernel.release)
