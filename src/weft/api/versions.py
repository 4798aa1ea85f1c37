"""/ and /{version}"""

from weft.api.call import Answer, Api, Call
from weft.errors import NotFoundError
from weft.wire.versions import VERSION


def list_(_api: Api, _call: Call) -> Answer:
    return Answer(value=[VERSION])


def get(_api: Api, call: Call) -> Answer:
    if call.ids["version"] != VERSION.name:
        raise NotFoundError(f"can't find the version: {call.ids['version']}")
    return Answer(value=VERSION)
