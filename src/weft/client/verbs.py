"""The verbs of the API: what each one is called with, and what its answer is read as."""

from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import quote, urlencode

from weft.client.calls import Answer, Api
from weft.config import Config
from weft.errors import InvalidValueError, NotFoundError
from weft.login import load_login
from weft.model import (
    AttachmentId,
    DhChapSecrets,
    Host,
    HostId,
    PoolId,
    Profile,
    ProfileId,
    SnapshotId,
    TenantId,
    VolumeId,
)
from weft.requests import (
    DEFAULT_TENANT,
    CreateAttachmentRequest,
    CreateSnapshotRequest,
    CreateTokenRequest,
    CreateVolumeRequest,
    HostRequest,
    ProfileRequest,
    UpdateAttachmentRequest,
    UpdateRequest,
)
from weft.tokens import TokenId
from weft.views import (
    AttachmentView,
    HeldKeys,
    NewToken,
    PoolView,
    RefusalView,
    SnapshotView,
    TokenView,
    VolumeView,
)
from weft.wire.attachments import AttachmentBody, AttachmentResource, UpdateAttachmentBody
from weft.wire.codec import decode_reply, encode
from weft.wire.host_secrets import HeldSecrets, HostSecretsBody
from weft.wire.hosts import HostBody, HostResource
from weft.wire.pools import PoolResource
from weft.wire.profiles import ProfileBody, ProfileResource
from weft.wire.refusals import RefusalObject
from weft.wire.snapshots import SnapshotBody, SnapshotResource
from weft.wire.tokens import TokenBody, TokenResource
from weft.wire.versions import VersionObject
from weft.wire.volumes import ResizeBody, RevertBody, UpdateBody, VolumeBody, VolumeResource

ReplyT = TypeVar("ReplyT")

_ROOT = "v1beta"
_EVERYTHING = "1000000"
_VOLUMES = "block/volumes"
_SNAPSHOTS = "block/snapshots"
_ATTACHMENTS = "block/attachments"
_HOSTS = "host/hosts"
_POOLS = "pools"
_PROFILES = "profiles"
_TOKENS = "tokens"


class Client:
    """Calls one API endpoint on behalf of one tenant. Safe to use from several threads: a connection per call.

    endpoint is `unix:///path/of/socket`, `https://host:port` or, on this machine only, `http://host:port`. A server
    over TLS is known by pin, when that is given, and otherwise by one of the system's authorities that vouches for
    it; before that nothing is sent. timeout is how many seconds a call may take beyond the time that it is asked to
    wait.

    Verbs with wait give the node up to so many seconds to deal with what was asked, and return the resource as it
    is then: look at its status. Deletions return whether the resource is gone.

    Every method raises the errors that the service raised, and UnavailableError when the API cannot be reached or
    does not answer in time; then a change that was asked for may or may not have been made.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        tenant_id: TenantId = DEFAULT_TENANT,
        token: str | None = None,
        pin: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.tenant_id = tenant_id
        self._api = Api(endpoint, token=token, pin=pin, timeout=timeout)

    @classmethod
    def for_config(
        cls, config: Config, *, tenant_id: TenantId = DEFAULT_TENANT, timeout: float = 30.0
    ) -> "Client":
        """A client of the weft serve that this machine was logged in to or, where it was to none, of the one that runs
        here with this configuration, over its unix socket.
        """
        login = load_login(config.login_file)
        if login is None:
            return cls(f"unix://{config.api_socket}", tenant_id=tenant_id, timeout=timeout)
        return cls(login.url, tenant_id=tenant_id, token=login.token, pin=login.pin, timeout=timeout)

    @classmethod
    def for_url(
        cls,
        url: str,
        token: str | None = None,
        *,
        pin: str | None = None,
        tenant_id: TenantId = DEFAULT_TENANT,
        timeout: float = 30.0,
    ) -> "Client":
        """A client of an API that listens on TCP, such as https://node1:50040 or http://127.0.0.1:50040."""
        return cls(url, tenant_id=tenant_id, token=token, pin=pin, timeout=timeout)

    def api_versions(self) -> list[str]:
        """The versions of the API that the endpoint offers; also a cheap way to see that it is there."""
        return [each.name for each in decode_reply(self._api.call("GET", "/").body, list[VersionObject])]

    # -- volumes ----------------------------------------------------------------------------------------------

    def create_volume(self, request: CreateVolumeRequest, wait: float = 0.0) -> VolumeView:
        return self._send("POST", _VOLUMES, VolumeResource, VolumeBody.of(request), wait).view()

    def volume(self, volume_id: VolumeId, wait: float = 0.0) -> VolumeView:
        return self._get(_VOLUMES, volume_id, VolumeResource, wait).view()

    def volumes(self, *, name: str | None = None) -> list[VolumeView]:
        return [each.view() for each in self._list(_VOLUMES, VolumeResource, name=name)]

    def update_volume(self, volume_id: VolumeId, request: UpdateRequest) -> VolumeView:
        path = _path(_VOLUMES, volume_id)
        return self._send("PUT", path, VolumeResource, UpdateBody.of(request)).view()

    def extend_volume(self, volume_id: VolumeId, size: int, wait: float = 0.0) -> VolumeView:
        """size is bytes, whole GiB."""
        path = _path(_VOLUMES, volume_id, "resize")
        return self._send("POST", path, VolumeResource, ResizeBody.of(size), wait).view()

    def revert_volume(self, volume_id: VolumeId, snapshot_id: SnapshotId, wait: float = 0.0) -> VolumeView:
        path = _path(_VOLUMES, volume_id, "revert")
        return self._send("POST", path, VolumeResource, RevertBody(snapshot_id=snapshot_id), wait).view()

    def delete_volume(self, volume_id: VolumeId, wait: float = 0.0) -> bool:
        return self._delete(_VOLUMES, volume_id, wait)

    def refusals(self, volume_id: VolumeId, initiator: str | None = None) -> list[RefusalView]:
        """Hosts that were turned away from the volume lately, the last first; initiator: only this one."""
        query = f"?{urlencode({'hostNqn': initiator})}" if initiator is not None else ""
        answer = self._request("GET", _path(_VOLUMES, volume_id, "refusals") + query)
        return [each.view(volume_id) for each in decode_reply(answer.body, list[RefusalObject])]

    # -- snapshots --------------------------------------------------------------------------------------------

    def create_snapshot(self, request: CreateSnapshotRequest, wait: float = 0.0) -> SnapshotView:
        return self._send("POST", _SNAPSHOTS, SnapshotResource, SnapshotBody.of(request), wait).view()

    def snapshot(self, snapshot_id: SnapshotId, wait: float = 0.0) -> SnapshotView:
        return self._get(_SNAPSHOTS, snapshot_id, SnapshotResource, wait).view()

    def snapshots(self, volume_id: VolumeId | None = None, *, name: str | None = None) -> list[SnapshotView]:
        listed = self._list(_SNAPSHOTS, SnapshotResource, volumeId=volume_id, name=name)
        return [each.view() for each in listed]

    def update_snapshot(self, snapshot_id: SnapshotId, request: UpdateRequest) -> SnapshotView:
        path = _path(_SNAPSHOTS, snapshot_id)
        return self._send("PUT", path, SnapshotResource, UpdateBody.of(request)).view()

    def delete_snapshot(self, snapshot_id: SnapshotId, wait: float = 0.0) -> bool:
        return self._delete(_SNAPSHOTS, snapshot_id, wait)

    # -- attachments ------------------------------------------------------------------------------------------

    def create_attachment(self, request: CreateAttachmentRequest, wait: float = 0.0) -> AttachmentView:
        return self._send("POST", _ATTACHMENTS, AttachmentResource, AttachmentBody.of(request), wait).view()

    def attachment(
        self, attachment_id: AttachmentId, wait: float = 0.0, *, secrets: bool = False
    ) -> AttachmentView:
        """secrets: the connection holds the keys by which the host is to authenticate, if it is to."""
        path = _path(_ATTACHMENTS, attachment_id) + ("?secrets=true" if secrets else "")
        return decode_reply(self._request("GET", path, wait=wait).body, AttachmentResource).view()

    def attachments(
        self, volume_id: VolumeId | None = None, host_id: HostId | None = None
    ) -> list[AttachmentView]:
        listed = self._list(_ATTACHMENTS, AttachmentResource, volumeId=volume_id, hostId=host_id)
        return [each.view() for each in listed]

    def update_attachment(
        self, attachment_id: AttachmentId, request: UpdateAttachmentRequest
    ) -> AttachmentView:
        path = _path(_ATTACHMENTS, attachment_id)
        return self._send("PUT", path, AttachmentResource, UpdateAttachmentBody.of(request)).view()

    def delete_attachment(self, attachment_id: AttachmentId, wait: float = 0.0) -> bool:
        """Cut the host off. True once it is certain that the host can no longer reach the volume."""
        return self._delete(_ATTACHMENTS, attachment_id, wait)

    # -- hosts ------------------------------------------------------------------------------------------------

    def create_host(self, request: HostRequest) -> Host:
        return self._send("POST", _HOSTS, HostResource, HostBody.of(request)).host()

    def host(self, host_id: HostId) -> Host:
        return self._get(_HOSTS, host_id, HostResource).host()

    def hosts(self, *, name: str | None = None) -> list[Host]:
        return [each.host() for each in self._list(_HOSTS, HostResource, hostName=name)]

    def update_host(self, host_id: HostId, request: HostRequest) -> Host:
        return self._send("PUT", _path(_HOSTS, host_id), HostResource, HostBody.of(request)).host()

    def held_secrets(self, host_id: HostId) -> HeldKeys:
        """Which keys the host has; they themselves come with attachment(secrets=True)."""
        return decode_reply(self._request("GET", _path(_HOSTS, host_id, "secrets")).body, HeldSecrets).keys()

    def set_host_secrets(self, host_id: HostId, secrets: DhChapSecrets, *, force: bool = False) -> HeldKeys:
        """Have the host authenticate with these keys. force: also while volumes are attached to it."""
        path, body = _path(_HOSTS, host_id, "secrets"), HostSecretsBody.of(secrets, force=force)
        return self._send("PUT", path, HeldSecrets, body).keys()

    def generate_host_secrets(
        self, host_id: HostId, *, both_ways: bool = False, force: bool = False
    ) -> HeldKeys:
        """As set_host_secrets, with new keys that nobody sees but the node and the host."""
        path, body = (
            _path(_HOSTS, host_id, "secrets"),
            HostSecretsBody(generate=True, both_ways=both_ways, force=force),
        )
        return self._send("PUT", path, HeldSecrets, body).keys()

    def remove_host_secrets(self, host_id: HostId, *, force: bool = False) -> None:
        """Let the host in by its NQN alone."""
        self._request("DELETE", _path(_HOSTS, host_id, "secrets") + ("?force=true" if force else ""))

    def delete_host(self, host_id: HostId) -> None:
        self._request("DELETE", _path(_HOSTS, host_id))

    # -- tokens -----------------------------------------------------------------------------------------------

    def own_token(self) -> TokenView:
        """What this client comes with: its scope and, if it was made by name, the rest."""
        return decode_reply(self._request("GET", "token").body, TokenResource).view()

    def create_token(self, request: CreateTokenRequest) -> NewToken:
        return self._send("POST", _TOKENS, TokenResource, TokenBody.of(request)).new_token()

    def tokens(self, *, name: str | None = None) -> list[TokenView]:
        return [each.view() for each in self._list(_TOKENS, TokenResource, name=name)]

    def revoke_token(self, token_id: TokenId) -> None:
        """From when this returns the token opens nothing any more, on no connection."""
        self._request("DELETE", _path(_TOKENS, token_id))

    # -- pools ------------------------------------------------------------------------------------------------

    def pool(self, pool_id: PoolId) -> PoolView:
        return self._get(_POOLS, pool_id, PoolResource).view()

    def pools(self, *, name: str | None = None) -> list[PoolView]:
        return [each.view() for each in self._list(_POOLS, PoolResource, name=name)]

    def availability_zones(self) -> list[str]:
        return decode_reply(self._request("GET", "availabilityZones").body, list[str])

    # -- profiles ---------------------------------------------------------------------------------------------

    def create_profile(self, request: ProfileRequest) -> Profile:
        return self._send("POST", _PROFILES, ProfileResource, ProfileBody.of(request)).profile()

    def profile(self, profile_id: ProfileId) -> Profile:
        return self._get(_PROFILES, profile_id, ProfileResource).profile()

    def profiles(self, *, name: str | None = None) -> list[Profile]:
        return [each.profile() for each in self._list(_PROFILES, ProfileResource, name=name)]

    def update_profile(self, profile_id: ProfileId, request: ProfileRequest) -> Profile:
        path = _path(_PROFILES, profile_id)
        return self._send("PUT", path, ProfileResource, ProfileBody.of(request)).profile()

    def add_profile_properties(
        self, profile_id: ProfileId, properties: Mapping[str, str]
    ) -> Mapping[str, str]:
        """Merge properties into the profile's custom properties; returns all that it has then."""
        path = _path(_PROFILES, profile_id, "customProperties")
        return self._send("POST", path, dict[str, str], dict(properties))

    def remove_profile_property(self, profile_id: ProfileId, key: str) -> None:
        self._request("DELETE", _path(_PROFILES, profile_id, "customProperties", key))

    def delete_profile(self, profile_id: ProfileId) -> None:
        self._request("DELETE", _path(_PROFILES, profile_id))

    # -- helpers ----------------------------------------------------------------------------------------------

    def _get(self, collection: str, row_id: str, shape: type[ReplyT], wait: float = 0.0) -> ReplyT:
        return decode_reply(self._request("GET", _path(collection, row_id), wait=wait).body, shape)

    def _list(self, collection: str, shape: type[ReplyT], **filters: str | None) -> list[ReplyT]:
        query = {"limit": _EVERYTHING, "sortKey": "id", "sortDir": "asc"}
        query |= {key: value for key, value in filters.items() if value is not None}
        body = self._request("GET", f"{collection}?{urlencode(query)}").body
        return decode_reply(body, list[shape])  # type: ignore[valid-type]

    def _send(self, method: str, path: str, shape: type[ReplyT], body: object, wait: float = 0.0) -> ReplyT:
        return decode_reply(self._request(method, path, encode(body), wait).body, shape)

    def _delete(self, collection: str, row_id: str, wait: float) -> bool:
        path = _path(collection, row_id)
        answer = self._request("DELETE", path, wait=wait)
        if answer.waited:
            return not answer.body
        try:
            self._request("GET", path)
        except NotFoundError:
            return True
        return False

    def _request(self, method: str, path: str, body: bytes | None = None, wait: float = 0.0) -> Answer:
        return self._api.call(method, f"/{_ROOT}/{quote(self.tenant_id, safe='')}/{path}", body, wait)


def _path(collection: str, row_id: str, *rest: str) -> str:
    if not row_id or "/" in row_id:  # a server decodes %2F before it looks at the path
        raise InvalidValueError("id", "must not be empty or hold a slash")
    return "/".join([collection, *(quote(each, safe="") for each in (row_id, *rest))])
