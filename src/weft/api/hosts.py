"""/host/hosts"""

from weft.api.call import Answer, Api, Call
from weft.api.listing import select
from weft.model import HostId
from weft.wire.codec import decode_body
from weft.wire.host_secrets import HeldSecrets, HostSecretsBody
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


def secrets(api: Api, call: Call) -> Answer:
    """Which keys there are; they themselves are only read with an attachment."""
    return Answer(value=HeldSecrets.of(api.service.secrets.of(call.caller, HostId(call.id))))


def set_secrets(api: Api, call: Call) -> Answer:
    body = decode_body(call.body, HostSecretsBody)
    api.service.secrets.put(call.caller, HostId(call.id), body.secrets(), force=body.force)
    return secrets(api, call)


def remove_secrets(api: Api, call: Call) -> Answer:
    api.service.secrets.remove(call.caller, HostId(call.id), force=("force", "true") in call.query)
    return Answer()


def delete(api: Api, call: Call) -> Answer:
    api.service.hosts.delete(call.caller, HostId(call.id))
    return Answer()
