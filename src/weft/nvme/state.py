"""The life of one NVMe/TCP connection, as a table.

Rule 1: every state and every transition of a connection stands here, and nowhere else.
Rule 2: nothing here knows which side we are. Both sides see the same signals, one by sending, one by receiving.

A connection is one queue pair: ICReq and ICResp, then Connect, then (where the controller asks for it)
authentication, then commands (NVMe/TCP 1.0, 3.3; Base 2.0, 3.3.1). Controller state (CC.EN, CSTS.RDY) is not here:
it belongs to a controller, which has several connections.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final


class State(Enum):
    __hash__ = object.__hash__  # members are single objects; Enum's own way costs a call for every PDU

    OPENED = auto()  # a TCP connection and nothing more
    INITIALIZING = auto()  # ICReq has travelled
    INITIALIZED = auto()  # ICResp has travelled; Connect must come
    CONNECTING = auto()  # Connect has travelled
    AUTHENTICATING = auto()  # connected, and only authentication commands are allowed
    READY = auto()
    TERMINATING = auto()  # a TermReq has travelled; nothing counts any more
    CLOSED = auto()


class Signal(Enum):
    """What travels, in either direction, as far as it matters to the connection's state."""

    __hash__ = object.__hash__

    IC_REQ = auto()
    IC_RESP = auto()
    CONNECT = auto()
    CONNECT_ACCEPTED = auto()
    CONNECT_REFUSED = auto()
    AUTHENTICATION_REQUIRED = auto()  # Connect was accepted, with AUTHREQ set
    AUTHENTICATION = auto()  # Authentication Send or Receive
    AUTHENTICATED = auto()
    COMMAND = auto()  # any other command
    DATA = auto()  # R2T, H2CData, C2HData
    RESPONSE = auto()  # of any command but Connect
    TERM_REQ = auto()
    CLOSE = auto()


_ENDS: Final = {Signal.TERM_REQ: State.TERMINATING, Signal.CLOSE: State.CLOSED}

TRANSITIONS: Final[Mapping[State, Mapping[Signal, State]]] = {
    State.OPENED: {
        Signal.IC_REQ: State.INITIALIZING,
        **_ENDS,
    },
    State.INITIALIZING: {
        Signal.IC_RESP: State.INITIALIZED,
        **_ENDS,
    },
    State.INITIALIZED: {
        Signal.CONNECT: State.CONNECTING,
        Signal.RESPONSE: State.INITIALIZED,  # Command Sequence Error, to a command before Connect
        **_ENDS,
    },
    State.CONNECTING: {
        Signal.CONNECT_ACCEPTED: State.READY,
        Signal.AUTHENTICATION_REQUIRED: State.AUTHENTICATING,
        Signal.CONNECT_REFUSED: State.INITIALIZED,
        Signal.DATA: State.CONNECTING,
        Signal.RESPONSE: State.CONNECTING,
        **_ENDS,
    },
    State.AUTHENTICATING: {
        Signal.AUTHENTICATION: State.AUTHENTICATING,
        Signal.AUTHENTICATED: State.READY,
        Signal.DATA: State.AUTHENTICATING,
        Signal.RESPONSE: State.AUTHENTICATING,
        **_ENDS,
    },
    State.READY: {
        Signal.COMMAND: State.READY,
        Signal.AUTHENTICATION: State.READY,
        Signal.DATA: State.READY,
        Signal.RESPONSE: State.READY,
        **_ENDS,
    },
    State.TERMINATING: _ENDS,
    State.CLOSED: {Signal.CLOSE: State.CLOSED},
}


def next_state(state: State, signal: Signal) -> State | None:
    """The state after `signal`, None if it must not travel in this state."""
    return TRANSITIONS[state].get(signal)
