"""Logs: what strangers cause does not fill a disk."""

import logging

from weft.logs import RateLimit


def _record(level: int, text: str) -> logging.LogRecord:
    return logging.LogRecord("weft", level, __file__, 1, text, (), None)


def test_what_comes_too_fast_is_left_out_and_counted() -> None:
    limit = RateLimit(lines=2, seconds=3600)
    passed = [limit.filter(_record(logging.WARNING, f"refused {number}")) for number in range(5)]
    assert passed == [True, True, False, False, False]
    limit._began = -3600.0  # the next span of time
    first = _record(logging.WARNING, "refused again")
    assert limit.filter(first)
    assert first.getMessage() == "(3 lines like this were left out) refused again"


def test_errors_always_pass() -> None:
    limit = RateLimit(lines=1, seconds=3600)
    limit.filter(_record(logging.INFO, "connected"))
    assert limit.filter(_record(logging.ERROR, "the medium failed"))
