"""Why hosts were not let in, on the wire."""

import msgspec

from weft.model import RefusalReason, VolumeId
from weft.views import RefusalView
from weft.wire.base import format_time, parse_time


class RefusalObject(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """at and ageSeconds are there when the target saw it; ageSeconds counts by the node's clock."""

    host_nqn: str
    reason: RefusalReason
    message: str
    at: str = ""
    age_seconds: float | None = None

    @classmethod
    def of(cls, view: RefusalView) -> "RefusalObject":
        return cls(
            host_nqn=view.initiator,
            reason=view.reason,
            message=view.message,
            at=format_time(view.at),
            age_seconds=round(view.age, 3) if view.age is not None else None,
        )

    def view(self, volume_id: VolumeId) -> RefusalView:
        return RefusalView(
            volume_id=volume_id,
            initiator=self.host_nqn,
            reason=self.reason,
            message=self.message,
            at=parse_time(self.at),
            age=self.age_seconds,
        )
