"""How each family of distributions installs what is missing."""

import re
from enum import StrEnum
from typing import Final


class Family(StrEnum):
    """By the program that installs. Ubuntu is apart because its kernel's modules come in two packages."""

    DEBIAN = "apt"
    UBUNTU = "apt (Ubuntu)"
    FEDORA = "dnf"
    SUSE = "zypper"
    OTHER = "other"


class Need(StrEnum):
    """What packages are for."""

    LVM = "lvm2"
    THIN_TOOLS = "the tools for thin pools"
    FUSE = "FUSE 3"
    IPROUTE = "iproute2"
    CLOCK = "a program that sets the clock"


_INSTALL: Final = {
    Family.DEBIAN: "apt-get install --yes",
    Family.UBUNTU: "apt-get install --yes",
    Family.FEDORA: "dnf install --assumeyes",
    Family.SUSE: "zypper --non-interactive install",
}

_PACKAGES: Final[dict[Need, dict[Family, str]]] = {
    Need.LVM: {},
    Need.THIN_TOOLS: {
        Family.DEBIAN: "thin-provisioning-tools",
        Family.UBUNTU: "thin-provisioning-tools",
        Family.FEDORA: "device-mapper-persistent-data",
        Family.SUSE: "thin-provisioning-tools",
    },
    Need.FUSE: {
        Family.DEBIAN: "fuse3",
        Family.UBUNTU: "fuse3",
        Family.FEDORA: "fuse3 fuse3-libs",
        Family.SUSE: "fuse3 libfuse3-3",
    },
    Need.IPROUTE: {Family.FEDORA: "iproute"},
    Need.CLOCK: {
        Family.DEBIAN: "systemd-timesyncd",
        Family.UBUNTU: "systemd-timesyncd",
        Family.FEDORA: "chrony",
        Family.SUSE: "chrony",
    },
}

_FAMILIES: Final = (
    ("ubuntu", Family.UBUNTU),
    ("debian", Family.DEBIAN),
    ("fedora", Family.FEDORA),
    ("rhel", Family.FEDORA),
    ("centos", Family.FEDORA),
    ("suse", Family.SUSE),
    ("opensuse", Family.SUSE),
    ("sles", Family.SUSE),
)


def family_of(os_release: str) -> Family:
    """By ID and ID_LIKE of os-release(5)."""
    words = set()
    for key, value in re.findall(r"^(ID|ID_LIKE)=(.*)$", os_release, re.MULTILINE):
        del key
        words.update(value.strip("\"'").lower().split())
    return next((family for word, family in _FAMILIES if word in words), Family.OTHER)


def install(family: Family, need: Need) -> str:
    """The command that installs it; a hint for a person where the family is not known."""
    if family is Family.OTHER:
        return f"# install {need} as this distribution does"
    return f"{_INSTALL[family]} {_PACKAGES[need].get(family, need.value)}"


def install_modules(family: Family, release: str) -> str:
    """The command that installs those modules of the kernel that a small installation leaves out.

    Debian's usual kernel has all of them, its cloud kernel has not; so there it is another kernel, and a restart.
    """
    match family:
        case Family.DEBIAN:
            return f'{_INSTALL[family]} "linux-image-$(dpkg --print-architecture)" && reboot'
        case Family.UBUNTU:
            return f"{_INSTALL[family]} linux-modules-extra-{release}"
        case Family.FEDORA:
            return f"{_INSTALL[family]} kernel-modules-{release} kernel-modules-extra-{release}"
        case Family.SUSE:
            return f"{_INSTALL[family]} kernel-default && reboot"
        case Family.OTHER:
            return (
                "# install a kernel that has the module, as this distribution does, and restart the machine"
            )
