"""What the server writes of a view, the client reads as the same view; what the client writes of a request, the
server reads as the same request.
"""

from datetime import UTC, datetime
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.connection import NvmeofConnection, NvmeofPortal
from weft.errors import (
    ConflictError,
    DataError,
    InvalidValueError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    RevisionConflictError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
    WeftError,
)
from weft.model import (
    GIB,
    AccessMode,
    Attachment,
    AttachmentId,
    Host,
    HostId,
    Initiator,
    NodeId,
    Pool,
    PoolId,
    Profile,
    ProfileId,
    Protocol,
    Provisioning,
    Snapshot,
    SnapshotId,
    StateStatus,
    Status,
    TenantId,
    Transport,
    Volume,
    VolumeId,
)
from weft.requests import (
    CreateAttachmentRequest,
    CreateSnapshotRequest,
    CreateVolumeRequest,
    HostRequest,
    ProfileRequest,
    UpdateAttachmentRequest,
    UpdateRequest,
)
from weft.views import AttachmentView, PoolView, SnapshotView, VolumeView
from weft.wire.attachments import AttachmentBody, AttachmentResource, UpdateAttachmentBody
from weft.wire.base import Resource
from weft.wire.codec import decode_body, decode_reply, encode
from weft.wire.errors import ErrorObject
from weft.wire.hosts import HostBody, HostResource
from weft.wire.pools import PoolResource
from weft.wire.profiles import ProfileBody, ProfileResource
from weft.wire.snapshots import SnapshotBody, SnapshotResource
from weft.wire.volumes import UpdateBody, VolumeBody, VolumeResource

ValueT = TypeVar("ValueT")

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
IDS = st.uuids(version=4).map(str)
GIBS = st.integers(1, 2**20).map(lambda size: size * GIB)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)).map(  # noqa: DTZ001 -- given its zone below
    lambda time: time.replace(microsecond=0, tzinfo=UTC)
)
METADATA = st.dictionaries(
    TEXT.filter(lambda key: key.lower() not in {"lvpath", "lvspath"}), TEXT, max_size=3
)
DELETING = {Status.DELETING, Status.ERROR_DELETING}


def over_the_wire(resource: Resource) -> Resource:
    return decode_reply(encode(resource), type(resource))


@st.composite
def volume_views(draw: st.DrawFn) -> VolumeView:
    status = draw(st.sampled_from(Status))
    size = draw(GIBS)
    volume = Volume(
        id=VolumeId(draw(IDS)),
        tenant_id=TenantId(draw(TEXT)),
        name=draw(TEXT),
        size=size + GIB if status is Status.EXTENDING else size,
        pool_id=PoolId(draw(IDS)),
        created_at=draw(TIMES),
        updated_at=draw(st.none() | TIMES),
        user_id=draw(TEXT),
        description=draw(TEXT),
        profile_id=draw(st.none() | IDS.map(ProfileId)),
        availability_zone=draw(TEXT),
        multi_attach=draw(st.booleans()),
        source_snapshot_id=draw(st.none() | IDS.map(SnapshotId)),
        metadata=draw(METADATA),
        deleting=status in DELETING,
    )
    return VolumeView(volume=volume, status=status, size=size, path=draw(TEXT), reason=draw(TEXT))


@given(view=volume_views())
def test_volumes(view: VolumeView) -> None:
    resource = over_the_wire(VolumeResource.of(view))
    assert isinstance(resource, VolumeResource)
    assert resource.view() == view


@st.composite
def snapshot_views(draw: st.DrawFn) -> SnapshotView:
    status = draw(st.sampled_from([Status.CREATING, Status.AVAILABLE, Status.ERROR, *DELETING]))
    size = draw(GIBS)
    snapshot = Snapshot(
        id=SnapshotId(draw(IDS)),
        volume_id=VolumeId(draw(IDS)),
        tenant_id=TenantId(draw(TEXT)),
        name=draw(TEXT),
        size=size,
        created_at=draw(TIMES),
        updated_at=draw(st.none() | TIMES),
        description=draw(TEXT),
        profile_id=draw(st.none() | IDS.map(ProfileId)),
        metadata=draw(METADATA),
        deleting=status in DELETING,
    )
    return SnapshotView(snapshot=snapshot, status=status, size=size, path=draw(TEXT), reason=draw(TEXT))


@given(view=snapshot_views())
def test_snapshots(view: SnapshotView) -> None:
    resource = over_the_wire(SnapshotResource.of(view))
    assert isinstance(resource, SnapshotResource)
    assert resource.view() == view


@st.composite
def attachment_views(draw: st.DrawFn) -> AttachmentView:
    status = draw(st.sampled_from([Status.CREATING, Status.AVAILABLE, Status.ERROR, *DELETING]))
    volume_id = VolumeId(draw(IDS))
    portals = st.builds(
        NvmeofPortal,
        transport=st.sampled_from([Transport.TCP, Transport.RDMA]),
        address=st.ip_addresses().map(str),
        port=st.integers(1, 65535),
    )
    connection = NvmeofConnection(
        volume_id=volume_id,
        nqn=f"nqn.2019-01.com.opensds:nvme:{volume_id}",
        portals=tuple(draw(st.lists(portals, min_size=1, max_size=3))),
        host_nqn=f"nqn.2014-08.org.nvmexpress:uuid:{draw(IDS)}",
    )
    attachment = Attachment(
        id=AttachmentId(draw(IDS)),
        volume_id=volume_id,
        host_id=HostId(draw(IDS)),
        tenant_id=TenantId(draw(TEXT)),
        created_at=draw(TIMES),
        updated_at=draw(st.none() | TIMES),
        mountpoint=draw(TEXT),
        access_mode=draw(st.sampled_from(AccessMode)),
        protocol=draw(st.sampled_from(Protocol)),
        metadata=draw(METADATA),
        deleting=status in DELETING,
    )
    return AttachmentView(
        attachment=attachment,
        status=status,
        connection=draw(st.none() | st.just(connection)),
        reason=draw(TEXT),
    )


@given(view=attachment_views())
def test_attachments(view: AttachmentView) -> None:
    resource = over_the_wire(AttachmentResource.of(view))
    assert isinstance(resource, AttachmentResource)
    assert resource.view() == view


INITIATORS = st.lists(
    st.builds(Initiator, port_name=TEXT, protocol=st.sampled_from(Protocol)), max_size=3
).map(tuple)


@given(
    host=st.builds(
        Host,
        id=IDS.map(HostId),
        tenant_id=TEXT.map(TenantId),
        name=TEXT,
        created_at=TIMES,
        updated_at=st.none() | TIMES,
        ip=TEXT,
        port=st.integers(0, 65535),
        username=TEXT,
        availability_zones=st.lists(TEXT, max_size=3).map(tuple),
        initiators=INITIATORS,
    )
)
def test_hosts(host: Host) -> None:
    resource = over_the_wire(HostResource.of(host))
    assert isinstance(resource, HostResource)
    assert resource.host() == host


@given(
    profile=st.builds(
        Profile,
        id=IDS.map(ProfileId),
        name=TEXT,
        created_at=TIMES,
        updated_at=st.none() | TIMES,
        description=TEXT,
        access_protocol=st.none() | st.sampled_from(Protocol),
        custom_properties=METADATA,
    )
)
def test_profiles(profile: Profile) -> None:
    resource = over_the_wire(ProfileResource.of(profile))
    assert isinstance(resource, ProfileResource)
    assert resource.profile() == profile


@pytest.mark.parametrize("status", StateStatus)
def test_pools(status: StateStatus) -> None:
    pool = Pool(
        id=PoolId("p"),
        name="pool",
        node_id=NodeId("n"),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        protocol=Protocol.ISCSI,
        multi_attach=False,
        provisioning=Provisioning.THICK,
        over_commit=2.5,
        capabilities={"a": "b"},
    )
    reason = "the disk is gone" if status is StateStatus.ERROR else ""
    view = PoolView(pool=pool, status=status, total=10 * GIB + 1, free=3, booked=7, reason=reason)
    resource = over_the_wire(PoolResource.of(view))
    assert isinstance(resource, PoolResource)
    assert resource.view() == view
    assert resource.extras.data_storage.provisioning_policy == "Thick"  # OpenSDS's word


def test_requests() -> None:
    volume = CreateVolumeRequest(
        name="v",
        size=3 * GIB,
        description="d",
        profile_id=ProfileId("p"),
        pool_id=PoolId("q"),
        availability_zone="z",
        snapshot_id=SnapshotId("s"),
        multi_attach=True,
        metadata={"a": "b"},
    )
    assert decode_body(encode(VolumeBody.of(volume)), VolumeBody).request() == volume
    bare = CreateVolumeRequest(name="v", size=GIB)
    assert decode_body(encode(VolumeBody.of(bare)), VolumeBody).request() == bare
    for update in (UpdateRequest(), UpdateRequest(name="n", description="d", metadata={"a": "b"})):
        assert decode_body(encode(UpdateBody.of(update)), UpdateBody).request() == update
    snapshot = CreateSnapshotRequest(name="s", volume_id=VolumeId("v"), profile_id=ProfileId("p"))
    assert decode_body(encode(SnapshotBody.of(snapshot)), SnapshotBody).request() == snapshot
    attachment = CreateAttachmentRequest(
        volume_id=VolumeId("v"), host_id=HostId("h"), access_mode=AccessMode.READ_ONLY, metadata={"a": "b"}
    )
    assert decode_body(encode(AttachmentBody.of(attachment)), AttachmentBody).request() == attachment
    moved = UpdateAttachmentRequest(mountpoint="/mnt")
    assert decode_body(encode(UpdateAttachmentBody.of(moved)), UpdateAttachmentBody).request() == moved
    host = HostRequest(
        name="h",
        port=22,
        initiators=(Initiator(port_name="x", protocol=Protocol.ISCSI),),
        availability_zones=("z",),
    )
    assert decode_body(encode(HostBody.of(host)), HostBody).request() == host
    profile = ProfileRequest(name="p", access_protocol=Protocol.RBD, custom_properties={"a": "b"})
    assert decode_body(encode(ProfileBody.of(profile)), ProfileBody).request() == profile


@pytest.mark.parametrize(
    "error",
    [
        InvalidValueError("size", "is odd: very"),
        ConflictError("in use"),
        NoSpaceError("full"),
        NotFoundError("gone"),
        UnauthenticatedError("who?"),
        PermissionDeniedError("no"),
        UnsupportedError("not here"),
        UnavailableError("later"),
        DataError("broken"),
        WeftError("something"),
    ],
)
def test_errors(error: WeftError) -> None:
    received = decode_reply(encode(ErrorObject.of(error, 400)), ErrorObject).error()
    assert type(received) is type(error)
    assert str(received) == str(error)
    if isinstance(error, InvalidValueError) and isinstance(received, InvalidValueError):
        assert (received.field, received.reason) == (error.field, error.reason)


def test_a_narrower_error_arrives_as_its_kind() -> None:
    received = ErrorObject.of(RevisionConflictError("changed meanwhile"), 400).error()
    assert type(received) is ConflictError


def test_times_are_utc_to_the_second_and_empty_when_they_have_not_come() -> None:
    view = VolumeView(
        volume=Volume(
            id=VolumeId("6ba7b810-9dad-41d1-80b4-00c04fd430c8"),
            tenant_id=TenantId("t"),
            name="v",
            size=GIB,
            pool_id=PoolId("p"),
            created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        ),
        status=Status.CREATING,
        size=GIB,
    )
    resource = VolumeResource.of(view)
    assert (resource.created_at, resource.updated_at) == ("2026-01-02T03:04:05", "")
