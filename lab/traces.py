"""What weft has made in the kernels and in LVM, a line for each thing; where weft has ended everything, nothing."""

from collections.abc import Sequence
from typing import Final

from lab.vm import Vm
from lab.world import VOLUME_GROUP

_SECONDS: Final = 120.0

_TARGET: Final = r"""
shopt -s nullglob
cd /sys/kernel/config/nvmet 2>/dev/null && printf '%s\n' subsystems/* ports/* hosts/* | sed '/^$/d'
nft list tables | sed 's/^/nft: /'
"""

# Devices as the kernel and as udev show them: either may outlive the other.
_HOST: Final = r"""
shopt -s nullglob
for each in /sys/class/nvme/* /sys/class/nvme-subsystem/* /sys/class/block/nvme* /dev/nvme[0-9]* \
    /dev/disk/by-id/nvme-* /run/weft/attached/*.connection
do
    echo "$each"
done
"""

_VOLUMES: Final = f"""
lvs --all --noheadings --options lv_name {VOLUME_GROUP} | tr -d ' []' | grep '^weft' | sort || true
dmsetup ls | sed -n 's/^{VOLUME_GROUP}-\\(weft[^\\t]*\\)\\t.*/dm: \\1/p'
"""


def exported_by(node: Vm) -> Sequence[str]:
    """What is in nvmet's configfs, and nftables' tables."""
    return node.run(_TARGET, _SECONDS).stdout.splitlines()


def attached_to(host: Vm) -> Sequence[str]:
    """NVMe controllers, subsystems and devices, and weft's records of them."""
    return host.run(_HOST, _SECONDS).stdout.splitlines()


def volumes_of(node: Vm) -> Sequence[str]:
    """weft's logical volumes, hidden ones too, and their device-mapper devices."""
    return node.run(_VOLUMES, _SECONDS).stdout.splitlines()
