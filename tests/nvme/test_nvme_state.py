"""The table of states: what may travel when."""

import pytest

from weft.nvme.state import TRANSITIONS, Signal, State, next_state

ENDS = {Signal.TERM_REQ, Signal.CLOSE}


def after(*signals: Signal) -> State:
    state = State.OPENED
    for signal in signals:
        following = next_state(state, signal)
        assert following is not None
        state = following
    return state


def test_a_connection_becomes_ready_by_initialization_and_connect() -> None:
    assert after(Signal.IC_REQ, Signal.IC_RESP, Signal.CONNECT, Signal.CONNECT_ACCEPTED) is State.READY


def test_authentication_stands_between_connect_and_ready_where_it_is_required() -> None:
    before = (Signal.IC_REQ, Signal.IC_RESP, Signal.CONNECT, Signal.AUTHENTICATION_REQUIRED)
    assert after(*before) is State.AUTHENTICATING
    assert next_state(State.AUTHENTICATING, Signal.COMMAND) is None
    assert after(*before, Signal.AUTHENTICATION, Signal.RESPONSE, Signal.AUTHENTICATED) is State.READY


def test_a_refused_connect_may_be_repeated() -> None:
    assert after(Signal.IC_REQ, Signal.IC_RESP, Signal.CONNECT, Signal.CONNECT_REFUSED, Signal.CONNECT) is (
        State.CONNECTING
    )


@pytest.mark.parametrize("state", [state for state in State if state is not State.READY])
def test_commands_travel_only_when_ready(state: State) -> None:
    assert next_state(state, Signal.COMMAND) is None


@pytest.mark.parametrize("state", [state for state in State if state is not State.OPENED])
def test_a_connection_is_initialized_once(state: State) -> None:
    assert next_state(state, Signal.IC_REQ) is None


def test_a_connection_can_end_in_every_state() -> None:
    for state in State:
        assert next_state(state, Signal.CLOSE) is State.CLOSED
        assert next_state(state, Signal.TERM_REQ) is (None if state is State.CLOSED else State.TERMINATING)


def test_nothing_but_the_end_counts_after_a_term_req() -> None:
    assert set(TRANSITIONS[State.TERMINATING]) == ENDS
    assert set(TRANSITIONS[State.CLOSED]) == {Signal.CLOSE}


def test_every_state_is_in_the_table_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(State)
    reached = {State.OPENED} | {state for row in TRANSITIONS.values() for state in row.values()}
    assert reached == set(State)
