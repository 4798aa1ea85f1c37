"""The steps of the lab's demo, in the order in which they are told."""

from collections.abc import Sequence
from pathlib import Path

from lab import Lab, Rdma, Vm, leftovers
from lab.io import VerifyingFio, digest, ext4_content, make_ext4, wait_until
from lab.world import Host, NodeSetup, StorageNode
from stage import Stage
from weft.model import GIB
from weft.names import host_nqn, new_id

_TCP = ("10.77.0.1:4420", "[fd77::1]:4420")
_RDMA = ("rdma://10.77.0.1:4420", "rdma://10.77.1.1:4420")  # RoCE on wire0, iWARP on wire1
_FILLED_MIB = 32
_ATTEMPTS = 5
_COMPARED_MIB = 64


class LabStory:
    """One telling on a storage node and a host: run() goes through every step and raises where one does not hold."""

    def __init__(self, stage: Stage, lab: Lab) -> None:
        self._stage = stage
        self._machines: tuple[Vm, Vm] = (lab["node"], lab["host1"])
        self._lab = lab
        self._node = StorageNode(lab["node"], NodeSetup(portals=(*_TCP, *_RDMA)))
        self._host = Host(lab["host1"])
        self._before: dict[str, Sequence[str]] = {}

    def run(self) -> None:
        try:
            self._set_up()
            tcp = self._use("over-tcp", "NVMe/TCP, by IPv4 and IPv6", transport="tcp")
            rdma = self._use("over-rdma", "NVMe/RDMA, by RoCE (rxe) and iWARP (siw)", transport="rdma")
            self._refuse_a_stranger("over-tcp")
            self._extend("over-rdma", rdma)
            self._reboot_the_node({"over-tcp": tcp, "over-rdma": rdma})
            self._take_away({"over-tcp": tcp, "over-rdma": rdma})
            self._nothing_left()
        finally:
            self._node.close()

    def _set_up(self) -> None:
        node, host = self._machines
        with self._stage.step("install weft on both machines, from a wheel of this checkout") as step:
            self._lab.everywhere(Vm.install_weft)
            step.result = f"{host.run(['weft', '--version']).stdout.strip()} on {self._kernel(host)}"
        with self._stage.step("give both machines RDMA: RoCE on one wire, iWARP on the other") as step:
            for vm in self._machines:
                vm.rdma(Rdma.RXE, "wire0")
                vm.rdma(Rdma.SIW, "wire1")
            links = [line.split()[1].split("/")[0] for line in node.run(["rdma", "link"]).stdout.splitlines()]
            step.result = ", ".join(links)
        self._before = {vm.name: leftovers(vm) for vm in self._machines}
        with self._stage.step("make a thin pool, and start weft on the storage node") as step:
            self._node.start()
            step.result = f"volume group weft on {node.disks[0].rsplit('/', 1)[-1]}, portals {', '.join(self._node.setup.portals)}"
        with self._stage.step("log in from the host, by a token that opens no more than it needs") as step:
            self._host.log_in(self._node)
            step.result = f"{self._node.url}, TLS by fingerprint"

    def _use(self, name: str, how: str, *, transport: str) -> str:
        """A volume made, attached, used, and compared with its logical volume; returns its device."""
        with self._stage.step(f"make a logical volume of 1 GiB: {name}") as step:
            path = self._node.create(name).path
            step.result = path
        with self._stage.step(f"export it by nvmet and attach it over {how}") as step:
            self._host.configure(transport=transport)
            device = self._host.attach(name)
            paths = self._paths(device)
            for _ in range(_ATTEMPTS):  # a portal that answers too slowly is left for the next time
                if len(paths) == 2:
                    break
                self._host.attach(name)
                paths = self._paths(device)
            step.result = f"{device}: {', '.join(paths)}"
            if len(paths) != 2 or not all(each.startswith(transport) for each in paths):
                raise RuntimeError(f"two paths over {transport} were expected: {paths}")
        with self._stage.step("make ext4 on it, fill it, have fsck look at it") as step:
            self._spread(device)
            content = make_ext4(self._host.vm, device, mib=_FILLED_MIB)
            if ext4_content(self._host.vm, device) != content:
                raise RuntimeError("the files are not as they were written")
            step.result = f"{_FILLED_MIB} MiB of files, clean"
        with self._stage.step("compare the device with the logical volume, past every cache") as step:
            self._compare(device, path)
            step.result = f"the first {_COMPARED_MIB} MiB are the same"
        return device

    def _refuse_a_stranger(self, name: str) -> None:
        with self._stage.step("let a host that is not on the list try") as step:
            stranger_id = new_id()
            view = self._node.attachment(name, self._host.vm.name)
            if view.connection is None:
                raise RuntimeError(f"{name} has no connection")
            portal = view.connection.portals[0]
            tried = self._host.vm.run(
                ["nvme", "connect", "-t", "tcp", "-a", portal.address, "-s", str(portal.port), "-n", view.connection.nqn,
                 "-q", host_nqn(stranger_id), "-I", stranger_id],
                check=False,
            )  # fmt: skip
            if tried.status == 0:
                raise RuntimeError("a host that is not on the list got in")
            refusals = self._node.client.refusals(view.attachment.volume_id, host_nqn(stranger_id))
            if not refusals:
                raise RuntimeError("weft does not know why the host was refused")
            step.result = f"refused; weft says: {refusals[0].message}"

    def _extend(self, name: str, device: str) -> None:
        with self._stage.step("extend a volume to 2 GiB while it is attached") as step:
            self._node.extend(name, 2)
            self._wait_for_size(device, 2 * GIB)
            self._host.vm.run(
                f"e2fsck -f -p {device}; resize2fs {device}; e2fsck -f -n {device}", timeout=300
            )
            step.result = "the host sees it, resize2fs took the new room"

    def _reboot_the_node(self, devices: dict[str, str]) -> None:
        host = self._host.vm
        before = self._identities(devices)
        running = {
            name: VerifyingFio(host, device, offset_mib=512, iops=50) for name, device in devices.items()
        }
        with running["over-tcp"] as tcp, running["over-rdma"] as rdma:
            with self._stage.step("reboot the storage node while the host writes and verifies") as step:
                tcp.wait_for_progress()
                rdma.wait_for_progress()
                self._node.vm.reboot()
                step.result = f"{self._node.vm.name} is up again"
            with self._stage.step("see the host's I/O go on by itself, on the same devices") as step:
                for fio in (tcp, rdma):
                    fio.wait_for_progress(timeout=300)
                reports = [fio.finish() for fio in (tcp, rdma)]
                for report in reports:
                    if report.error:
                        raise RuntimeError(f"fio found errno {report.error}: {report.output}")
                if self._identities(devices) != before:
                    raise RuntimeError("a device is not the one that it was")
                operations = sum(report.reads + report.writes for report in reports)
                longest = max(report.longest_pause for report in reports)
                step.result = f"{operations} operations, no error, longest pause {longest:.0f} s"
        with self._stage.step("compare devices and logical volumes once more") as step:
            self._node.wait()
            for name, device in devices.items():
                self._compare(device, self._node.volume(name).path, skip_mib=512)
            step.result = "what fio wrote is in the logical volumes"

    def _take_away(self, devices: dict[str, str]) -> None:
        with self._stage.step("detach the volumes and delete them") as step:
            for name in devices:
                self._host.detach(name)
                self._node.delete(name)
            step.result = "weft knows of no volume any more"
            if self._node.client.volumes():
                raise RuntimeError("a volume is still there")

    def _nothing_left(self) -> None:
        with self._stage.step("stop weft and look for what is left: configfs, sysfs, LVM") as step:
            volumes = self._node.vm.run("lvs --noheadings --options lv_name weft").stdout.split()
            if volumes != ["thinpool"]:
                raise RuntimeError(f"left in LVM: {volumes}")
            self._node.vm.run(
                "systemctl --quiet disable --now weft; vgremove --quiet --yes weft; rm -rf /etc/weft /var/lib/weft"
            )
            self._host.vm.run("rm -rf /etc/weft /var/lib/weft /etc/nvme/hostnqn /etc/nvme/hostid")
            self._node.vm.run(f"wipefs --quiet --all {self._node.vm.disks[0]}")
            left = [
                f"{vm.name}: {each}"
                for vm in self._machines
                for each in leftovers(vm)
                if each not in self._before[vm.name]
            ]
            if left:
                raise RuntimeError(f"left behind: {'; '.join(left)}")
            step.result = "no subsystem, port or host, no controller, no volume, no mount, no process"

    # --- looking

    def _kernel(self, vm: Vm) -> str:
        return f"Linux {vm.run(['uname', '-r']).stdout.strip()}"

    def _paths(self, device: str) -> list[str]:
        """Transport and address of each controller that leads to the device."""
        script = (
            f"for each in /sys/block/{Path(device).name}/device/nvme*; do [ -e $each/transport ] || continue"
            "; echo $(cat $each/transport) $(sed 's/traddr=\\([^,]*\\).*/\\1/' $each/address); done"
        )
        return self._host.vm.run(script).stdout.splitlines()

    def _spread(self, device: str) -> None:
        """Have the kernel use all paths in turn, so that each carries data."""
        self._host.vm.run(f"echo round-robin >/sys/block/{Path(device).name}/device/iopolicy")

    def _compare(self, device: str, path: str, *, skip_mib: int = 0) -> None:
        here, there = (
            digest(vm, each, _COMPARED_MIB, skip_mib=skip_mib)
            for vm, each in ((self._host.vm, device), (self._node.vm, path))
        )
        if here != there:
            raise RuntimeError(f"{device} and {path} differ")

    def _wait_for_size(self, device: str, size: int) -> None:
        condition = f"[ $(blockdev --getsize64 {device}) = {size} ]"
        wait_until(condition, self._host.vm, timeout=30, what="growth")

    def _identities(self, devices: dict[str, str]) -> str:
        names = " ".join(f"/sys/block/{Path(device).name}" for device in devices.values())
        return self._host.vm.run(
            f"for each in {names}; do echo $each $(cat $each/wwid $each/uuid $each/nguid); done"
        ).stdout
