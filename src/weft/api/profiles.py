"""/profiles and their customProperties"""

from weft.api.call import Answer, Api, Call
from weft.api.listing import select
from weft.model import ProfileId
from weft.requests import ProfileRequest
from weft.wire.codec import decode_body
from weft.wire.profiles import ProfileBody, ProfileResource, decode_properties


def create(api: Api, call: Call) -> Answer:
    request = decode_body(call.body, ProfileBody).request()
    return Answer(value=ProfileResource.of(api.service.profiles.create(request)))


def get(api: Api, call: Call) -> Answer:
    return Answer(value=ProfileResource.of(api.service.profiles.get(ProfileId(call.id))))


def list_(api: Api, call: Call) -> Answer:
    resources = [ProfileResource.of(each) for each in api.service.profiles.list()]
    return Answer(value=select(resources, call.query))


def update(api: Api, call: Call) -> Answer:
    request = decode_body(call.body, ProfileBody).request()
    return Answer(value=ProfileResource.of(api.service.profiles.update(ProfileId(call.id), request)))


def delete(api: Api, call: Call) -> Answer:
    api.service.profiles.delete(ProfileId(call.id))
    return Answer()


def add_properties(api: Api, call: Call) -> Answer:
    request = ProfileRequest(custom_properties=decode_properties(call.body))
    return Answer(value=api.service.profiles.update(ProfileId(call.id), request).custom_properties)


def list_properties(api: Api, call: Call) -> Answer:
    return Answer(value=api.service.profiles.get(ProfileId(call.id)).custom_properties)


def remove_property(api: Api, call: Call) -> Answer:
    api.service.profiles.remove_property(ProfileId(call.id), call.ids["key"])
    return Answer()
