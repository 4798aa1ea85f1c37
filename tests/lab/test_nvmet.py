"""The kernel's target on the real kernel."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lab import Lab, Rdma, Vm
from lab.errors import CommandFailedError
from weft.names import host_nqn, new_id, subsystem_nqn
from weft.nvme.dhchap_key import generate_dhchap_key

pytestmark = [pytest.mark.timeout(900)]

MIB = 2**20
SIZE = 64 * MIB
VERBS = Path(__file__).with_name("nvmet_verbs.py")
STAYING = "/root/nvmet_verbs.staying"
TREE = "find /sys/kernel/config/nvmet -mindepth 2 | sort"
WRITER = r"""
import mmap, os, sys, time
path, seconds = sys.argv[1], float(sys.argv[2])
descriptor, page = os.open(path, os.O_RDWR | os.O_DIRECT), mmap.mmap(-1, 4096)
number, longest, end = 0, 0.0, time.monotonic() + seconds
while time.monotonic() < end:
    began = time.monotonic()
    page[:8] = number.to_bytes(8, "little")
    os.pwrite(descriptor, page, number % 1000 * 4096)
    back = mmap.mmap(-1, 4096)
    os.preadv(descriptor, [back], number % 1000 * 4096)
    assert back[:8] == page[:8], "other data came back"
    number, longest = number + 1, max(longest, time.monotonic() - began)
print(number, longest)
"""


@dataclass(slots=True)
class Volume:
    id: str = field(default_factory=new_id)

    @property
    def path(self) -> str:
        return f"/root/nvmet-volumes/{self.id}"

    @property
    def nqn(self) -> str:
        return subsystem_nqn(self.id)  # type: ignore[arg-type]

    def create(self, *hosts: str, keys: list[str | None] | None = None) -> list[Any]:
        return ["create", self.id, self.path, SIZE, dict.fromkeys(hosts, keys)]


def verbs(node: Vm, *verbs: list[Any], portals: list[str] | None = None, **more: Any) -> dict[str, Any]:
    """Have them done by a weft that starts for it."""
    asked = json.dumps({"portals": portals or [f"{node.address()}:4420"], "verbs": list(verbs), **more})
    done = node.run(["/opt/weft/bin/python", "/root/nvmet_verbs.py"], stdin=asked, timeout=300)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def identity(vm: Vm) -> tuple[str, str]:
    host_id = f"aaaaaaaa-0000-4000-8000-0000000000{vm.name[-1]}1"
    return host_nqn(host_id), host_id


def connect(vm: Vm, volume: Volume, address: str, *, transport: str = "tcp", more: str = "") -> str:
    """Returns the device's path."""
    nqn, host_id = identity(vm)
    # nvme-loop knows no reconnects and refuses their options.
    where = "" if transport == "loop" else f"-a {address} -s 4420 -c 1 -l 600"
    vm.run(
        f"modprobe -a nvme-tcp nvme-rdma; nvme connect -t {transport} {where} -n {volume.nqn} --hostnqn {nqn} "
        f"--hostid {host_id} -k 5 -i 1 {more}",
        timeout=120,
    )
    found = vm.run(
        f"for i in $(seq 100); do for n in /sys/class/nvme-subsystem/*/nvme*n*; do"
        f" grep -qs {volume.id} $n/uuid && basename $n && exit; done; sleep 0.1; done; exit 1",
        timeout=60,
    )
    return f"/dev/{found.stdout.strip()}"


def disconnect(vm: Vm, volume: Volume) -> None:
    vm.run(["nvme", "disconnect", "-n", volume.nqn], timeout=60)


@pytest.fixture(scope="module", autouse=True)
def verbs_in_place(lab_with_weft: Lab) -> None:
    lab_with_weft["node"].put(VERBS, "/root/nvmet_verbs.py")


@pytest.fixture
def volume(node: Vm) -> Volume:
    volume = Volume()
    node.run(f"mkdir -p $(dirname {volume.path}); truncate -s {SIZE} {volume.path}")
    return volume


@pytest.mark.lab_full
@pytest.mark.parametrize("transport", ["tcp", "tcp6", "rxe", "siw", "loop"])
def test_a_volume_is_written_through_each_transport_and_nothing_stays(
    node: Vm, host1: Vm, volume: Volume, transport: str
) -> None:
    before = node.run("modprobe nvmet; " + TREE).stdout
    host, fabric = (node if transport == "loop" else host1), transport
    address, portal = node.address(), f"{node.address()}:4420"
    if transport == "tcp6":
        address, fabric = node.address(ipv6=True), "tcp"
        portal = f"[{address}]:4420"
    elif transport == "loop":
        portal = "loop"
    elif transport != "tcp":
        for vm in (node, host1):
            vm.rdma(Rdma(transport))
        portal, fabric = f"rdma://{address}:4420", "rdma"
    try:
        done = verbs(node, volume.create(identity(host)[0]), portals=[portal])
        assert done["exports"][volume.id]["complete"], done
        device = connect(host, volume, address, transport=fabric)
        written = host.run(
            f"dd if=/dev/urandom of=/tmp/w bs=1M count=8 status=none; dd if=/tmp/w of={device} bs=1M oflag=direct"
            " status=none; sha256sum < /tmp/w",
            timeout=60,
        ).stdout
        kept = node.run(f"dd if={volume.path} bs=1M count=8 iflag=direct status=none | sha256sum").stdout
        assert written == kept
        disconnect(host, volume)
        verbs(node, ["remove", volume.id], portals=[portal])
        assert node.run(TREE).stdout == before
    finally:
        for vm in (node, host1):
            vm.remove_rdma()


def test_one_host_leaves_unnoticed_and_one_is_cut_off_while_the_other_writes(
    node: Vm, host1: Vm, host2: Vm, volume: Volume
) -> None:
    leaving, staying = identity(host1)[0], identity(host2)[0]
    verbs(node, volume.create(leaving, staying))
    connect(host1, volume, node.address())
    device = connect(host2, volume, node.address())
    disconnect(host1, volume)
    host2.run(f"cat > /root/writer.py << 'END'\n{WRITER}\nEND")
    mark = node.kernel_log_mark()
    with host2.spawn(["python3", "/root/writer.py", device, "20"]) as writer:
        verbs(node, volume.create(staying))
        assert writer.wait(120).status == 0
    assert "creating nvm controller" not in node.kernel_log(mark), "the other one had to connect again"
    verbs(node, volume.create(leaving, staying))
    lost = connect(host1, volume, node.address())
    with host2.spawn(["python3", "/root/writer.py", device, "20"]) as writer:
        done = verbs(node, volume.create(staying))
        host1.run(f"for i in $(seq 100); do test -e {lost} || exit 0; sleep 0.3; done; exit 1", timeout=60)
        assert writer.wait(120).status == 0
    assert done["exports"][volume.id]["initiators"] == [staying]
    assert [leaving, "notListed"] in verbs(node)["refusals"][volume.id]
    disconnect(host2, volume)
    verbs(node, ["remove", volume.id])


@pytest.mark.lab_full
def test_a_host_that_was_taken_off_the_list_by_hand_is_cut_off_while_the_other_writes(
    node: Vm, host1: Vm, host2: Vm, volume: Volume
) -> None:
    leaving, staying = identity(host1)[0], identity(host2)[0]
    verbs(node, volume.create(leaving, staying))
    lost, device = connect(host1, volume, node.address()), connect(host2, volume, node.address())
    node.run(["rm", f"/sys/kernel/config/nvmet/subsystems/{volume.nqn}/allowed_hosts/{leaving}"])
    write = f"dd if=/dev/zero of={lost} bs=4k count=1 oflag=direct status=none"
    host1.run(write)  # nvmet lets it go on
    host2.run(f"cat > /root/writer.py << 'END'\n{WRITER}\nEND")
    with host2.spawn(["python3", "/root/writer.py", device, "20"]) as writer:
        verbs(node, volume.create(staying))
        host1.run(f"for i in $(seq 100); do test -e {lost} || exit 0; sleep 0.3; done; exit 1", timeout=60)
        assert writer.wait(120).status == 0
    disconnect(host2, volume)
    verbs(node, ["remove", volume.id])


def test_every_volume_is_back_after_a_power_cut_while_its_host_never_stops_trying(
    node: Vm, host1: Vm
) -> None:
    volumes = [Volume() for _ in range(12)]
    paths = " ".join(each.path for each in volumes)
    node.run(f"mkdir -p $(dirname {volumes[0].path}); truncate -s {SIZE} {paths}; sync")
    creates = [each.create(identity(host1)[0]) for each in volumes]
    verbs(node, *creates)
    devices = [connect(host1, each, node.address()) for each in volumes]
    mark = host1.kernel_log_mark()
    node.kill()
    node.start()
    # The last volume comes late: until then no portal may listen.
    first = verbs(node, *creates[:-1], expect=[each.id for each in volumes])
    assert len(first["exports"]) == len(volumes) - 1
    assert "1 of 12 are missing" in first["troubles"][0]
    assert ":4420" not in node.run("ss -ltn").stdout
    second = verbs(node, *creates, expect=[each.id for each in volumes], wait=30)
    assert all(each["complete"] for each in second["exports"].values())
    for device in devices:
        host1.run(f"dd if=/dev/zero of={device} bs=4k count=1 oflag=direct status=none", timeout=120)
    assert "Removing controller" not in host1.kernel_log(mark)
    for each in volumes:
        disconnect(host1, each)
    verbs(node, *(["remove", each.id] for each in volumes))


@pytest.mark.lab_full
def test_the_node_says_which_hosts_had_no_key_or_a_wrong_one(node: Vm, host1: Vm, volume: Volume) -> None:
    nqn, right = identity(host1)[0], [generate_dhchap_key(), generate_dhchap_key()]
    verbs(node, volume.create(nqn, keys=list(right)))
    assert node.run("stat -c %a /sys/kernel/config/nvmet/hosts/*/dhchap_key").stdout.split() == ["600"]
    asked = {"portals": [f"{node.address()}:4420"], "verbs": [volume.create(nqn, keys=list(right))]}
    for more, reason in (("", "noKey"), (f"--dhchap-secret={generate_dhchap_key()}", "wrongKey")):
        # Who has shown a key is only told to a weft that runs meanwhile.
        node.run("cat > /root/asked.json", stdin=json.dumps({**asked, "hold": True}))
        with node.spawn(
            "/opt/weft/bin/python /root/nvmet_verbs.py < /root/asked.json > /root/told.json"
        ) as weft:
            node.run(f"until test -e {STAYING}; do sleep 0.5; done", timeout=240)
            with pytest.raises(CommandFailedError):
                connect(host1, volume, node.address(), more=more)
            time.sleep(5)  # a host has three seconds to show a key
            node.run(["rm", STAYING])
            assert weft.wait(120).status == 0
        told = json.loads(node.run(["cat", "/root/told.json"]).stdout)
        assert told["refusals"][volume.id][0] == [nqn, reason]
    connect(host1, volume, node.address(), more=f"--dhchap-secret={right[0]} --dhchap-ctrl-secret={right[1]}")
    disconnect(host1, volume)
    verbs(node, volume.create(nqn))
    connect(host1, volume, node.address())
    disconnect(host1, volume)
    verbs(node, ["remove", volume.id])
