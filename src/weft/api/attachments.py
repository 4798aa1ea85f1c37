"""/block/attachments"""

from weft.api.call import Answer, Api, Call
from weft.api.listing import select
from weft.model import AttachmentId
from weft.views import AttachmentView
from weft.wire.attachments import AttachmentBody, AttachmentResource, UpdateAttachmentBody
from weft.wire.codec import decode_body


def create(api: Api, call: Call) -> Answer:
    request = decode_body(call.body, AttachmentBody).request()
    return _answer(api, call, api.service.attachments.create(call.caller, request), status=202)


def get(api: Api, call: Call) -> Answer:
    """`secrets=true` adds the keys by which the host is to authenticate."""
    attachment_id, with_secrets = AttachmentId(call.id), ("secrets", "true") in call.query
    view = api.service.attachments.get(call.caller, attachment_id, with_secrets=with_secrets)
    return _answer(api, call, view, with_secrets=with_secrets)


def list_(api: Api, call: Call) -> Answer:
    resources = [AttachmentResource.of(each) for each in api.service.attachments.list(call.caller)]
    return Answer(value=select(resources, call.query))


def update(api: Api, call: Call) -> Answer:
    request = decode_body(call.body, UpdateAttachmentBody).request()
    return _answer(api, call, api.service.attachments.update(call.caller, AttachmentId(call.id), request))


def delete(api: Api, call: Call) -> Answer:
    attachment_id = AttachmentId(call.id)
    api.service.attachments.delete(call.caller, attachment_id)
    return api.gone(
        call,
        lambda seconds: api.service.wait_for_attachment(call.caller, attachment_id, seconds),
        lambda: AttachmentResource.of(api.service.attachments.get(call.caller, attachment_id)),
    )


def _answer(
    api: Api, call: Call, view: AttachmentView, *, status: int = 200, with_secrets: bool = False
) -> Answer:
    attachment_id = view.attachment.id
    view, waited = api.settled(
        call,
        view,
        lambda seconds: api.service.wait_for_attachment(call.caller, attachment_id, seconds),
        lambda: api.service.attachments.get(call.caller, attachment_id, with_secrets=with_secrets),
    )
    return Answer(value=AttachmentResource.of(view), status=status, waited=waited)
