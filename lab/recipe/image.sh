#!/usr/bin/env bash
# The VMs' root disk:  image.sh RECIPE SYSTEM KERNEL WHEELS REQUIREMENTS
# makes disk.raw, initrd, and the key ssh_key in the current folder from the folders that system.sh and kernel.sh
# filled. weft's dependencies (never weft) are installed from WHEELS into /opt/weft as REQUIREMENTS pins them.
set -euo pipefail
recipe=$1 system=$2 kernel=$3 wheels=$4 requirements=$5

root=$PWD/root
release=$(basename "$kernel"/modules/*)
mkdir root
tar --extract --numeric-owner --preserve-permissions --file "$system/system.tar" --directory root
cp --recursive --preserve=mode,timestamps "$kernel/modules" root/usr/lib/
chroot root depmod "$release"

# --- what every VM is
cp --recursive --no-preserve=ownership "$recipe/files/." root/
echo vm >root/etc/hostname
: >root/etc/machine-id
rm -f root/etc/nvme/hostnqn root/etc/nvme/hostid root/etc/iscsi/initiatorname.iscsi root/etc/ssh/ssh_host_*
ssh-keygen -q -t ed25519 -N '' -C lab -f root/etc/ssh/ssh_host_ed25519_key
ssh-keygen -q -t ed25519 -N '' -C lab -f ssh_key
install -d -m 700 root/root/.ssh
install -m 600 ssh_key.pub root/root/.ssh/authorized_keys

# --- services: only what a storage node or a host needs, so that a cold boot stays short
in_root() { chroot root "$@" >/dev/null 2>&1; }
in_root systemctl set-default multi-user.target
in_root systemctl enable ssh lab-network lab-measure
# Not at work in these VMs, or at work only where somebody logs in or updates.
in_root systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap \
    fstrim.timer systemd-timesyncd systemd-networkd systemd-networkd-wait-online systemd-network-generator \
    systemd-update-utmp systemd-update-utmp-runlevel systemd-pstore systemd-binfmt systemd-sysusers \
    systemd-random-seed systemd-user-sessions systemd-logind systemd-remount-fs systemd-journal-flush \
    systemd-tmpfiles-clean.timer getty@tty1 serial-getty@ttyS0 dev-hugepages.mount dev-mqueue.mount \
    sys-kernel-tracing.mount modprobe@drm modprobe@loop modprobe@dm_mod proc-sys-fs-binfmt_misc.automount
# Not started by themselves: whoever needs one starts it. lvm2-monitor is left on: a dmeventd that watches a thin pool
# ends only when that tells it to, and holds up the shutdown for 90 s otherwise.
in_root systemctl disable multipathd multipathd.socket nvmf-autoconnect nvmefc-boot-connections \
    rtslib-fb-targetctl iscsid iscsid.socket open-iscsi blk-availability
rm -f root/usr/lib/modules-load.d/* root/etc/modules-load.d/*

# --- weft's dependencies
mkdir root/wheels
cp "$wheels"/*.whl root/wheels/
cp "$requirements" root/wheels/requirements.txt
chroot root python3 -m venv /opt/weft
chroot root /opt/weft/bin/python -m pip install --quiet --disable-pip-version-check --no-index --find-links /wheels \
    --require-hashes --requirement /wheels/requirements.txt
rm -r root/wheels
ln -s /opt/weft/bin/weft root/usr/local/bin/weft

# --- the initrd loads what the root disk needs and hands over to systemd
mkdir -p initrd.d/{bin,dev,proc,new,modules}
cp "$kernel/busybox" initrd.d/bin/
install -m 755 "$recipe/initrd-init" initrd.d/init
chroot root modprobe --set-version "$release" --show-depends --all virtio_pci virtio_blk crc32c_generic ext4 |
    awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r module; do
    cp "root$module" initrd.d/modules/
    basename "$module"
done >initrd.d/modules/order
(cd initrd.d && find . | "$kernel/busybox" cpio -o -H newc 2>/dev/null) | gzip -1 >initrd
rm -r initrd.d

truncate --size 4G disk.raw
mke2fs -q -t ext4 -E lazy_itable_init=0,root_owner=0:0 -d root disk.raw
rm -r root
