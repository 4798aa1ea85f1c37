"""The `Prefer` request header, RFC 7240, as far as weft knows it: wait."""

import re
from collections.abc import Iterable

from weft.control.service import LONGEST_WAIT_SECONDS

_WAIT = re.compile(r'\s*wait\s*=\s*"?(?P<seconds>[0-9]{1,9})"?\s*(?:;.*)?', re.IGNORECASE)


def preferred_wait(headers: Iterable[str]) -> float:
    """Seconds that the client prefers to wait, at most LONGEST_WAIT_SECONDS; 0.0 when it does not say or what it
    says makes no sense (section 2: what is not understood is ignored). The first wait counts.
    """
    for header in headers:
        for preference in header.split(","):
            matched = _WAIT.fullmatch(preference)
            if matched:
                return min(float(matched["seconds"]), LONGEST_WAIT_SECONDS)
    return 0.0
