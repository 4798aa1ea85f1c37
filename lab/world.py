"""A storage node and hosts with weft in them, set up as their users would.

    node = StorageNode(lab["node"])
    node.start()
    host = Host(lab["host1"])
    host.log_in(node)
    node.create("data")
    path = host.attach("data")

What the node's administrator does goes by weft's own client in this process, over the node's unix socket: the command
line takes seconds in an emulated machine. What a host does goes by its command line.
"""

import json
import ssl
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from lab.errors import LabError
from lab.vm import Vm
from weft.client import Client
from weft.connection import NvmeofConnection
from weft.errors import UnavailableError
from weft.model import GIB, HostId, Initiator, Protocol, StateStatus
from weft.requests import CreateAttachmentRequest, CreateTokenRequest, CreateVolumeRequest, HostRequest
from weft.tls import pin_of
from weft.views import AttachmentView, VolumeView

API_PORT: Final = 50040
VOLUME_GROUP: Final = "weft"
_CONFIG: Final = "/etc/weft/weft.toml"
_START_SECONDS: Final = 240.0
_COMMAND_SECONDS: Final = 180.0
_WAIT: Final = 120.0  # for what is asked of the node

_UNIT: Final = f"""\
[Unit]
Description=weft
After=network.target
ConditionPathExists={_CONFIG}

[Service]
ExecStart=/opt/weft/bin/weft serve
Restart=always
RestartSec=1
KillMode=process

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSetup:
    """What a node's configuration says. portals as in `target.portals`; tables for them and other keys go to extra.

    pool: "thin" or "thick" on a volume group that is made of the first data disks, or "file".
    """

    target: str = "nvmet"
    pool: str = "thin"
    portals: Sequence[str] = ("10.77.0.1:4420", "[fd77:0::1]:4420")
    disks: int = 1
    extra: str = ""


class StorageNode:
    """weft as the service of a storage node, also after a reboot; its API listens on the wire with TLS."""

    def __init__(self, vm: Vm, setup: NodeSetup | None = None) -> None:
        self.vm = vm
        self.setup = setup or NodeSetup()
        self._tunnel: subprocess.Popen[bytes] | None = None
        self._socket = vm.folder / f"{vm.name}.weft"

    # --- weft itself

    def start(self) -> None:
        """Set the node up and start weft; returns once its API answers."""
        if self.setup.pool != "file":
            self._make_volume_group()
        self.configure(self.setup)
        _put(self.vm, _UNIT, "/etc/systemd/system/weft.service")
        self.vm.run("systemctl daemon-reload; systemctl --quiet enable weft; systemctl restart weft; sync")
        self.wait()

    def configure(self, setup: NodeSetup) -> None:
        """Write another configuration; it counts from weft's next start."""
        self.setup = setup
        self.vm.run("mkdir -p /etc/weft")
        _put(self.vm, _node_config(setup, self.vm.address()), _CONFIG)
        self.vm.run(["sync"])

    def restart(self) -> None:
        self.vm.run(["systemctl", "restart", "weft"])
        self.wait()

    def kill(self) -> None:
        """kill -9 of weft; systemd starts it again after a second."""
        self.vm.run(["systemctl", "kill", "--kill-who=main", "--signal=KILL", "weft"])

    def wait(self, timeout: float = _START_SECONDS) -> None:
        """Until the API answers and volumes can be made. Raises LabError with weft's log after timeout seconds."""
        deadline = time.monotonic() + timeout
        while (reason := self._why_not_ready()) is not None:
            if time.monotonic() > deadline:
                raise LabError(f"weft on {self.vm.name} is not ready: {reason}\n{self.log()}")
            time.sleep(0.5)

    def log(self, lines: int = 50) -> str:
        """The last lines that weft wrote to the journal."""
        return self.vm.run(f"journalctl --unit weft --no-pager --output cat | tail -n {lines}").stdout

    @property
    def client(self) -> Client:
        """An administrator's client; each use of it finds a way to the node that is up, also after a reboot."""
        if self._tunnel is None or self._tunnel.poll() is not None:
            self._open_tunnel()
        return Client(f"unix://{self._socket}", timeout=60)

    def close(self) -> None:
        """End what the client needs in this process. Idempotent."""
        if self._tunnel is not None:
            self._tunnel.kill()
            self._tunnel.wait()
            self._tunnel = None
        self._socket.unlink(missing_ok=True)

    # --- what an administrator does

    def create(self, name: str, *, gib: int = 1, multi_attach: bool = False) -> VolumeView:
        """Make a volume and wait until it is there. Raises LabError with the reason when it is not."""
        request = CreateVolumeRequest(name=name, size=gib * GIB, multi_attach=multi_attach)
        made = self.client.create_volume(request, wait=_WAIT)
        if made.status.value != "available":
            raise LabError(f"volume {name} is {made.status.value}: {made.reason}\n{self.log()}")
        return made

    def volume(self, name: str) -> VolumeView:
        found = self.client.volumes(name=name)
        if len(found) != 1:
            raise LabError(f"{len(found)} volumes are called {name}")
        return found[0]

    def extend(self, name: str, gib: int) -> None:
        self.client.extend_volume(self.volume(name).volume.id, gib * GIB, wait=_WAIT)

    def delete(self, name: str) -> None:
        """Delete a volume and wait until it is gone."""
        if not self.client.delete_volume(self.volume(name).volume.id, wait=_WAIT):
            raise LabError(f"volume {name} is not gone: {self.volume(name).reason}\n{self.log()}")

    def register(self, name: str, nqn: str) -> HostId:
        initiator = Initiator(port_name=nqn, protocol=Protocol.NVMEOF)
        return self.client.create_host(HostRequest(name=name, initiators=(initiator,))).id

    def admit(self, name: str, host_id: HostId) -> NvmeofConnection:
        """Export a volume to a host, without attaching it there. Raises LabError when it does not come about."""
        request = CreateAttachmentRequest(volume_id=self.volume(name).volume.id, host_id=host_id)
        made = self.client.create_attachment(request, wait=_WAIT)
        if made.connection is None:
            raise LabError(f"volume {name} is not exported: {made.reason}\n{self.log()}")
        return made.connection

    def evict(self, name: str, host_name: str) -> None:
        """Take a host's attachment away whatever the host does, and return when the host is cut off."""
        view = self.attachment(name, host_name)
        if not self.client.delete_attachment(view.attachment.id, wait=_WAIT):
            raise LabError(f"{host_name} still has {name}: {self.attachment(name, host_name).reason}")

    def attachment(self, name: str, host_name: str) -> AttachmentView:
        hosts = {host.name: host.id for host in self.client.hosts()}
        found = self.client.attachments(self.volume(name).volume.id, hosts[host_name])
        if len(found) != 1:
            raise LabError(f"volume {name} has {len(found)} attachments to {host_name}")
        return found[0]

    def token(self, host_name: str) -> str:
        """A token that opens what this host needs and no more."""
        return self.client.create_token(CreateTokenRequest(name=host_name, host=host_name)).text

    @property
    def fingerprint(self) -> str:
        """What `weft status` tells of the certificate that weft made, read from where it keeps it."""
        text = self.vm.run(["cat", "/var/lib/weft/tls.pem"]).stdout
        end = "-----END CERTIFICATE-----"
        first = text[text.index("-----BEGIN CERTIFICATE-----") : text.index(end) + len(end)]
        return pin_of(ssl.PEM_cert_to_DER_cert(first))

    @property
    def url(self) -> str:
        return f"https://{self.vm.address()}:{API_PORT}"

    def status(self) -> Any:
        """What `weft status --json` says, whether all is well or not."""
        return json.loads(self.vm.run(["weft", "status", "--json"], _COMMAND_SECONDS, check=False).stdout)

    # --- inside

    def _why_not_ready(self) -> str | None:
        try:
            pools = self.client.pools()
        except UnavailableError as error:
            return str(error)
        return next(
            (
                f"pool {each.pool.name}: {each.reason}"
                for each in pools
                if each.status is not StateStatus.AVAILABLE
            ),
            None,
        )

    def _make_volume_group(self) -> None:
        disks = " ".join(self.vm.disks[: self.setup.disks])
        script = f"vgcreate --quiet --yes {VOLUME_GROUP} {disks}"
        if self.setup.pool == "thin":
            script += (
                f"; lvcreate --quiet --yes --type thin-pool --extents 90%FREE --name thinpool {VOLUME_GROUP}"
            )
        self.vm.run(script)

    def _open_tunnel(self) -> None:
        self.close()
        *ssh, name = self.vm.ssh_words
        forward = f"{self._socket}:/run/weft/api.sock"
        self._tunnel = subprocess.Popen(
            [
                *ssh,
                "-o",
                "ControlPath=none",
                "-o",
                "ExitOnForwardFailure=yes",
                "-N",
                "-T",
                "-L",
                forward,
                name,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 30
        while not self._socket.exists():
            if self._tunnel.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise UnavailableError(f"{self.vm.name} does not answer ssh")
            time.sleep(0.02)


class Host:
    """weft's command line on a host."""

    def __init__(self, vm: Vm) -> None:
        self.vm = vm

    @property
    def nqn(self) -> str:
        return self.vm.run(["cat", "/etc/nvme/hostnqn"]).stdout.strip()

    def make_identity(self) -> str:
        """Give the host an NVMe identity of its own; returns its NQN."""
        self.vm.run(
            "mkdir -p /etc/nvme; uuidgen >/etc/nvme/hostid"
            '; echo "nqn.2014-08.org.nvmexpress:uuid:$(cat /etc/nvme/hostid)" >/etc/nvme/hostnqn; sync'
        )
        return self.nqn

    def configure(self, **host: str | float) -> None:
        """Keys of `[host]` in the configuration."""
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in host.items())
        self.vm.run("mkdir -p /etc/weft")
        _put(self.vm, f"[host]\n{lines}", _CONFIG)

    def log_in(self, node: StorageNode) -> None:
        """With a token for this host alone, knowing the node by the fingerprint that it tells."""
        self.vm.run(
            ["weft", "login", node.url, "--token-file", "-", "--fingerprint", node.fingerprint],
            _COMMAND_SECONDS,
            stdin=node.token(self.vm.name),
        )

    def weft(self, *words: str, timeout: float = _COMMAND_SECONDS) -> Any:
        """What a command prints with --json. Raises CommandFailedError with its sentence when it fails."""
        printed = self.vm.run(["weft", *words, "--json"], timeout).stdout
        return json.loads(printed) if printed.strip() else None

    def attach(self, name: str, timeout: float = _COMMAND_SECONDS) -> str:
        """The device's path."""
        return str(self.weft("attach", name, timeout=timeout)["path"])

    def detach(self, name: str, *, force: bool = False) -> None:
        self.weft("detach", name, *(["--force"] if force else []))


def _put(vm: Vm, text: str, path: str) -> None:
    vm.run(f"cat >{path}; sync {path}", stdin=text)


def _node_config(setup: NodeSetup, address: str) -> str:
    portals = json.dumps(list(setup.portals))
    pool = {
        "file": 'kind = "file"',
        "thin": f'kind = "lvm"\nvolume_group = "{VOLUME_GROUP}"\nprovisioning = "thin"',
        "thick": f'kind = "lvm"\nvolume_group = "{VOLUME_GROUP}"\nprovisioning = "thick"',
    }[setup.pool]
    over_commit = 1 if setup.pool == "thick" else 1000
    return f"""\
[api]
listen = ["{address}:{API_PORT}"]

[target]
kind = "{setup.target}"
portals = {portals}

[[pools]]
name = "pool"
{pool}
over_commit = {over_commit}

{setup.extra}
"""
