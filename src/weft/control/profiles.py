"""Profiles: classes of volumes that a client asks for by name."""

from dataclasses import replace

from weft.control.requirements import requirements
from weft.control.rows import claims, now, retry_on_conflict
from weft.errors import ConflictError, InvalidValueError, NotFoundError
from weft.model import Profile, ProfileId, StorageType
from weft.names import check_name, check_text, new_id
from weft.ports import PROFILES, VOLUMES, Delete, Key, Put, Row, Store
from weft.requests import ProfileRequest

DEFAULT_PROFILE_NAME = "default_block"
_MAXIMUM_PROPERTIES = 256


class Profiles:
    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, request: ProfileRequest) -> Profile:
        """Raises ConflictError when the name is taken."""
        if request.storage_type != StorageType.BLOCK:
            raise InvalidValueError(
                "storageType", f"{request.storage_type!r} is invalid; weft serves block volumes"
            )
        profile = Profile(
            id=ProfileId(new_id()),
            name=check_name("name", request.name),
            created_at=now(),
            description=check_text("description", request.description),
            access_protocol=request.access_protocol,
            custom_properties=_checked_properties(request),
        )

        def attempt() -> Profile:
            expected, writes = claims(self._store, profile.id, _name_claim(profile.name))
            self._store.transact(expected, [Put(PROFILES, profile), *writes])
            return profile

        return retry_on_conflict(attempt)

    def ensure_default(self) -> None:
        """The profile that volumes without one get; made at the first start."""
        if not self._store.list(PROFILES, where={"name": DEFAULT_PROFILE_NAME}):
            self.create(
                ProfileRequest(name=DEFAULT_PROFILE_NAME, storage_type="block", description="the default")
            )

    def get(self, profile_id: ProfileId) -> Profile:
        return self._row(profile_id).value

    def list(self) -> list[Profile]:
        return [row.value for row in self._store.list(PROFILES)]

    def chosen(self, profile_id: ProfileId | None) -> Row[Profile]:
        """The profile asked for, or the default one. Raises InvalidValueError when it is not there."""
        if profile_id is not None:
            row = self._store.get(PROFILES, profile_id)
            if row is None:
                raise InvalidValueError(
                    "profileId", f"get profile failed: profile {profile_id} can't be found"
                )
            return row
        found = self._store.list(PROFILES, where={"name": DEFAULT_PROFILE_NAME})
        if not found:
            raise InvalidValueError(
                "profileId", f"get default profile failed: can't find profile(name: {DEFAULT_PROFILE_NAME})"
            )
        return found[0]

    def update(self, profile_id: ProfileId, request: ProfileRequest) -> Profile:
        """Give it another name, description or further custom properties."""

        def attempt() -> Profile:
            row = self._row(profile_id)
            changed = replace(
                row.value,
                name=check_name("name", request.name) if request.name else row.value.name,
                description=check_text("description", request.description) or row.value.description,
                custom_properties={**row.value.custom_properties, **_checked_properties(request)},
                updated_at=now(),
            )
            if len(changed.custom_properties) > _MAXIMUM_PROPERTIES:
                raise InvalidValueError("customProperties", f"holds more than {_MAXIMUM_PROPERTIES} entries")
            return self._put(row, changed)

        return retry_on_conflict(attempt)

    def remove_property(self, profile_id: ProfileId, key: str) -> Profile:
        def attempt() -> Profile:
            row = self._row(profile_id)
            if key not in row.value.custom_properties:
                raise NotFoundError(f"profile {profile_id} has no custom property {key}")
            kept = {name: value for name, value in row.value.custom_properties.items() if name != key}
            return self._put(row, replace(row.value, custom_properties=kept, updated_at=now()))

        return retry_on_conflict(attempt)

    def delete(self, profile_id: ProfileId) -> None:
        """Raises ConflictError while volumes use it."""

        def attempt() -> None:
            row = self._row(profile_id)
            users = [each.value.name for each in self._store.list(VOLUMES, where={"profile_id": profile_id})]
            if users:
                raise ConflictError(f"There are dependent volumes : {users} for the specified profile ID")
            key = Key(PROFILES.name, profile_id)
            _, writes = claims(self._store, profile_id, {}, _name_claim(row.value.name))
            self._store.transact({key: row.revision}, [Delete(key), *writes])

        retry_on_conflict(attempt)

    def _row(self, profile_id: ProfileId) -> Row[Profile]:
        row = self._store.get(PROFILES, profile_id)
        if row is None:
            raise NotFoundError(f"profile {profile_id} can't be found")
        return row

    def _put(self, row: Row[Profile], changed: Profile) -> Profile:
        expected, writes = claims(
            self._store, changed.id, _name_claim(changed.name), _name_claim(row.value.name)
        )
        expected[Key(PROFILES.name, changed.id)] = row.revision
        self._store.transact(expected, [Put(PROFILES, changed), *writes])
        return changed


def _name_claim(name: str) -> dict[str, str]:
    return {f"profile:{name}": f"the profile name '{name}' already exists"}


def _checked_properties(request: ProfileRequest) -> dict[str, str]:
    if len(request.custom_properties) > _MAXIMUM_PROPERTIES:
        raise InvalidValueError("customProperties", f"holds more than {_MAXIMUM_PROPERTIES} entries")
    for key, value in request.custom_properties.items():
        check_name("customProperties", key.replace(":", "."))
        check_text(f"customProperties.{key}", value)
    requirements(request.custom_properties)
    return dict(request.custom_properties)
