"""The versions of the API on the wire."""

import msgspec


class VersionObject(msgspec.Struct, kw_only=True, rename="camel"):
    name: str
    description: str
    status: str
    updated_at: str


VERSION = VersionObject(
    name="v1beta", description="v1beta version", status="CURRENT", updated_at="2017-07-10T14:36:58.014Z"
)
