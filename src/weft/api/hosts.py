"""/host/hosts"""

from weft.api.call import Answer, Api, Call
from weft.api.listing import select
from weft.model import HostId
from weft.wire.codec import decode_body
from weft.wire.hosts import HostBody, HostResource


def create(api: Api, call: Call) -> Answer:
    request = decode_body(call.body, HostBody).request()
    return Answer(value=HostResource.of(api.service.hosts.create(call.caller, request)))


def get(api: Api, call: Call) -> Answer:
    return Answer(value=HostResource.of(api.service.hosts.get(call.caller, HostId(call.id))))


def list_(api: Api, call: Call) -> Answer:
    resources = [HostResource.of(each) for each in api.service.hosts.list(call.caller)]
    return Answer(value=select(resources, call.query))


def update(api: Api, call: Call) -> Answer:
    request = decode_body(call.body, HostBody).request()
    return Answer(value=HostResource.of(api.service.hosts.update(call.caller, HostId(call.id), request)))


def delete(api: Api, call: Call) -> Answer:
    api.service.hosts.delete(call.caller, HostId(call.id))
    return Answer()
