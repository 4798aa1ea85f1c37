"""A volume as the demo uses it: the path that `weft attach` gives, or the Volume object where there is no FUSE."""

import os
from pathlib import Path

from content import Content
from tree import Tree
from verifying_io import BlockDevice, PathDevice
from weft.config import load_config
from weft.connection import NvmeofConnection
from weft.embedded.host import HostIdentity, Volume, load_identity
from weft.errors import NotFoundError
from weft.model import AttachmentId, HostId, Initiator, Protocol
from weft.requests import CreateAttachmentRequest, HostRequest
from weft_under_demo import WeftUnderDemo

_CHUNK = 2**20
_WAIT = 30.0


class AttachedByPath:
    """`weft attach` and `weft detach`, and the path between them."""

    def __init__(self, weft: WeftUnderDemo, name: str) -> None:
        self._weft = weft
        self._name = name
        self._path = Path()
        self._devices: list[PathDevice] = []

    def attach(self) -> str:
        self._path = Path(self._weft.weft("attach", self._name)["path"])
        return f"it is {self._path.name} of {self._path.stat().st_size} bytes, a file that any tool can use"

    def detach(self) -> None:
        self.close_devices()
        self._weft.weft("detach", self._name)

    def close_devices(self) -> None:
        for device in self._devices:
            device.close()
        self._devices.clear()

    def size(self) -> int:
        return self._path.stat().st_size

    def device(self) -> BlockDevice:
        device = PathDevice(str(self._path))
        self._devices.append(device)
        return device

    def fill(self, content: Content, tree: Tree) -> None:
        content.fill(tree, self._path)
        self.device().flush()

    def grow(self, content: Content) -> str:
        return content.grow(self._path)


class AttachedAsObject:
    """An attachment made through the API, and the Volume object that uses it in this process."""

    def __init__(self, weft: WeftUnderDemo, name: str) -> None:
        self._config = load_config(weft.config)
        self._client = weft.client()
        self._scratch = weft.directory / f"{name}.image"
        self._name = name
        self._attachment_id = AttachmentId("")
        self._volume: Volume | None = None

    def attach(self) -> str:
        identity = load_identity(self._config)
        volume = next(each for each in self._client.volumes() if each.volume.name == self._name)
        request = CreateAttachmentRequest(volume_id=volume.volume.id, host_id=self._host_id(identity))
        attachment = self._client.create_attachment(request, wait=_WAIT)
        if attachment.connection is None:
            raise RuntimeError(f"the attachment did not become available: {attachment.reason}")
        self._attachment_id = attachment.attachment.id
        self._volume = Volume.open(attachment.connection, identity)
        return f"it is a Volume object of {self._volume.size} bytes, for there is no FUSE here"

    def detach(self) -> None:
        self._open().close()
        self._client.delete_attachment(self._attachment_id, wait=_WAIT)

    def size(self) -> int:
        return self._open().size

    def device(self) -> BlockDevice:
        return self._open()

    def fill(self, content: Content, tree: Tree) -> None:
        with self._scratch.open("wb") as image:
            image.truncate(self.size())
        content.fill(tree, self._scratch)
        volume = self._open()
        with self._scratch.open("rb") as image:
            offset = 0
            while True:
                try:
                    offset = os.lseek(image.fileno(), offset, os.SEEK_DATA)
                except OSError:
                    break
                data = os.pread(image.fileno(), _CHUNK, offset)
                volume.write(offset, data)
                offset += len(data)
        volume.flush()
        self._scratch.unlink()

    def grow(self, content: Content) -> str:
        del content
        return f"the Volume object has {self.size()} bytes now"

    def _host_id(self, identity: HostIdentity) -> HostId:
        for host in self._client.hosts():
            if any(each.port_name == identity.nqn for each in host.initiators):
                return host.id
        initiator = Initiator(port_name=identity.nqn, protocol=Protocol.NVMEOF)
        return self._client.create_host(
            HostRequest(name="demo-host", ip="127.0.0.1", initiators=(initiator,))
        ).id

    def _open(self) -> Volume:
        if self._volume is None:
            raise NotFoundError(f"volume {self._name} is not attached")
        return self._volume


AttachedVolume = AttachedByPath | AttachedAsObject


def connection_of(weft: WeftUnderDemo, name: str) -> NvmeofConnection:
    """What a host would need to reach the volume."""
    client = weft.client()
    volume = next(each for each in client.volumes() if each.volume.name == name)
    for attachment in client.attachments(volume_id=volume.volume.id):
        if attachment.connection is not None:
            return attachment.connection
    raise RuntimeError(f"volume {name} has no connection")
