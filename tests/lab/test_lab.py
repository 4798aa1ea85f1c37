"""What the lab promises to tests: wires that can be cut, disks that outlive a power cut, RDMA, one identity for each VM."""

import time

import pytest

from lab import CommandFailedError, Direction, Lab, LabError, Rdma, Vm, clean, leftovers
from lab.io import wait_until

WIRES = ("wire0", "wire1")


def hears(vm: Vm, address: str) -> bool:
    return vm.run(["ping", "-q", "-c", "2", "-i", "0.3", "-W", "2", address], check=False).status == 0


def pings_by_rdma(server: Vm, client: Vm, address: str) -> None:
    with server.spawn(["rping", "-s", "-a", address, "-C", "5"]) as answering:
        client.run(f"until rping -c -a {address} -C 5; do sleep 0.5; done", timeout=30)
        answering.wait(timeout=30)


@pytest.mark.parametrize("wire", WIRES)
def test_vms_reach_each_other_over_both_wires_by_ipv4_and_ipv6(
    node: Vm, host1: Vm, host2: Vm, wire: str
) -> None:
    for other in (node, host2):
        for ipv6 in (False, True):
            # The cleaning before this file may just have plugged the wire in.
            answers = f"ping -q -c 1 -W 1 {other.address(wire, ipv6=ipv6)} >&2"
            wait_until(answers, host1, timeout=30, what=f"an answer of {other.name} over {wire}")


def test_no_two_vms_have_the_same_identity(lab: Lab) -> None:
    script = "hostname; cat /etc/machine-id /proc/sys/kernel/random/uuid; cat /sys/class/net/wire?/address"
    said = [vm.run(script).stdout.split() for vm in lab.vms.values()]
    for values in zip(*said, strict=True):
        assert len(set(values)) == len(lab.vms), values


def test_the_vms_clocks_are_this_machines(lab: Lab) -> None:
    for vm in lab.vms.values():
        assert abs(float(vm.run(["date", "+%s.%N"]).stdout) - time.time()) < 5


def test_a_cut_wire_carries_nothing_and_the_other_one_everything(node: Vm, host1: Vm) -> None:
    with node.without("wire0"):
        assert not hears(host1, node.address("wire0"))
        assert hears(host1, node.address("wire1"))
    assert hears(host1, node.address("wire0"))


def test_a_wire_can_be_cut_in_one_direction(node: Vm, host1: Vm) -> None:
    received = "cat /sys/class/net/wire0/statistics/rx_packets"
    with node.without("wire0", Direction.OUT):
        before = int(node.run(received).stdout)
        assert not hears(host1, node.address("wire0"))
        assert int(node.run(received).stdout) > before
    with node.without("wire0", Direction.IN):
        before = int(node.run(received).stdout)
        assert not hears(host1, node.address("wire0"))
        assert int(node.run(received).stdout) == before


def test_an_unplugged_nic_has_no_carrier(node: Vm, host1: Vm) -> None:
    node.unplug("wire1")
    assert node.run(["cat", "/sys/class/net/wire1/carrier"]).stdout == "0\n"
    assert not hears(host1, node.address("wire1"))
    node.plug("wire1")
    assert node.run(["cat", "/sys/class/net/wire1/carrier"]).stdout == "1\n"
    assert hears(host1, node.address("wire1"))


def test_a_big_transfer_arrives_whole(node: Vm, host1: Vm) -> None:
    """The wire loses no frame when one VM is slower than the other."""
    sent = host1.run("head -c 64M /dev/urandom >/root/data; sha256sum </root/data").stdout
    receive = "import socket,sys; c=socket.create_server(('', 9999)).accept()[0]\nwhile d := c.recv(1<<20): sys.stdout.buffer.write(d)"
    send = f"import socket; c=socket.create_connection(('{node.address()}', 9999), 20); c.sendfile(open('/root/data','rb'))"
    with node.spawn(f'python3 -c "{receive}" | sha256sum') as receiver:
        node.run("until ss -Hltn sport = 9999 | grep -q .; do sleep 0.1; done", timeout=30)
        host1.run(["python3", "-c", send])
        assert receiver.wait(timeout=60).stdout == sent
    assert "retrans:" not in host1.run("ss -Hti dport = 9999").stdout


@pytest.mark.parametrize("kind", Rdma)
def test_soft_rdma_works_between_two_vms(node: Vm, host1: Vm, kind: Rdma) -> None:
    device = node.rdma(kind, "wire1")
    host1.rdma(kind, "wire1")
    transport = {Rdma.RXE: "InfiniBand", Rdma.SIW: "iWARP"}[kind]
    assert transport in node.run(["ibv_devinfo", "-d", device]).stdout
    pings_by_rdma(node, host1, node.address("wire1"))
    for vm in (node, host1):
        vm.remove_rdma()
        assert not vm.run(["rdma", "link"]).stdout


def test_a_power_cut_keeps_what_was_written_and_who_the_vm_is(node: Vm, host1: Vm) -> None:
    before = node.run("cat /etc/machine-id; hostname; cat /sys/class/net/wire?/address").stdout
    node.rdma(Rdma.SIW, "wire1")
    node.run(
        f"echo kept | dd of={node.disks[3]} oflag=direct,sync conv=sync status=none; echo kept >/root/file; sync"
    )
    node.kill()
    assert not hears(host1, node.address())
    node.start()
    assert node.run(f"head -c 4 {node.disks[3]}; cat /root/file").stdout == "keptkept\n"
    assert node.run("cat /etc/machine-id; hostname; cat /sys/class/net/wire?/address").stdout == before
    assert hears(host1, node.address())
    assert "siw_wire1" in node.run(["rdma", "link"]).stdout


@pytest.mark.lab_full
def test_a_rebooted_vm_has_its_addresses_late_when_asked(node: Vm, host1: Vm) -> None:
    node.delay_addresses(20)
    node.reboot()
    assert not node.run("ip -brief -4 address show dev wire0").stdout.count("10.77.0")
    node.run("until ip -brief -4 address show dev wire0 | grep -q 10.77.0; do sleep 0.5; done", timeout=60)
    assert hears(host1, node.address())


def test_what_is_left_in_a_vm_is_named_and_cleaned(host2: Vm) -> None:
    host2.run(f"""
        modprobe nvmet
        mkdir /sys/kernel/config/nvmet/subsystems/nqn.left /sys/kernel/config/nvmet/ports/7
        vgcreate --quiet --yes left {host2.disks[0]}
        lvcreate --quiet --yes --thin --size 64M --name pool left
        nft add table inet left
    """)
    left = leftovers(host2)
    for expected in (
        "nvmet: subsystems/nqn.left",
        "nvmet: ports/7",
        "volume group: left",
        "nft: table inet left",
    ):
        assert expected in left
    clean(host2)
    assert not leftovers(host2)


def test_a_failed_command_says_where_what_and_why(node: Vm) -> None:
    with pytest.raises(
        CommandFailedError, match=r"on node, exit status 2: ls /nowhere\n.*No such file"
    ) as caught:
        node.run(["ls", "/nowhere"])
    assert caught.value.status == 2
    with pytest.raises(CommandFailedError):
        node.run("false; true")


def test_a_command_is_ended_at_its_deadline(node: Vm) -> None:
    with pytest.raises(LabError, match="did not end this within 2 s"):
        node.run("exec -a forgotten sleep 600", timeout=2)
    assert not node.run("pgrep --full '^forgotten 600' || true").stdout


def test_a_process_beside_others_is_stopped_with_its_children(node: Vm) -> None:
    with node.spawn("echo begun; bash -c 'exec -a beside sleep 600'") as process:
        node.run("until pgrep --full '^beside 600'; do sleep 0.1; done", timeout=30)
        assert process.is_running
        assert process.stdout == "begun\n"
    assert not node.run("pgrep --full '^beside 600' || true").stdout


def test_a_command_to_a_vm_without_power_fails_at_once(host2: Vm) -> None:
    host2.kill()
    with pytest.raises(LabError, match="host2 does not run"):
        host2.run(["true"], timeout=600)
    host2.start()
    assert host2.run(["hostname"]).stdout == "host2\n"


@pytest.mark.lab_full
def test_a_measuring_run_has_steady_times_and_leaves_the_vm_as_it_was(node: Vm) -> None:
    work = "import hashlib, time; t = time.perf_counter(); hashlib.sha256(bytes(1 << 24)); print(time.perf_counter() - t)"
    node.run("echo kept >/root/file")
    first, second = (float(_measured(node, f"python3 -c '{work}'")) for _ in range(2))
    assert abs(first / second - 1) < 0.02
    assert node.run("cat /root/file").stdout == "kept\n"
    with pytest.raises(CommandFailedError, match="exit status 3"):
        node.measure("echo so; exit 3", timeout=600)
    node.start()


def _measured(vm: Vm, script: str) -> str:
    printed = vm.measure(script, timeout=600)
    vm.start()
    return printed
