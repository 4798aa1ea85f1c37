"""The storage node's target: which one serves, and what the kernel's needs."""

from collections.abc import Iterator

from weft.config import TargetKind
from weft.doctor.case import Case
from weft.doctor.finding import NODE, Finding
from weft.doctor.modules import module_finding
from weft.doctor.packages import Family
from weft.model import Transport

_TRANSPORT_MODULES = {
    Transport.TCP: ("nvmet-tcp", "the kernel's target over TCP"),
    Transport.RDMA: ("nvmet-rdma", "the kernel's target over RDMA"),
    Transport.LOOP: ("nvme-loop", "the kernel's target for the node itself, without a network"),
}


def check_target(case: Case) -> Iterator[Finding]:
    """Which target serves, and why."""
    kind = f"target.kind = {case.target_kind.value}"
    if case.target_kind is TargetKind.EMBEDDED:
        yield NODE.ok("target", f"The embedded target serves here ({kind}).")
    elif case.why_not_nvmet is None:
        yield NODE.ok("target", f"The kernel's target (nvmet) serves here ({kind}).")
    elif not case.needs_kernel_target:
        yield NODE.ok(
            "target", f"The embedded target serves here ({kind}), for nvmet cannot: {case.why_not_nvmet}."
        )
    else:
        because = f"{kind} asks for it"
        if case.target_kind is TargetKind.AUTO:
            because = case.beyond_embedded_target
        sentence = f"nvmet cannot be used: {case.why_not_nvmet}; and {because}."
        if case.machine.is_root:
            yield NODE.missing("target", sentence)
        else:
            yield NODE.unknown("target", sentence, "sudo weft doctor --node")


def check_target_modules(case: Case) -> Iterator[Finding]:
    needed = case.needs_kernel_target
    yield module_finding(case.machine, NODE, "nvmet", "the kernel's target", needed=needed)
    for transport, (module, purpose) in _TRANSPORT_MODULES.items():
        wanted = needed and transport in case.transports
        yield module_finding(case.machine, NODE, module, purpose, needed=wanted)


def check_configfs(case: Case) -> Iterator[Finding]:
    if case.machine.mounted("configfs"):
        yield NODE.ok("configfs", "configfs is mounted; nvmet is configured there.")
        return
    sentence = "configfs, in which nvmet is configured, is not mounted"
    command = "modprobe configfs && mount -t configfs configfs /sys/kernel/config"
    why_not = case.machine.kernel.why_not_module("configfs")
    if not case.uses_kernel_target:
        yield NODE.irrelevant("configfs", f"{sentence}; the embedded target does without it.")
    elif why_not is None:
        yield NODE.ok("configfs", f"{sentence} yet; weft mounts it when it starts.")
    else:
        yield NODE.missing("configfs", f"{sentence}, and cannot be: {why_not}.", command)


def check_target_authentication(case: Case) -> Iterator[Finding]:
    about = "in-band authentication"
    if not case.uses_kernel_target:
        return
    match case.machine.kernel.target_authenticates():
        case True:
            yield NODE.ok(about, "nvmet can ask hosts for a key (DH-HMAC-CHAP).")
        case False:
            yield NODE.warn(
                about,
                "This kernel's nvmet cannot ask hosts for a key (CONFIG_NVME_TARGET_AUTH): only the list of host "
                "NQNs keeps others out.",
                _newer_kernel(case),
            )
        case None:
            yield NODE.warn(
                about, "Nothing tells whether nvmet can ask hosts for a key until the first host is made."
            )


def _newer_kernel(case: Case) -> str:
    """Debian 12 comes with 6.1, whose nvmet has it not, and offers 6.12 beside it."""
    release = case.machine.text("/etc/os-release") or ""
    if case.machine.family is Family.DEBIAN and 'VERSION_ID="12"' in release:
        return 'apt-get install --yes "linux-image-6.12-$(dpkg --print-architecture)" && reboot'
    return ""
