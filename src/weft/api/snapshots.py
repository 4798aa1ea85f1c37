"""/block/snapshots"""

from weft.api.call import Answer, Api, Call
from weft.api.listing import select
from weft.model import SnapshotId
from weft.views import SnapshotView
from weft.wire.codec import decode_body
from weft.wire.snapshots import SnapshotBody, SnapshotResource
from weft.wire.volumes import UpdateBody


def create(api: Api, call: Call) -> Answer:
    request = decode_body(call.body, SnapshotBody).request()
    return _answer(api, call, api.service.snapshots.create(call.caller, request), status=202)


def get(api: Api, call: Call) -> Answer:
    return _answer(api, call, api.service.snapshots.get(call.caller, SnapshotId(call.id)))


def list_(api: Api, call: Call) -> Answer:
    resources = [SnapshotResource.of(each) for each in api.service.snapshots.list(call.caller)]
    return Answer(value=select(resources, call.query))


def update(api: Api, call: Call) -> Answer:
    request = decode_body(call.body, UpdateBody).request()
    return _answer(api, call, api.service.snapshots.update(call.caller, SnapshotId(call.id), request))


def delete(api: Api, call: Call) -> Answer:
    snapshot_id = SnapshotId(call.id)
    api.service.snapshots.delete(call.caller, snapshot_id)
    return api.gone(
        call,
        lambda seconds: api.service.wait_for_snapshot(call.caller, snapshot_id, seconds),
        lambda: SnapshotResource.of(api.service.snapshots.get(call.caller, snapshot_id)),
    )


def _answer(api: Api, call: Call, view: SnapshotView, *, status: int = 200) -> Answer:
    snapshot_id = view.snapshot.id
    view, waited = api.settled(
        call,
        view,
        lambda seconds: api.service.wait_for_snapshot(call.caller, snapshot_id, seconds),
        lambda: api.service.snapshots.get(call.caller, snapshot_id),
    )
    return Answer(value=SnapshotResource.of(view), status=status, waited=waited)
