"""From what a person types, a name or an id, to the one thing it means."""

import uuid
from collections.abc import Callable, Sequence
from typing import TypeVar

from weft.client import Client
from weft.errors import InvalidValueError, NotFoundError
from weft.model import (
    Host,
    HostId,
    PoolId,
    Profile,
    ProfileId,
    SnapshotId,
    Status,
    Volume,
    VolumeId,
)
from weft.views import PoolView, SnapshotView, TokenView, VolumeView

ThingT = TypeVar("ThingT")


def find_volume(client: Client, wanted: str) -> VolumeView:
    """Raises NotFoundError, and InvalidValueError when several volumes have that name."""
    return _find(
        "volume",
        wanted,
        by_id=lambda text: client.volume(VolumeId(text)),
        by_name=lambda name: _prefer_staying(client.volumes(name=name), lambda view: view.status),
        identity=lambda view: view.volume.id,
    )


def find_snapshot(client: Client, wanted: str, volume: Volume | None = None) -> SnapshotView:
    """The snapshot, of that volume if one is given."""
    volume_id = volume.id if volume is not None else None

    def by_id(text: str) -> SnapshotView:
        view = client.snapshot(SnapshotId(text))
        if volume is not None and view.snapshot.volume_id != volume.id:
            raise NotFoundError(f"snapshot {text} is not one of volume {volume.name}")
        return view

    return _find(
        "snapshot" if volume is None else f"snapshot of volume {volume.name}",
        wanted,
        by_id=by_id,
        by_name=lambda name: _prefer_staying(
            client.snapshots(volume_id, name=name), lambda view: view.status
        ),
        identity=lambda view: view.snapshot.id,
    )


def find_pool(client: Client, wanted: str) -> PoolView:
    return _find(
        "pool",
        wanted,
        by_id=lambda text: client.pool(PoolId(text)),
        by_name=lambda name: client.pools(name=name),
        identity=lambda view: view.pool.id,
    )


def find_host(client: Client, wanted: str) -> Host:
    return _find(
        "host",
        wanted,
        by_id=lambda text: client.host(HostId(text)),
        by_name=lambda name: client.hosts(name=name),
        identity=lambda host: host.id,
    )


def find_profile(client: Client, wanted: str) -> Profile:
    return _find(
        "profile",
        wanted,
        by_id=lambda text: client.profile(ProfileId(text)),
        by_name=lambda name: client.profiles(name=name),
        identity=lambda profile: profile.id,
    )


def find_token(client: Client, wanted: str) -> TokenView:
    return _find(
        "token",
        wanted,
        by_id=lambda text: _token_by_id(client, text),
        by_name=lambda name: client.tokens(name=name),
        identity=lambda token: token.id,
    )


def _token_by_id(client: Client, text: str) -> TokenView:
    for each in client.tokens():
        if each.id == text:
            return each
    raise NotFoundError(f"token {text} can't be found")


def is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _find(
    noun: str,
    wanted: str,
    *,
    by_id: Callable[[str], ThingT],
    by_name: Callable[[str], Sequence[ThingT]],
    identity: Callable[[ThingT], str],
) -> ThingT:
    """An id comes first: a name that looks like one is only looked up when no such id exists."""
    if is_id(wanted):
        try:
            return by_id(wanted)
        except NotFoundError as error:
            missing = error
    else:
        listing = f"weft {noun.partition(' ')[0]} list"
        missing = NotFoundError(
            f"there is no {noun} named {wanted!r}; `{listing}` shows those that there are"
        )
    found = by_name(wanted)
    if not found:
        raise missing
    if len(found) > 1:
        ids = ", ".join(sorted(identity(each) for each in found))
        raise InvalidValueError(noun, f"{len(found)} have the name {wanted!r}; give one of their ids: {ids}")
    return found[0]


def _prefer_staying(found: Sequence[ThingT], status: Callable[[ThingT], Status]) -> Sequence[ThingT]:
    """Those that are not being deleted; all when every one is."""
    return [each for each in found if status(each) is not Status.DELETING] or found
