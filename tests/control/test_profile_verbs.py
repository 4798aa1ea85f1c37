"""The verbs on profiles, and what a pool shows."""

from dataclasses import replace

import pytest

from control.control_plane import POOL, ControlPlane, make_pool
from weft.errors import ConflictError, InvalidValueError, NotFoundError
from weft.model import GIB, PoolId
from weft.ports import POOLS, Put
from weft.requests import ProfileRequest


def test_profiles_are_known_by_names_that_nobody_else_has(plane: ControlPlane) -> None:
    profiles = plane.service.profiles
    profiles.ensure_default()
    assert [each.name for each in profiles.list()] == ["default_block"]
    gold = profiles.create(ProfileRequest(name="gold", storage_type="block", description="fast"))
    with pytest.raises(ConflictError, match="the profile name 'gold' already exists"):
        profiles.create(ProfileRequest(name="gold", storage_type="block"))
    with pytest.raises(ConflictError, match="the profile name 'default_block' already exists"):
        profiles.update(gold.id, ProfileRequest(name="default_block"))
    renamed = profiles.update(gold.id, ProfileRequest(name="silver", custom_properties={"a": "1"}))
    assert (renamed.name, renamed.description, renamed.custom_properties) == ("silver", "fast", {"a": "1"})
    profiles.create(ProfileRequest(name="gold", storage_type="block"))
    profiles.update(gold.id, ProfileRequest(custom_properties={"b": "2"}))
    assert profiles.remove_property(gold.id, "a").custom_properties == {"b": "2"}
    with pytest.raises(NotFoundError, match="has no custom property a"):
        profiles.remove_property(gold.id, "a")
    profiles.delete(gold.id)
    profiles.create(ProfileRequest(name="silver", storage_type="block"))
    with pytest.raises(NotFoundError, match=f"profile {gold.id} can't be found"):
        profiles.get(gold.id)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"name": ""}, "name: must not be empty"),
        ({"storage_type": "file"}, "storageType: 'file' is invalid"),
        ({"storage_type": ""}, "storageType: '' is invalid"),
        ({"description": "\0"}, "description: must not hold"),
        ({"custom_properties": {"": "x"}}, "customProperties: must not be empty"),
        ({"custom_properties": {"a/b": "x"}}, "customProperties: .* may only hold"),
        ({"custom_properties": {"a": "\0"}}, "customProperties.a: must not hold"),
        ({"custom_properties": {"capabilities:iops": ">= many"}}, "capabilities:iops: .* no number"),
        ({"custom_properties": {str(n): "" for n in range(257)}}, "customProperties: holds more than 256"),
    ],
)
def test_a_wrong_profile_is_refused(plane: ControlPlane, changes: dict[str, object], refusal: str) -> None:
    before = plane.store.revision()
    asked = ProfileRequest(name="gold", storage_type="block")
    with pytest.raises(InvalidValueError, match=f"^{refusal}"):
        plane.service.profiles.create(replace(asked, **changes))  # type: ignore[arg-type]
    assert plane.store.revision() == before


def test_a_pool_shows_what_is_promised_of_it(plane: ControlPlane) -> None:
    volume = plane.volume(gib=3)
    plane.snapshot(volume, settle=False)
    plane.volume("unmade", gib=2, settle=False)
    plane.store.transact({}, [Put(POOLS, make_pool(over_commit=1.5))])
    (view,) = plane.service.pools.list()
    assert view == plane.service.pools.get(POOL)
    assert (view.total, view.booked, view.room) == (1024 * GIB, 8 * GIB, (1536 - 8) * GIB)
    with pytest.raises(NotFoundError, match="pool x can't be found"):
        plane.service.pools.get(PoolId("x"))
