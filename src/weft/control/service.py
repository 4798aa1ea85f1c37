"""The verbs: check, schedule, write intent. Nothing here touches a device; the node does what was written."""

import time
from collections.abc import Callable, Mapping

from weft.control.attachments import Attachments
from weft.control.hosts import Hosts
from weft.control.pools import Pools
from weft.control.profiles import Profiles
from weft.control.refusals import Refusals, Witness
from weft.control.secrets import Secrets
from weft.control.snapshots import Snapshots
from weft.control.tokens import Tokens
from weft.control.volumes import Volumes
from weft.errors import NotFoundError
from weft.model import AttachmentId, Protocol, SnapshotId, VolumeId
from weft.ports import Store
from weft.requests import Caller

LONGEST_WAIT_SECONDS = 300.0


class Service:
    """All verbs of the control plane, by resource. witnesses: the node's targets, which are only asked."""

    def __init__(self, store: Store, witnesses: Mapping[Protocol, Witness] | None = None) -> None:
        self._store = store
        self.pools = Pools(store)
        self.profiles = Profiles(store)
        self.hosts = Hosts(store)
        self.tokens = Tokens(store)
        self.secrets = Secrets(store)
        self.refusals = Refusals(store, witnesses or {})
        self.volumes = Volumes(store, self.pools, self.profiles)
        self.snapshots = Snapshots(store, self.pools, self.volumes)
        self.attachments = Attachments(store, self.volumes, self.secrets)

    def wait_for_volume(self, caller: Caller, volume_id: VolumeId, seconds: float) -> bool:
        """Wait until the volume's intent is dealt with, or it is gone, for at most seconds; tell whether it is so."""
        return self._wait(lambda: self.volumes.is_settled(self.volumes.row(caller, volume_id).value), seconds)

    def wait_for_snapshot(self, caller: Caller, snapshot_id: SnapshotId, seconds: float) -> bool:
        return self._wait(
            lambda: self.snapshots.is_settled(self.snapshots.row(caller, snapshot_id).value), seconds
        )

    def wait_for_attachment(self, caller: Caller, attachment_id: AttachmentId, seconds: float) -> bool:
        return self._wait(
            lambda: self.attachments.is_settled(self.attachments.row(caller, attachment_id).value), seconds
        )

    def _wait(self, is_settled: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + min(seconds, LONGEST_WAIT_SECONDS)
        revision = self._store.revision()
        while True:
            try:
                if is_settled():
                    return True
            except NotFoundError:
                return True
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            revision = self._store.watch(revision, remaining).revision
