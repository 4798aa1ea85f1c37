"""The host: which connector attaches, and what it needs."""

from collections.abc import Iterator

from weft.config import ConnectorKind
from weft.doctor.case import Case
from weft.doctor.finding import HOST, Finding
from weft.doctor.modules import how_to_have, module_finding
from weft.doctor.packages import Need, install
from weft.kernel import ModuleState
from weft.login import load_login
from weft.model import Transport

_FABRICS = "/dev/nvme-fabrics"
_HOST_MODULES = ("nvme-tcp", "nvme-rdma", "nvme-loop", "nvme-fabrics", "nvme-core")


def check_connector(case: Case) -> Iterator[Finding]:
    """Which connector attaches, and why."""
    kind = f"host.connector = {case.connector_kind.value}"
    if case.connector_kind is ConnectorKind.EMBEDDED:
        yield HOST.ok("connector", f"Volumes are attached as files, by the embedded host ({kind}).")
    elif case.why_not_kernel is None:
        yield HOST.ok("connector", f"Volumes are attached as block devices, by the kernel ({kind}).")
    elif not case.needs_kernel_host:
        yield HOST.ok(
            "connector",
            f"Volumes are attached as files, by the embedded host ({kind}), for the kernel's cannot be used: "
            f"{case.why_not_kernel}.",
        )
    else:
        sentence = (
            f"The kernel's host cannot be used: {case.why_not_kernel}; and the configuration asks for it."
        )
        if case.machine.is_root:
            yield HOST.missing("connector", sentence)
        else:
            yield HOST.unknown("connector", sentence, "sudo weft doctor --host")


def check_login(case: Case) -> Iterator[Finding]:
    """Whether the node answers that this host was logged in to, if it was to one."""
    login = load_login(case.machine.at(case.config.login_file))
    if login is None:
        return
    why_not = case.machine.why_no_node(case.config)
    if why_not is None:
        yield HOST.ok("login", f"The node at {login.url} answers.")
    else:
        yield HOST.warn(
            "login", f"This host is logged in to {login.url}: {why_not}", f"weft login {login.url}"
        )


def check_host_modules(case: Case) -> Iterator[Finding]:
    machine, told, needed = case.machine, case.config.host.transport, case.needs_kernel_host
    yield module_finding(machine, HOST, "nvme-fabrics", "the kernel's host", needed=needed)
    yield module_finding(
        machine,
        HOST,
        "nvme-tcp",
        "the kernel's host over TCP",
        needed=needed and told in {"", Transport.TCP},
    )
    yield module_finding(
        machine,
        HOST,
        "nvme-rdma",
        "the kernel's host over RDMA",
        needed=needed and told == Transport.RDMA,
        useful=case.uses_kernel_host and not told and bool(machine.links),
    )


def check_fabrics_device(case: Case) -> Iterator[Finding]:
    machine = case.machine
    if machine.exists(_FABRICS):
        yield HOST.ok(_FABRICS, f"{_FABRICS} is there.")
        return
    state = machine.kernel.module("nvme-fabrics")
    if state is ModuleState.LOADABLE:
        yield HOST.ok(_FABRICS, f"{_FABRICS} is there once nvme-fabrics is loaded.")
    elif state.active:
        sentence = f"nvme-fabrics is in the kernel, and there is no {_FABRICS}"
        number = "$(sed s/:/' '/ /sys/class/misc/nvme-fabrics/dev)"
        command = f"mknod --mode 600 {_FABRICS} c {number}"
        if case.uses_kernel_host:
            yield HOST.missing(_FABRICS, f"{sentence}; a container must be given it.", command)
        else:
            yield HOST.irrelevant(_FABRICS, f"{sentence}; the embedded host does without it.")


def check_multipath(case: Case) -> Iterator[Finding]:
    about = "native multipath"
    if not case.uses_kernel_host:
        return
    kernel = case.machine.kernel
    if not kernel.module("nvme-core").available:
        return
    if not kernel.module("nvme-core").active:
        if case.machine.kernel.option("CONFIG_NVME_MULTIPATH") == "n":
            yield _without_multipath(case)
        elif (setting := _setting(case)) is not None:
            yield HOST.missing(about, f"{setting} turns native multipath off.", _turn_on(case, setting))
        else:
            yield HOST.ok(
                about, "nvme-core is not loaded yet; it has native multipath on unless told otherwise."
            )
        return
    match kernel.parameter("nvme-core", "multipath"):
        case "Y":
            yield HOST.ok(about, "Native multipath is on: the portals of a volume are paths of one device.")
        case None:
            yield _without_multipath(case)
        case _:
            yield HOST.missing(
                about,
                "Native multipath is off: each portal of a volume would be a device of its own, with the same data.",
                _turn_on(case, _setting(case)),
            )


def _without_multipath(case: Case) -> Finding:
    release = case.machine.kernel.release
    return HOST.warn(
        "native multipath",
        f"The kernel {release} was built without it (CONFIG_NVME_MULTIPATH): a volume can have one path only.",
    )


def _setting(case: Case) -> str | None:
    """The file of modprobe's configuration that turns it off."""
    for directory in ("/etc/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"):
        for name in case.machine.names(directory):
            for line in (case.machine.text(f"{directory}/{name}") or "").splitlines():
                words = line.replace("-", "_").split()
                if words[:2] == ["options", "nvme_core"] and {"multipath=N", "multipath=0"} & set(words):
                    return f"{directory}/{name}"
    return None


def _turn_on(case: Case, setting: str | None) -> str:
    """A parameter is read when the module is loaded; while a disk of the machine depends on it that is at boot."""
    machine = case.machine
    file = "/etc/modprobe.d/zz-weft-multipath.conf"
    command = f"echo options nvme_core multipath=Y > {file}"
    if setting is not None:
        command = f"sed -i -E '/^options +nvme[-_]core/s/multipath=[N0]/multipath=Y/' {setting}"
    if "nvme_core.multipath=" in (machine.text("/proc/cmdline") or ""):
        return f"{command} && reboot  # after taking nvme_core.multipath off the kernel's command line"
    loaded = [each for each in _HOST_MODULES if machine.kernel.module(each) is ModuleState.LOADED]
    if not loaded:
        return command
    if machine.names("/sys/class/nvme") or machine.kernel.module("nvmet").active or _TOP not in loaded:
        return f"{command} && reboot"
    return f"{command} && modprobe --remove {' '.join(loaded)} && modprobe nvme-core"


_TOP = "nvme-core"


def check_host_authentication(case: Case) -> Iterator[Finding]:
    about = "in-band authentication"
    if not case.uses_kernel_host:
        return
    match case.machine.kernel.host_authenticates():
        case True:
            yield HOST.ok(about, "The kernel's host can show a key (DH-HMAC-CHAP).")
        case False:
            yield HOST.warn(
                about,
                "This kernel's host cannot show a key (CONFIG_NVME_HOST_AUTH): volumes that ask for one are refused.",
            )
        case None:
            yield HOST.warn(about, "Nothing tells whether the kernel's host can show a key (DH-HMAC-CHAP).")


def check_fuse(case: Case) -> Iterator[Finding]:
    why_not = case.machine.why_not_fuse()
    if why_not is None:
        yield HOST.ok("FUSE", "A volume can be shown as a file: libfuse and /dev/fuse can be used.")
        return
    sentence = f"A volume cannot be shown as a file: {why_not}."
    command = _mend_fuse(case)
    if case.uses_kernel_host:
        yield HOST.irrelevant("FUSE", f"{sentence} The kernel's host does without it.", command)
    else:
        yield HOST.missing("FUSE", sentence, command)


def _mend_fuse(case: Case) -> str:
    machine = case.machine
    if not machine.exists("/dev/fuse"):
        if machine.in_container:
            return "# start the container with the device: --device /dev/fuse --cap-add SYS_ADMIN"
        if machine.kernel.module("fuse").available:
            return "modprobe fuse"
        return how_to_have(machine, "fuse")
    return install(machine.family, Need.FUSE)
