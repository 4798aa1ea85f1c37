"""The one set-up of logging."""

import logging
import sys
import threading
import time
from typing import Final

_LINES: Final = 50
_SECONDS: Final = 10.0


class RateLimit(logging.Filter):
    """Lets so many records through in so many seconds, and then says how many it left out.

    For what strangers can cause: a log must not fill the disk, whatever is sent to a socket. Errors always pass.
    """

    def __init__(self, lines: int = _LINES, seconds: float = _SECONDS) -> None:
        super().__init__()
        self._lines = lines
        self._seconds = seconds
        self._lock = threading.Lock()
        self._began = 0.0
        self._count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return True
        with self._lock:
            left_out = 0
            now = time.monotonic()
            if now - self._began >= self._seconds:
                left_out = max(0, self._count - self._lines)
                self._began, self._count = now, 0
            self._count += 1
            if self._count > self._lines:
                return False
        if left_out:
            record.msg = f"({left_out} lines like this were left out) {record.getMessage()}"
            record.args = ()
        return True


def configure_logging(level: str, *, limited: bool = False) -> None:
    """Log to standard error from level on (debug, info, warning or error), in UTC; limited: as RateLimit lets."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    if limited:
        handler.addFilter(RateLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
