"""All exports brought back at once after a restart.

nvmet forgets everything at a reboot, and no host gets its device back before the last export is there. Passes over one
volume after the other ask much about each; here the store, the pools and the target are asked about all at once. Only
volumes of which nothing else is to be done are taken; the passes that come after look at everything, and do the rest.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from weft.control.intent import Intent
from weft.control.locks import IdLocks
from weft.control.reconcile import restorable
from weft.control.steps import Wanted
from weft.errors import WeftError
from weft.model import Export, PoolId, Protocol, VolumeId
from weft.ports import Target, VolumeDriver

_log = logging.getLogger("weft.node")


def expected_volumes(everything: Iterable[Wanted]) -> Mapping[Protocol, frozenset[VolumeId]]:
    """The volumes that hosts may be waiting for, by protocol."""
    expected: defaultdict[Protocol, set[VolumeId]] = defaultdict(set)
    for wanted in everything:
        for each in wanted.attachments:
            if each.state is not None and each.state.connection is not None:
                expected[each.state.connection.protocol].add(wanted.volume.id)
    return {protocol: frozenset(volumes) for protocol, volumes in expected.items()}


def restore_exports(
    everything: Iterable[Wanted],
    intent: Intent,
    locks: IdLocks,
    drivers: Mapping[PoolId, VolumeDriver],
    targets: Mapping[Protocol, Target],
) -> None:
    """Those of the volumes that intent has read, as far as they are still wanted so."""
    of_pool: defaultdict[PoolId, list[Wanted]] = defaultdict(list)
    for wanted in everything:
        if wanted.attachments and wanted.volume.pool_id in drivers:
            of_pool[wanted.volume.pool_id].append(wanted)

    def restore(pool_id: PoolId) -> None:
        try:
            _restore_pool(of_pool[pool_id], intent, locks, drivers[pool_id], targets)
        except WeftError as error:
            _log.warning("the exports of pool %s are restored one by one: %s", pool_id, error)

    if len(of_pool) == 1:
        restore(*of_pool)
    elif of_pool:
        # A pool whose disks do not answer keeps nobody waiting for the others.
        with ThreadPoolExecutor(len(of_pool), thread_name_prefix="node-restore") as threads:
            list(threads.map(restore, of_pool))


def _restore_pool(
    volumes: Collection[Wanted],
    intent: Intent,
    locks: IdLocks,
    driver: VolumeDriver,
    targets: Mapping[Protocol, Target],
) -> None:
    here = driver.volumes()
    with locks.hold(*(each.volume.id for each in volumes)):
        unchanged = intent.unread()  # asked behind the locks, from where on nobody works on these volumes
        exports: defaultdict[Protocol, list[Export]] = defaultdict(list)
        for each in volumes:
            volume_id = each.volume.id
            wanted = each if unchanged.get(volume_id) is each else intent.read(volume_id)[0]
            if wanted is not None and wanted.pool is not None:
                export = restorable(wanted, here.get(volume_id))
                if export is not None:
                    exports[wanted.pool.protocol].append(export)
        for protocol, of_protocol in exports.items():
            if protocol in targets:
                targets[protocol].restore(of_protocol)
