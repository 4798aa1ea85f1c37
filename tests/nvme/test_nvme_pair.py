"""A host and a controller talk to each other in memory."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvme.nvme_pair import CONNECT_DATA, Pair, ready_pair
from weft.nvme.events import CommandCompleted, DataReceived, R2TReceived
from weft.nvme.fabrics import Connect
from weft.nvme.host import HostConnection
from weft.nvme.nvm import Compare, DatasetManagement, Read, Write
from weft.nvme.pdu import ALL_DIGESTS, NO_DIGESTS, Digests
from weft.nvme.state import State
from weft.nvme.status import Status, StatusCode
from weft.nvme.target import TargetConnection

MIB = 1 << 20
BOTH_WAYS = pytest.mark.parametrize("digests", [NO_DIGESTS, ALL_DIGESTS], ids=["plain", "digests"])


@BOTH_WAYS
@pytest.mark.parametrize("maxh2cdata", [4096, 32768, 131072])
def test_a_mebibyte_is_written_by_r2t(digests: Digests, maxh2cdata: int) -> None:
    pair = ready_pair(digests=digests, maxh2cdata=maxh2cdata)
    data, buffer = random.Random(1).randbytes(MIB), bytearray(MIB)
    event = pair.command(pair.host.send_command(1, Write(nsid=1, slba=0, blocks=2048), data=data))
    assert (event.length, event.data) == (MIB, None)
    (r2t,) = pair.to_host(pair.target.request_data(1, buffer))
    assert isinstance(r2t, R2TReceived)
    assert pair.to_target(pair.host.send_data(r2t)) == [
        DataReceived(cid=1, offset=0, data=memoryview(buffer))
    ]
    assert buffer == data
    assert pair.complete(pair.target.send_response(1)).status.ok
    assert pair.host.outstanding == pair.target.outstanding == 0


@BOTH_WAYS
@pytest.mark.parametrize("disable_sq_flow_control", [False, True])
def test_a_mebibyte_is_read_in_several_pdus(digests: Digests, disable_sq_flow_control: bool) -> None:  # noqa: FBT001
    pair = ready_pair(digests=digests, disable_sq_flow_control=disable_sq_flow_control, hpda=15)
    data, into = random.Random(2).randbytes(MIB), bytearray(MIB)
    pair.command(pair.host.send_command(1, Read(nsid=1, slba=0, blocks=2048), into=into))
    starts = [0, 512, 128 * 1024, 640 * 1024]
    for start, end in itertools.pairwise(starts):
        assert pair.to_host(pair.target.send_data(1, data[start:end], last=False)) == []
    completed = pair.complete(pair.target.send_data_and_response(1, data[starts[-1] :]))
    assert (completed.status.ok, completed.received) == (True, MIB)
    assert into == data


@BOTH_WAYS
def test_small_writes_travel_in_their_capsule(digests: Digests) -> None:
    pair = ready_pair(digests=digests)
    event = pair.command(pair.host.send_command(1, Compare(nsid=1, slba=0, blocks=8), data=b"z" * 4096))
    assert bytes(event.data or b"") == b"z" * 4096
    failed = Status(StatusCode.COMPARE_FAILURE)
    assert pair.complete(pair.target.send_response(1, failed)).status == failed
    event = pair.command(pair.host.send_command(1, DatasetManagement(nsid=1, ranges=1), data=bytes(16)))
    assert bytes(event.data or b"") == bytes(16)


def test_connect_data_may_be_fetched_by_r2t_too() -> None:
    pair = Pair(TargetConnection(), HostConnection(in_capsule_data_size=0))
    pair.initialize()
    connect = Connect(qid=0, sqsize=31)
    event = pair.command(pair.host.send_command(0, connect, data=CONNECT_DATA.encode()))
    assert (event.command, event.length, event.data) == (connect, 1024, None)
    buffer = bytearray(1024)
    (r2t,) = pair.to_host(pair.target.request_data(0, buffer))
    assert isinstance(r2t, R2TReceived)
    pair.to_target(pair.host.send_data(r2t))
    assert buffer == CONNECT_DATA.encode()
    assert pair.complete(pair.target.send_response(0, result=1)).result == 1
    assert pair.host.state is pair.target.state is State.READY


@given(st.data())
def test_many_commands_at_once_each_get_their_own_bytes(draw: st.DataObject) -> None:
    """Whatever order the controller works in, every read and write moves exactly its own data."""
    digests = draw.draw(st.sampled_from([NO_DIGESTS, ALL_DIGESTS]))
    pair = ready_pair(digests=digests, maxh2cdata=4096)
    count = draw.draw(st.integers(1, 8))
    content = [bytes([cid + 1]) * 512 * draw.draw(st.integers(17, 40)) for cid in range(count)]
    is_write = [draw.draw(st.booleans()) for _ in range(count)]
    buffers = [bytearray(len(data)) for data in content]
    for cid, data in enumerate(content):
        blocks = len(data) // 512
        if is_write[cid]:
            sent = pair.host.send_command(cid, Write(nsid=1, slba=0, blocks=blocks), data=data)
        else:
            sent = pair.host.send_command(cid, Read(nsid=1, slba=0, blocks=blocks), into=buffers[cid])
        pair.command(sent)
    for cid in draw.draw(st.permutations(range(count))):
        if is_write[cid]:
            (r2t,) = pair.to_host(pair.target.request_data(cid, buffers[cid]))
            assert isinstance(r2t, R2TReceived)
            (received,) = pair.to_target(pair.host.send_data(r2t))
            assert isinstance(received, DataReceived)
            completed = pair.complete(pair.target.send_response(cid))
        else:
            completed = pair.complete(pair.target.send_data_and_response(cid, content[cid]))
        assert completed == CommandCompleted(
            cid=cid, status=completed.status, result=0, received=0 if is_write[cid] else len(content[cid])
        )
        assert completed.status.ok
    assert buffers == content
