"""DH-HMAC-CHAP between weft and Linux: its host at the embedded target, and the embedded host at nvmet."""

import random
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from embedded_target.workshop import Workshop, free_portal, nqn_of
from lab import Lab, Vm
from weft.connection import NvmeofConnection, NvmeofPortal
from weft.embedded.host import HostIdentity, Volume, VolumeOptions
from weft.embedded.target.settings import Limits
from weft.errors import PermissionDeniedError
from weft.model import DhChapSecrets, Export, RefusalReason, VolumeId
from weft.names import host_nqn, new_id, subsystem_nqn
from weft.nvme.dhchap_key import DhChapHash, generate_dhchap_key, parse_dhchap_key
from weft.nvme.dhchap_proof import ANY, DhChapPolicy
from weft.nvme.ffdhe import DhGroup

pytestmark = pytest.mark.timeout(300)

MIB = 2**20
OUTER_MACHINE = "10.0.2.2"
NVMET_PORT = 4427
HOST = HostIdentity(
    nqn=host_nqn("aaaaaaaa-1111-4111-8111-111111111111"), id="aaaaaaaa-1111-4111-8111-111111111111"
)
STRANGER = replace(
    HOST, nqn=host_nqn("bbbbbbbb-1111-4111-8111-111111111111"), id="bbbbbbbb-1111-4111-8111-111111111111"
)

# One write, then a read from the same descriptor. The options hold keys: they come by standard input.
CONNECT = r"""
import errno, os, sys
fabrics = os.open("/dev/nvme-fabrics", os.O_RDWR)
try:
    os.write(fabrics, sys.stdin.readline().strip().encode())
    print(os.read(fabrics, 4096).decode().strip())
except OSError as error:
    print(errno.errorcode[error.errno])
"""

SET_UP_NVMET = r"""
read -r host_key; read -r controller_key
modprobe -a nvmet nvmet-tcp
cd /sys/kernel/config/nvmet
mkdir -p "subsystems/$NQN" "hosts/$HOST"
chmod 0600 hosts/$HOST/dhchap_key hosts/$HOST/dhchap_ctrl_key
echo "$host_key" > "hosts/$HOST/dhchap_key"
echo "$controller_key" > "hosts/$HOST/dhchap_ctrl_key"
ln -s "/sys/kernel/config/nvmet/hosts/$HOST" "subsystems/$NQN/allowed_hosts/"
truncate -s 64M /root/volume
mkdir "subsystems/$NQN/namespaces/1"
echo -n /root/volume > "subsystems/$NQN/namespaces/1/device_path"
echo "$VOLUME" > "subsystems/$NQN/namespaces/1/device_uuid"
echo 1 > "subsystems/$NQN/namespaces/1/enable"
mkdir ports/1
echo tcp > ports/1/addr_trtype
echo ipv4 > ports/1/addr_adrfam
echo 127.0.0.1 > ports/1/addr_traddr
echo "$PORT" > ports/1/addr_trsvcid
ln -s "/sys/kernel/config/nvmet/subsystems/$NQN" ports/1/subsystems/
"""


GROUPS = [
    pytest.param(group, marks=[] if group is DhGroup.FFDHE2048 else [pytest.mark.lab_full], id=group.name)
    for group in DhGroup
]


class RefusedError(Exception):
    """The kernel did not connect; the text is the name of its errno."""


class KernelHost:
    """The Linux host in a VM, by /dev/nvme-fabrics and sysfs alone."""

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        vm.run(f"modprobe nvme-tcp\ncat > /root/connect.py <<'END'\n{CONNECT}END\n")

    def connect(
        self,
        export: Export,
        portal: NvmeofPortal,
        secrets: DhChapSecrets | None,
        identity: HostIdentity = HOST,
    ) -> None:
        """Raises RefusedError."""
        options = [
            f"nqn={nqn_of(export)},transport=tcp,traddr={OUTER_MACHINE},trsvcid={portal.port}",
            f"hostnqn={identity.nqn},hostid={identity.id},reconnect_delay=1",
        ]
        if secrets is not None:
            options.append(f"dhchap_secret={secrets.host_key}")
            if secrets.controller_key is not None:
                options.append(f"dhchap_ctrl_secret={secrets.controller_key}")
        answer = self._vm.run(["python3", "/root/connect.py"], stdin=",".join(options) + "\n").stdout.strip()
        if "instance=" not in answer:
            raise RefusedError(answer)

    def use(self, export: Export) -> None:
        """Write to the volume and read it again."""
        self._vm.run(
            f"device=/dev/disk/by-id/nvme-uuid.{export.volume_id}\n"
            "for _ in $(seq 300); do [ -b $device ] && break; sleep 0.1; done\n"
            "head -c 1M /dev/urandom > /root/pattern\n"
            "dd if=/root/pattern of=$device bs=1M oflag=direct status=none\n"
            "dd if=$device bs=1M count=1 iflag=direct status=none | cmp - /root/pattern\n"
        )

    def disconnect(self) -> None:
        """Whatever is connected."""
        self._vm.run(
            "for each in /sys/class/nvme/nvme*/delete_controller; do [ ! -e $each ] || echo 1 > $each; done"
        )

    def change_key(self, key: str) -> None:
        """Of the one controller that there is; it authenticates anew at once."""
        self._vm.run(
            "read -r key; echo -n $key > $(echo /sys/class/nvme/nvme*/dhchap_secret)", stdin=f"{key}\n"
        )

    def kernel_says(self, words: str, times: int = 1, seconds: float = 30) -> bool:
        deadline = time.monotonic() + seconds
        while self._vm.run(f"dmesg | grep -c '{words}' || true").stdout.strip() != str(times):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)
        return True


@pytest.fixture
def kernel_host(host1: Vm) -> Iterator[KernelHost]:
    host = KernelHost(host1)
    host1.run("dmesg -C")
    yield host
    host.disconnect()


@contextmanager
def target(folder: Path, policy: DhChapPolicy = ANY) -> Iterator[Workshop]:
    """The embedded target, where the VM can reach it."""
    folder.mkdir(exist_ok=True)
    workshop = Workshop(folder=folder, portals=(free_portal(),), limits=Limits(), policy=policy)
    try:
        yield workshop
    finally:
        workshop.close()


def new_secrets(*, both_ways: bool = True) -> DhChapSecrets:
    return DhChapSecrets(
        host_key=generate_dhchap_key(random.choice(list(DhChapHash))),
        controller_key=generate_dhchap_key(random.choice(list(DhChapHash))) if both_ways else None,
    )


@pytest.mark.parametrize("group", GROUPS)
def test_linux_proves_itself_to_the_embedded_target_with_every_hash(
    kernel_host: KernelHost, short_path: Path, group: DhGroup
) -> None:
    for used_hash in DhChapHash:
        secrets = new_secrets(both_ways=used_hash is not DhChapHash.SHA_256)
        policy = DhChapPolicy(hashes=(used_hash,), groups=(group,))
        with target(short_path / used_hash.algorithm, policy) as workshop:
            export = workshop.export(HOST.nqn, secrets={HOST.nqn: secrets})
            kernel_host.connect(export, workshop.portal, secrets)
            if used_hash is DhChapHash.SHA_512:
                kernel_host.use(export)
            kernel_host.disconnect()
            chosen = f"authenticated with hash hmac({used_hash.algorithm}) dhgroup {group.name.lower()}"
            assert kernel_host.kernel_says(chosen)
    assert kernel_host.kernel_says("controller authenticated", times=2)


@pytest.mark.lab_full
@pytest.mark.parametrize("number", range(4))
def test_keys_made_by_nvme_cli_are_keys(
    host1: Vm, kernel_host: KernelHost, short_path: Path, number: int
) -> None:
    made = host1.run(
        f"nvme gen-dhchap-key -m {number} -n {HOST.nqn}; nvme gen-dhchap-key -m {number} -n {STRANGER.nqn}"
    ).stdout.split()
    assert [parse_dhchap_key(key).encode() for key in made] == made
    secrets = DhChapSecrets(host_key=made[0], controller_key=made[1])
    with target(short_path) as workshop:
        export = workshop.export(HOST.nqn, secrets={HOST.nqn: secrets})
        kernel_host.connect(export, workshop.portal, secrets)
        kernel_host.use(export)
        kernel_host.disconnect()


def test_the_embedded_target_knows_why_it_refused_linux(kernel_host: KernelHost, short_path: Path) -> None:
    secrets = new_secrets()
    wrong = new_secrets()
    with target(short_path) as workshop:
        export = workshop.export(HOST.nqn, secrets={HOST.nqn: secrets})
        for given, identity, reason in (
            (None, HOST, RefusalReason.NO_KEY),
            (replace(secrets, host_key=wrong.host_key), HOST, RefusalReason.WRONG_KEY),
            (replace(secrets, controller_key=wrong.controller_key), HOST, RefusalReason.WRONG_KEY),
            (secrets, STRANGER, RefusalReason.NOT_LISTED),
        ):
            with pytest.raises(RefusedError):
                kernel_host.connect(export, workshop.portal, given, identity)
            last, *_ = workshop.target.refusals(export.volume_id)
            assert (last.initiator, last.reason) == (identity.nqn, reason)
        kernel_host.connect(export, workshop.portal, secrets)
        kernel_host.use(export)
        assert [each.initiator for each in workshop.target.refusals(export.volume_id)] == [STRANGER.nqn]
        kernel_host.disconnect()


def test_linux_changes_to_a_new_key_while_connected_and_comes_back_with_it(
    kernel_host: KernelHost, short_path: Path
) -> None:
    old, new = new_secrets(), generate_dhchap_key()
    with target(short_path) as workshop:
        export = workshop.export(HOST.nqn, secrets={HOST.nqn: old})
        kernel_host.connect(export, workshop.portal, old)
        kernel_host.use(export)
        host = replace(export.hosts[0], secrets=replace(old, host_key=new))
        workshop.target.create_export(replace(export, hosts=(host,)))
        kernel_host.use(export)
        kernel_host.change_key(new)
        assert kernel_host.kernel_says("qid 0: authenticated with", times=2)
        kernel_host.use(export)
        workshop.target.stop()
        workshop.target = workshop.start()
        assert kernel_host.kernel_says("Successfully reconnected")
        kernel_host.use(export)
        assert workshop.target.refusals(export.volume_id) == ()
        kernel_host.disconnect()


@dataclass(frozen=True)
class Nvmet:
    """The kernel's target in the VM, with one volume for HOST."""

    vm: Vm
    connection: NvmeofConnection

    def choose(self, used_hash: DhChapHash, group: DhGroup) -> None:
        """What it wants hosts to use."""
        directory = f"/sys/kernel/config/nvmet/hosts/{HOST.nqn}"
        self.vm.run(
            f"echo 'hmac({used_hash.algorithm})' > {directory}/dhchap_hash\n"
            f"echo {group.name.lower()} > {directory}/dhchap_dhgroup"
        )

    def content(self, length: int) -> bytes:
        """The first bytes of the volume on the node."""
        return bytes.fromhex(self.vm.run(f"head -c {length} /root/volume | od -An -v -tx1").stdout)


@pytest.fixture(scope="module")
def nvmet(lab: Lab, fresh: None) -> Iterator[Nvmet]:  # noqa: ARG001 -- first the cleaning, then this
    vm = lab["node"]
    volume_id, secrets = VolumeId(new_id()), new_secrets()
    variables = f"NQN={subsystem_nqn(volume_id)} HOST={HOST.nqn} VOLUME={volume_id} PORT={NVMET_PORT}"
    vm.run(f"{variables}\n{SET_UP_NVMET}", stdin=f"{secrets.host_key}\n{secrets.controller_key}\n")
    portal = free_portal()
    connection = NvmeofConnection(
        volume_id=volume_id,
        nqn=subsystem_nqn(volume_id),
        portals=(portal,),
        host_nqn=HOST.nqn,
        secrets=secrets,
    )
    with forwarded(vm, portal, NVMET_PORT):
        yield Nvmet(vm, connection)


@contextmanager
def forwarded(vm: Vm, portal: NvmeofPortal, port: int) -> Iterator[None]:
    """Only ssh leads into a VM: a port of it, as a portal on this machine."""
    *ssh, name = vm.ssh_words
    options = ["-S", "none", "-N", "-o", "ExitOnForwardFailure=yes", "-L", f"{portal}:127.0.0.1:{port}"]
    with subprocess.Popen([*ssh, *options, name], stdin=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    socket.create_connection((portal.address, portal.port), 1).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline, "the port is not forwarded"
                    time.sleep(0.1)
            yield
        finally:
            process.terminate()


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("used_hash", DhChapHash)
def test_the_embedded_host_proves_itself_to_nvmet(
    nvmet: Nvmet, used_hash: DhChapHash, group: DhGroup
) -> None:
    nvmet.choose(used_hash, group)
    secrets = nvmet.connection.secrets
    assert secrets is not None
    pattern = random.randbytes(8192)
    for given in (secrets, replace(secrets, controller_key=None)):
        connection = replace(nvmet.connection, secrets=given)
        with Volume.open(connection, HOST, VolumeOptions(connect_timeout=60)) as volume:
            volume.write(0, pattern)
            assert volume.read(0, len(pattern)) == pattern
    assert nvmet.content(len(pattern)) == pattern


def test_the_embedded_host_says_why_nvmet_refused_it(nvmet: Nvmet) -> None:
    nvmet.choose(DhChapHash.SHA_256, DhGroup.FFDHE2048)
    secrets, wrong = nvmet.connection.secrets, new_secrets()
    assert secrets is not None
    for given, why in (
        (None, "given no key"),
        (replace(secrets, host_key=wrong.host_key), "does not accept the key"),
        (replace(secrets, controller_key=wrong.controller_key), "did not prove"),
    ):
        with pytest.raises(PermissionDeniedError, match=why):
            Volume.open(replace(nvmet.connection, secrets=given), HOST, VolumeOptions(connect_timeout=60))
