"""The verbs on profiles: nobody has another's name, and none goes from under a volume."""

from dataclasses import replace

import pytest

from control.control_plane import ALICE, ControlPlane, refused
from weft.errors import ConflictError, InvalidValueError, NotFoundError
from weft.model import GIB
from weft.ports import PROFILES
from weft.requests import CreateVolumeRequest, ProfileRequest


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


def test_a_profile_does_not_go_from_under_a_volume_that_is_just_being_created(plane: ControlPlane) -> None:
    gold = plane.service.profiles.create(ProfileRequest(name="gold", storage_type="block"))
    before = plane.store.get(PROFILES, gold.id)
    plane.service.volumes.create(ALICE, CreateVolumeRequest(name="v", size=GIB, profile_id=gold.id))
    assert plane.store.get(PROFILES, gold.id) != before, "a deletion that looked before would not notice"
    refused(
        plane,
        ConflictError,
        r"There are dependent volumes : \['v'\] for the specified profile ID",
        lambda: plane.service.profiles.delete(gold.id),
    )
