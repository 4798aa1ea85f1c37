"""Many volumes at once: made, exported, attached to one host, told apart, and all taken away again.

A host's part goes by weft's connector as a library: a command line for each volume would take minutes in an emulated
machine.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from lab.errors import LabError
from lab.vm import Vm
from lab.world import StorageNode
from weft.client import Client
from weft.connection import NvmeofConnection, to_data
from weft.errors import NotFoundError
from weft.model import GIB, AttachmentId, HostId, Status, VolumeId
from weft.requests import CreateAttachmentRequest, CreateVolumeRequest
from weft.views import AttachmentView, VolumeView

_BULK_SECONDS: Final = 1200.0
_WAIT: Final = 60.0  # for one answer; some hundred LVM commands may be waiting for one another
_ItemT = TypeVar("_ItemT")
_ResultT = TypeVar("_ResultT")

_CONNECTOR: Final = r"""
import json, sys
from concurrent.futures import ThreadPoolExecutor
from weft.connectors import open_connector

verb = getattr(open_connector("nvmeof"), sys.argv[1])
with ThreadPoolExecutor(int(sys.argv[2])) as pool:
    results = list(pool.map(verb, json.load(sys.stdin)))
print(json.dumps([result and str(result) for result in results]))
"""

# A stamp is a word at the beginning of a 4 KiB block.
_STAMP: Final = r"""
while read -r path word; do
    printf %s "$word" | dd of="$path" bs=4096 count=1 conv=sync,notrunc oflag=direct status=none
done
"""
_READ: Final = r"""
while read -r path; do dd if="$path" bs=4096 count=1 iflag=direct status=none | tr -d '\0'; echo; done
"""


def in_parallel(
    work: Callable[[_ItemT], _ResultT], items: Iterable[_ItemT], *, at_once: int = 50
) -> list[_ResultT]:
    """The results of work in the order of items. Raises the first failure, when all have ended."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(work, items))


def make_all(node: StorageNode, names: Sequence[str]) -> list[VolumeView]:
    """Have volumes of 1 GiB. Raises LabError with the reason when one does not come about."""
    client = node.client

    def make(name: str) -> VolumeView:
        made = client.create_volume(CreateVolumeRequest(name=name, size=GIB)).volume.id
        found = _settled(client, made)
        if found.status is not Status.AVAILABLE:
            raise LabError(f"volume {name} is {found.status.value}: {found.reason}\n{node.log()}")
        return found

    return in_parallel(make, names)


def export_all(
    node: StorageNode, volumes: Sequence[VolumeId], host_id: HostId
) -> dict[VolumeId, NvmeofConnection]:
    """Export volumes to a host. Raises LabError with the reason when one does not come about."""
    client = node.client

    def export(volume_id: VolumeId) -> NvmeofConnection:
        request = CreateAttachmentRequest(volume_id=volume_id, host_id=host_id)
        made = client.create_attachment(request).attachment.id
        deadline = time.monotonic() + _BULK_SECONDS
        while (found := client.attachment(made, wait=_WAIT)).connection is None:
            _still(found, deadline)
        return found.connection

    return dict(zip(volumes, in_parallel(export, volumes), strict=True))


def withdraw_all(node: StorageNode) -> None:
    """Delete all attachments, whatever their hosts do."""
    client = node.client

    def withdraw(attachment_id: AttachmentId) -> bool:
        return client.delete_attachment(attachment_id, wait=_WAIT)

    _until_gone(withdraw, [each.attachment.id for each in client.attachments()])


def delete_all(node: StorageNode) -> None:
    """Delete all volumes."""
    client = node.client

    def delete(volume_id: VolumeId) -> bool:
        return client.delete_volume(volume_id, wait=_WAIT)

    _until_gone(delete, [each.volume.id for each in client.volumes()])


def attach_all(
    vm: Vm, connections: Mapping[VolumeId, NvmeofConnection], *, at_once: int = 50
) -> dict[VolumeId, str]:
    """Attach volumes on a host, so many at the same time; the paths of the devices."""
    paths = _connector(vm, "attach", connections, at_once)
    return dict(zip(connections, paths, strict=True))


def detach_all(vm: Vm, connections: Mapping[VolumeId, NvmeofConnection], *, at_once: int = 50) -> None:
    _connector(vm, "detach", connections, at_once)


def stamp(vm: Vm, words: Mapping[str, str]) -> None:
    """Write a word at the beginning of each device, past every cache."""
    vm.run(_STAMP, _BULK_SECONDS, stdin="".join(f"{path} {word}\n" for path, word in words.items()))


def stamps(vm: Vm, paths: Sequence[str]) -> list[str]:
    """The words at the beginning of devices, read past every cache."""
    return vm.run(_READ, _BULK_SECONDS, stdin="".join(f"{path}\n" for path in paths)).stdout.splitlines()


def _settled(client: Client, volume_id: VolumeId) -> VolumeView:
    deadline = time.monotonic() + _BULK_SECONDS
    while True:
        found = client.volume(volume_id, wait=_WAIT)
        if found.status is not Status.CREATING:
            return found
        if time.monotonic() > deadline:
            raise LabError(f"volume {found.volume.name} is still being made: {found.reason}")


def _still(attachment: AttachmentView, deadline: float) -> None:
    if attachment.status is not Status.CREATING or time.monotonic() > deadline:
        raise LabError(
            f"attachment {attachment.attachment.id} is {attachment.status.value}: {attachment.reason}"
        )


def _until_gone(delete: Callable[[_ItemT], bool], items: Sequence[_ItemT]) -> None:
    def is_gone(item: _ItemT) -> bool:
        try:
            return delete(item)
        except NotFoundError:  # since it was asked for: only so many calls can wait at the same time
            return True

    deadline = time.monotonic() + _BULK_SECONDS
    left = items
    while left:
        gone = in_parallel(is_gone, left)
        left = [each for each, has_gone in zip(left, gone, strict=True) if not has_gone]
        if left and time.monotonic() > deadline:
            raise LabError(f"{len(left)} of {len(items)} are still there, among them {left[0]}")


def _connector(vm: Vm, verb: str, connections: Mapping[VolumeId, NvmeofConnection], at_once: int) -> Any:
    wanted = json.dumps([to_data(each) for each in connections.values()])
    words = ["/opt/weft/bin/python", "-c", _CONNECTOR, verb, str(at_once)]
    return json.loads(vm.run(words, _BULK_SECONDS, stdin=wanted).stdout)
