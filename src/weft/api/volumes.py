"""/block/volumes"""

from weft.api.call import Answer, Api, Call
from weft.api.listing import select
from weft.model import SnapshotId, VolumeId
from weft.views import VolumeView
from weft.wire.codec import decode_body
from weft.wire.refusals import RefusalObject
from weft.wire.volumes import ResizeBody, RevertBody, UpdateBody, VolumeBody, VolumeResource


def create(api: Api, call: Call) -> Answer:
    request = decode_body(call.body, VolumeBody).request()
    return _answer(api, call, api.service.volumes.create(call.caller, request), status=202)


def get(api: Api, call: Call) -> Answer:
    return _answer(api, call, api.service.volumes.get(call.caller, VolumeId(call.id)))


def list_(api: Api, call: Call) -> Answer:
    """`DurableName` finds the one volume that has it, whatever else is asked for."""
    resources = [VolumeResource.of(each) for each in api.service.volumes.list(call.caller)]
    durable_name = next((value for key, value in call.query if key.lower() == "durablename"), None)
    if durable_name is None:
        return Answer(value=select(resources, call.query))
    return Answer(
        value=[
            each
            for each in resources
            if each.identifier is not None and each.identifier.durable_name == durable_name
        ][:1]
    )


def update(api: Api, call: Call) -> Answer:
    request = decode_body(call.body, UpdateBody).request()
    return _answer(api, call, api.service.volumes.update(call.caller, VolumeId(call.id), request))


def extend(api: Api, call: Call) -> Answer:
    size = decode_body(call.body, ResizeBody).size
    view = api.service.volumes.extend(call.caller, VolumeId(call.id), size)
    return _answer(api, call, view, status=202)


def revert(api: Api, call: Call) -> Answer:
    snapshot_id = SnapshotId(decode_body(call.body, RevertBody).snapshot_id)
    view = api.service.volumes.revert(call.caller, VolumeId(call.id), snapshot_id)
    return _answer(api, call, view, status=202)


def refusals(api: Api, call: Call) -> Answer:
    """`hostNqn` asks about one host."""
    asked = next((value for key, value in call.query if key.lower() == "hostnqn"), None)
    found = api.service.refusals.list(call.caller, VolumeId(call.id), asked)
    return Answer(value=[RefusalObject.of(each) for each in found])


def delete(api: Api, call: Call) -> Answer:
    volume_id = VolumeId(call.id)
    api.service.volumes.delete(call.caller, volume_id)
    return api.gone(
        call,
        lambda seconds: api.service.wait_for_volume(call.caller, volume_id, seconds),
        lambda: VolumeResource.of(api.service.volumes.get(call.caller, volume_id)),
    )


def _answer(api: Api, call: Call, view: VolumeView, *, status: int = 200) -> Answer:
    volume_id = view.volume.id
    view, waited = api.settled(
        call,
        view,
        lambda seconds: api.service.wait_for_volume(call.caller, volume_id, seconds),
        lambda: api.service.volumes.get(call.caller, volume_id),
    )
    return Answer(value=VolumeResource.of(view), status=status, waited=waited)
