"""/tokens and /token"""

from weft.api.call import Answer, Api, Call
from weft.api.listing import select
from weft.tokens import TokenId, TokenScope
from weft.views import TokenView
from weft.wire.codec import decode_body
from weft.wire.tokens import TokenBody, TokenResource


def create(api: Api, call: Call) -> Answer:
    new = api.service.tokens.create(call.caller, decode_body(call.body, TokenBody).request())
    return Answer(value=TokenResource.of(new.token, new.text))


def list_(api: Api, call: Call) -> Answer:
    resources = [TokenResource.of(each) for each in api.service.tokens.list(call.caller)]
    return Answer(value=select(resources, call.query))


def revoke(api: Api, call: Call) -> Answer:
    api.service.tokens.revoke(call.caller, TokenId(call.id))
    return Answer()


def own(_api: Api, call: Call) -> Answer:
    """What the caller came with."""
    trusted = TokenView(id=TokenId(""), name="", scope=TokenScope.ADMIN, tenant_id=call.caller.tenant_id)
    return Answer(value=TokenResource.of(call.token or trusted))
