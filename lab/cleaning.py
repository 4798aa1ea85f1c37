"""What a test may have left in a VM, and how it is taken away."""

from collections.abc import Sequence

from lab.errors import LabError
from lab.vm import Vm

_CLEAN_SECONDS = 180.0

_LEFTOVERS = r"""
shopt -s nullglob
for path in /sys/kernel/config/nvmet/{subsystems,ports,hosts}/*; do echo "nvmet: ${path#/sys/kernel/config/nvmet/}"; done
for path in /sys/class/nvme/nvme*; do echo "NVMe controller: ${path##*/} $(cat "$path/subsysnqn" 2>/dev/null)"; done
for path in /sys/kernel/config/target/iscsi/iqn.*; do echo "iSCSI target: ${path##*/}"; done
for path in /sys/class/iscsi_session/*; do echo "iSCSI session: $(cat "$path/targetname")"; done
vgs --noheadings --options vg_name 2>/dev/null | sed 's/^ */volume group: /'
dmsetup ls 2>/dev/null | sed -n 's/^\([^\t]*\)\t.*/device mapper: \1/p'
for disk in /dev/disk/by-id/virtio-disk?; do
    wipefs --noheadings --output TYPE "$disk" | sort -u | sed "s/^/signature on ${disk##*-}: /"
done
for path in /sys/class/infiniband/*; do echo "RDMA device: ${path##*/}"; done
nft list tables 2>/dev/null | sed 's/^/nft: /'
findmnt --noheadings --raw --output TARGET,SOURCE | awk '$2 ~ "^/dev/" && $2 != "/dev/vda" || $2 ~ "^weft" { print "mount: " $1 }'
for path in /etc/weft /var/lib/weft /etc/nvme/hostnqn /etc/nvme/hostid; do [ ! -e "$path" ] || echo "file: $path"; done
pgrep --list-full --full '^/opt/weft/bin/' | sed 's/^/process: /' || true
"""

# Users before what they use: processes, mounts, the host's side, the target's side, volume groups, disks.
_CLEAN = r"""
shopt -s nullglob
systemctl --quiet stop 'weft*' 2>/dev/null || true
pkill --full --signal TERM '^/opt/weft/bin/' && sleep 2
pkill --full --signal KILL '^/opt/weft/bin/'
findmnt --noheadings --raw --output TARGET,SOURCE | awk '$2 ~ "^/dev/" && $2 != "/dev/vda" || $2 ~ "^weft" { print $1 }' |
    tac | while read -r point; do umount --force --lazy "$point"; done
for path in /sys/class/nvme/nvme*; do echo 1 >"$path/delete_controller"; done
[ -z "$(echo /sys/class/iscsi_session/*)" ] || iscsiadm --mode node --logoutall=all
cd /sys/kernel/config/nvmet 2>/dev/null && {
    rm -f ports/*/subsystems/* subsystems/*/allowed_hosts/*
    rmdir ports/*/referrals/* ports/*/ana_groups/[!1]* 2>/dev/null
    rmdir ports/* subsystems/*/namespaces/* subsystems/* hosts/*
    cd /
}
[ ! -e /sys/kernel/config/target/iscsi ] || targetcli clearconfig confirm=true
vgs --noheadings --options vg_name 2>/dev/null | while read -r group; do vgremove --yes --force --force "$group"; done
dmsetup remove_all --force
losetup --detach-all
for disk in /dev/disk/by-id/virtio-disk?; do wipefs --all --force --quiet "$disk"; blkdiscard --force "$disk"; done
nft flush ruleset
rm -rf /etc/weft /var/lib/weft /run/weft /etc/nvme/hostnqn /etc/nvme/hostid /etc/lab/delay /etc/lab/rdma /etc/lvm/devices
lab-network
sync
exit 0
"""


def leftovers(vm: Vm) -> Sequence[str]:
    """All that distinguishes the VM from a fresh one: exports, connections, volumes, mounts, processes; a line each."""
    return vm.run(_LEFTOVERS, _CLEAN_SECONDS).stdout.splitlines()


def clean(vm: Vm) -> None:
    """Take away what `leftovers` names and bring the VM's network back. Raises LabError with what cannot be removed.

    Modules stay loaded. A VM that is dead or does not answer is booted from its disks first.
    """
    for wire in vm.wires:
        vm.restore(wire)
    if not vm.is_running:
        vm.start()
    for wire in vm.wires:
        vm.plug(wire)
    if not leftovers(vm):
        return
    said = vm.run(["bash", "--norc", "-c", _CLEAN], _CLEAN_SECONDS, check=False)
    if left := leftovers(vm):
        raise LabError(f"{vm.name} cannot be cleaned: {'; '.join(left)}\n{said.stdout}{said.stderr}")
