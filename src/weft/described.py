"""Describing types to msgspec one at a time.

msgspec keeps on a class what it has learned of it, and (0.22) crashes the process when two threads have it learn of
one class, or of an enum that two classes share, at the same moment. So a type is described here before threads use it.
"""

import threading
from typing import Any, TypeVar

import msgspec

ShapeT = TypeVar("ShapeT")

_lock = threading.Lock()
_described: set[object] = set()
_decoders: "dict[object, msgspec.json.Decoder[Any]]" = {}


def decoder(shape: type[ShapeT]) -> "msgspec.json.Decoder[ShapeT]":
    """The decoder of a type, which any thread can use; made once."""
    found = _decoders.get(shape)
    if found is None:
        with _lock:
            found = _decoders.setdefault(shape, msgspec.json.Decoder(shape))
            _described.add(shape)
    return found


def described(shape: type[ShapeT]) -> type[ShapeT]:
    """The same type, which any thread can decode from now on."""
    if shape not in _described:
        with _lock:
            if shape not in _described:
                msgspec.json.Decoder(shape)
                _described.add(shape)
    return shape
