"""Why a host was not let in to a volume: what the rows say, and what the node's target saw."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol as Door

from weft.control.rows import owned
from weft.model import Host, Protocol, Refusal, RefusalReason, Volume, VolumeId
from weft.ports import ATTACHMENTS, HOSTS, POOLS, VOLUMES, Store
from weft.requests import Caller
from weft.views import RefusalView


class Witness(Door):
    """What is asked of a target here; nothing of it is changed."""

    def refusals(self, volume_id: VolumeId) -> Sequence[Refusal]: ...


class Refusals:
    def __init__(self, store: Store, witnesses: Mapping[Protocol, Witness]) -> None:
        self._store = store
        self._witnesses = witnesses

    def list(self, caller: Caller, volume_id: VolumeId, initiator: str | None = None) -> list[RefusalView]:
        """Hosts that were turned away from the volume lately, the last first; initiator: only this one.

        A host that is asked about and is not attached is told so, whether it has tried or not. Who acts for one host
        hears of that host alone. Raises UnavailableError when the target does not answer.
        """
        volume = owned(self._store, VOLUMES, caller, volume_id, "volume").value
        listed = self._listed(volume)
        wanted = initiator
        if caller.only is not None:
            wanted = self._own_initiator(caller) or ""
            if initiator not in {None, wanted}:
                return []
        found = [_view(each, volume) for each in self._seen(volume) if wanted in {None, each.initiator}]
        if wanted and wanted not in listed and not found:
            found.append(_unseen(wanted, volume))
        return found

    def _seen(self, volume: Volume) -> Sequence[Refusal]:
        pool = self._store.get(POOLS, volume.pool_id)
        witness = self._witnesses.get(pool.value.protocol if pool is not None else Protocol.NVMEOF)
        return witness.refusals(volume.id) if witness is not None else ()

    def _listed(self, volume: Volume) -> set[str]:
        """The initiators that are to be let in."""
        hosts = [
            (self._store.get(HOSTS, row.value.host_id), row.value.protocol)
            for row in self._store.list(ATTACHMENTS, where={"volume_id": volume.id})
            if not row.value.deleting
        ]
        return {
            name for host, protocol in hosts if host is not None and (name := host.value.initiator(protocol))
        }

    def _own_initiator(self, caller: Caller) -> str | None:
        host_id = caller.only.host_id if caller.only is not None else None
        host: Host | None = None
        if host_id is not None and (row := self._store.get(HOSTS, host_id)) is not None:
            host = row.value
        return host.initiator(Protocol.NVMEOF) if host is not None else None


def _view(refusal: Refusal, volume: Volume) -> RefusalView:
    return RefusalView(
        volume_id=refusal.volume_id,
        initiator=refusal.initiator,
        reason=refusal.reason,
        at=refusal.at,
        age=max(0.0, (datetime.now(UTC) - refusal.at).total_seconds()),
        message=_sentence(refusal.reason, refusal.initiator, volume),
    )


def _unseen(initiator: str, volume: Volume) -> RefusalView:
    return RefusalView(
        volume_id=volume.id,
        initiator=initiator,
        reason=RefusalReason.NOT_LISTED,
        message=_sentence(RefusalReason.NOT_LISTED, initiator, volume),
    )


def _sentence(reason: RefusalReason, initiator: str, volume: Volume) -> str:
    match reason:
        case RefusalReason.NOT_LISTED:
            return (
                f"volume {volume.name} is not attached to a host with NQN {initiator}: attach it there with `weft"
                f" attach {volume.name}`, or see by `weft host list` with which NQN that host is registered"
            )
        case RefusalReason.NO_KEY:
            return (
                f"host {initiator} must authenticate and offered no key: `weft attach {volume.name}` on it fetches the"
                " key and uses it"
            )
        case RefusalReason.WRONG_KEY:
            return (
                f"host {initiator} authenticated with another key than the one it was given: `weft attach"
                f" {volume.name}` on it fetches the present one"
            )
