"""What holds for the machine whatever it does: the configuration, weft's directories, the clock, RDMA links."""

import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from weft.doctor.case import Case
from weft.doctor.finding import MACHINE, NODE, Finding
from weft.doctor.packages import Need, install
from weft.doctor.soft_rdma import interface_with, make_link
from weft.model import Transport
from weft.rdma import RdmaLink, RdmaTransport


def check_configuration(case: Case) -> Iterator[Finding]:
    source = case.config.source
    if case.config_error:
        named = shlex.quote(str(source)) if source is not None else ""
        yield MACHINE.missing(
            "configuration",
            f"The configuration is refused, and what follows goes by the defaults: {case.config_error}",
            f"${{EDITOR:-vi}} {named} && weft serve --check --config {named}" if named else "",
        )
    elif source is not None:
        yield MACHINE.ok("configuration", f"The configuration {source} is valid.")
    else:
        yield MACHINE.ok("configuration", "There is no configuration file; the defaults count.")


def check_user(case: Case) -> Iterator[Finding]:
    if case.machine.is_root:
        yield MACHINE.ok(
            "user", "This is root, which the kernel's target, the kernel's host and LVM ask for."
        )
    elif case.needs_kernel_target or case.needs_kernel_host:
        yield MACHINE.unknown(
            "user",
            "This user is not root, which the configuration asks for (the kernel's target or host, LVM): not "
            "everything can be looked at.",
            "sudo weft doctor",
        )
    else:
        yield MACHINE.irrelevant(
            "user", "This user is not root; the embedded target and host do not need it, the kernel's do."
        )


def check_directories(case: Case) -> Iterator[Finding]:
    config = case.config
    for what, path in {"data_dir": config.data_dir, "runtime_dir": config.runtime_dir}.items():
        yield _directory(case, what, path)
    for path in (config.database, config.token_file, config.certificate_file, config.login_file):
        found = case.machine.status(path)
        if found is not None and stat.S_IMODE(found.st_mode) & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            yield MACHINE.missing(
                path.name,
                f"Others may read {path} (mode {mode:04o}), and it is for its owner alone.",
                f"chmod 600 {shlex.quote(str(path))}",
            )


def _directory(case: Case, what: str, path: Path) -> Finding:
    machine, quoted = case.machine, shlex.quote(str(path))
    found = machine.status(path)
    if found is None:
        return MACHINE.ok(what, f"{path} is not there yet; weft makes it when it first needs it.")
    if not stat.S_ISDIR(found.st_mode):
        return MACHINE.missing(what, f"{path} is not a directory.", f"mv {quoted} {quoted}.old")
    if found.st_uid != machine.user_id:
        return MACHINE.unknown(
            what,
            f"{path} belongs to another user (id {found.st_uid}): weft runs as that user, or needs another {what}.",
            "sudo weft doctor" if found.st_uid == 0 else f"sudo -u '#{found.st_uid}' weft doctor",
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return MACHINE.missing(
            what,
            f"Others may write to {path} (mode {mode:04o}), so weft does not start.",
            f"chmod go-w {quoted}",
        )
    return MACHINE.ok(what, f"{path} is there, for its owner alone to write to.")


def check_clock(case: Case) -> Iterator[Finding]:
    if case.machine.clock_is_set() is not False:
        yield MACHINE.ok("clock", "The clock is kept right, as far as the kernel was told.")
        return
    how = "timedatectl set-ntp true"
    family = case.machine.family
    if not any(case.machine.exists(f"/usr/lib/systemd/system/{each}.service") for each in _CLOCKS):
        how = f"{install(family, Need.CLOCK)} && {how}"
    yield MACHINE.warn(
        "clock",
        "Nothing sets this machine's clock, by which certificates and tokens expire and logs are compared.",
        "" if case.machine.in_container else how,
    )


_CLOCKS = ("systemd-timesyncd", "chronyd", "chrony", "ntpsec", "ntpd")


def check_rdma(case: Case) -> Iterator[Finding]:
    """RDMA serves both sides; which address lacks a link is said of the portals."""
    machine = case.machine
    links = machine.links
    wanted = Transport.RDMA in case.transports or case.config.host.transport == Transport.RDMA
    for link in links:
        yield _link(case, link)
    if links:
        return
    sentence = "This machine has no RDMA link: no RDMA hardware with its driver, and no soft one (rxe, siw)."
    command = make_link(machine, _interface_of_portal(case))
    if wanted:
        yield MACHINE.missing("RDMA", sentence, command)
    else:
        yield MACHINE.irrelevant("RDMA", f"{sentence} The configuration does not ask for one.", command)


def _interface_of_portal(case: Case) -> str:
    """Where the first portal over RDMA is to be."""
    wanted = next((each.address for each in case.config.portals() if each.transport is Transport.RDMA), "")
    addresses = case.machine.addresses()
    return (wanted and interface_with(wanted, addresses)) or ""


def _link(case: Case, link: RdmaLink) -> Finding:
    addresses = ", ".join(str(each) for each in link.addresses(case.machine.addresses()))
    how = f"{'soft ' if link.software else ''}{_transport(link)}"
    on = f" on {', '.join(link.interfaces)}" if link.interfaces else ""
    about = f"RDMA {link}"
    if not link.active:
        up = " && ".join(f"ip link set {each} up" for each in link.interfaces)
        return MACHINE.warn(about, f"The RDMA link {link} ({how}{on}) is {link.state}, not ACTIVE.", up)
    if not addresses:
        return MACHINE.warn(
            about,
            f"The RDMA link {link} ({how}{on}) is active, but has no IP address, which NVMe over RDMA needs.",
            f"ip address add 192.0.2.1/24 dev {link.interfaces[0]}  # with an address of your network"
            if link.interfaces
            else "",
        )
    return MACHINE.ok(about, f"The RDMA link {link} is active: {how}{on}, {addresses}.")


def _transport(link: RdmaLink) -> str:
    if link.transport is RdmaTransport.ROCE and link.gid_types:
        return " and ".join(sorted(link.gid_types))
    return link.transport.value


def check_daemon(case: Case) -> Iterator[Finding]:
    why_not = case.machine.why_no_daemon(case.config)
    if why_not is None:
        yield NODE.ok("daemon", f"The control plane answers at {case.config.api_socket}.")
        return
    has_unit = any(case.machine.exists(f"{each}/weft.service") for each in _UNIT_DIRECTORIES)
    yield NODE.warn(
        "daemon",
        f"The control plane does not answer: {why_not}",
        "systemctl start weft" if has_unit and case.machine.is_root else "weft serve",
    )


_UNIT_DIRECTORIES = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
