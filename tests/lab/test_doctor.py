"""What weft doctor says of a real machine, and that the commands it prints mend it when they are run as they are."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab import Lab, Vm

# Four examinations, each of which loads all of weft in a slow VM.
pytestmark = [pytest.mark.timeout(1500), pytest.mark.lab_full]

CONFIG = """
[target]
portals = ["{first}:4420", "{second}:4420", "rdma://{first}:4420"]
[[pools]]
name = "fast"
kind = "lvm"
volume_group = "vg0"
"""

MULTIPATH_OFF = "/etc/modprobe.d/lab-doctor.conf"
HOST_NQN = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555"


@dataclass(frozen=True, slots=True)
class Doctor:
    """What doctor said: its exit code, and by what it is about, what is missing and the command against it."""

    exit_code: int
    missing: dict[str, str]


@pytest.fixture
def node(lab_with_weft: Lab) -> Iterator[Vm]:
    vm = lab_with_weft["node"]
    config = CONFIG.format(first=vm.address("wire0"), second=vm.address("wire1"))
    vm.run(
        "modprobe --remove nvmet-rdma nvme-rdma nvmet-tcp nvme-tcp nvme-loop nvmet nvme-fabrics nvme-core || true\n"
        "mkdir -p /etc/weft; cat > /etc/weft/weft.toml",
        stdin=config,
    )
    yield vm
    vm.run(f"rm -f {MULTIPATH_OFF}; rdma link delete rxe0 || true", timeout=60)


def ask(vm: Vm) -> Doctor:
    ran = vm.run(["weft", "doctor", "--json"], timeout=300, check=False)
    found = json.loads(ran.stdout)["findings"]
    missing = {each["about"]: each["command"] for each in found if each["verdict"] == "missing"}
    assert not [each for each in found if each["verdict"] == "unknown"]
    return Doctor(ran.status, missing)


def mend(vm: Vm, doctor: Doctor, *, disk: str = "") -> None:
    """Run what was printed, once where it mends two things; what lacks only what is mended by another has no command."""
    commands = dict.fromkeys(filter(None, doctor.missing.values()))
    vm.run("\n".join(each.replace("/dev/DISK", disk) for each in commands), timeout=300)


def test_doctors_commands_make_a_storage_node_and_host_of_a_bare_machine_and_mend_it(node: Vm) -> None:
    rdma_portal = f"portal rdma://{node.address('wire0')}:4420"

    bare = ask(node)
    assert (bare.exit_code, set(bare.missing)) == (8, {"RDMA", rdma_portal, "pool fast"})
    mend(node, bare, disk=node.disks[0])
    assert ask(node) == Doctor(0, {})

    node.run(f"""
        rdma link delete rxe0
        lvchange --quiet --zero n vg0/thinpool
        ip address delete {node.address("wire1")}/24 dev wire1
        mkdir -p /etc/nvme; echo {HOST_NQN} > /etc/nvme/hostnqn
        printf 'options nvme_core multipath=N\ninstall nvmet-rdma /bin/false\n' > {MULTIPATH_OFF}
        install -d -m 0777 /var/lib/weft
    """)
    spoilt = ask(node)
    assert spoilt.exit_code == 8
    assert set(spoilt.missing) - {"target"} == {
        "RDMA",
        rdma_portal,
        "pool fast",
        f"portal {node.address('wire1')}:4420",
        "identity",
        "native multipath",
        "nvmet-rdma",
        "data_dir",
    }
    mend(node, spoilt)
    assert ask(node) == Doctor(0, {})
