"""PDUs on the wire. Offsets here are written out from the specification, not taken from the code."""

import struct

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from weft.nvme.errors import FatalErrorStatus, LocalProtocolError, RemoteProtocolError
from weft.nvme.pdu import (
    ALL_DIGESTS,
    NO_DIGESTS,
    R2T,
    C2HData,
    C2HTermReq,
    CapsuleCmd,
    CapsuleResp,
    Digests,
    H2CData,
    H2CTermReq,
    ICReq,
    ICResp,
    Pdu,
    encode_pdu,
)
from weft.nvme.receiver import ReceivedPdu, Receiver

u16, u32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
digests = st.builds(Digests, header=st.booleans(), data=st.booleans())
payload = st.binary(min_size=1, max_size=2000)


@st.composite
def pdus(draw: st.DrawFn) -> tuple[Pdu, bytes]:
    """Any PDU with data that it may carry."""
    data = draw(payload)
    without_data = (
        st.builds(ICReq, pfv=u16, hpda=st.integers(0, 255), digests=digests, maxr2t=u32)
        | st.builds(ICResp, pfv=u16, cpda=st.integers(0, 255), digests=digests, maxh2cdata=u32)
        | st.builds(CapsuleResp, cqe=st.binary(min_size=16, max_size=16))
        | st.builds(R2T, cccid=u16, ttag=u16, r2to=u32, r2tl=u32)
    )
    length = st.just(len(data))
    with_data = (
        st.builds(CapsuleCmd, sqe=st.binary(min_size=64, max_size=64))
        | st.builds(H2CData, cccid=u16, ttag=u16, datao=u32, datal=length, last=st.booleans())
        | st.builds(C2HData, cccid=u16, datao=u32, datal=length, last=st.booleans(), success=st.booleans())
    )
    term_req = st.builds(H2CTermReq, fes=u16, fei=u32) | st.builds(C2HTermReq, fes=u16, fei=u32)
    return draw(
        st.tuples(without_data, st.just(b""))
        | st.tuples(with_data, st.just(data))
        | st.tuples(term_req, st.just(data[:128]))
    )


def wire(pdu: Pdu, data: bytes = b"", *, digests: Digests = NO_DIGESTS, pda: int = 0) -> bytes:
    return b"".join(encode_pdu(pdu, data, digests=digests, pda=pda))


def receive(stream: bytes, *, digests: Digests = NO_DIGESTS) -> list[ReceivedPdu]:
    receiver = Receiver(lambda _, length: memoryview(bytearray(length)), 512)
    receiver.digests = digests
    receiver.feed(stream)
    found = []
    while (received := receiver.next_pdu()) is not None:
        found.append(received)
    return found


def fault(stream: bytes, *, digests: Digests = NO_DIGESTS) -> tuple[FatalErrorStatus, int]:
    with pytest.raises(RemoteProtocolError) as caught:
        receive(stream, digests=digests)
    return caught.value.fes, caught.value.fei


@given(pdus(), digests, st.integers(0, 31))
def test_every_pdu_comes_back_as_it_went(pdu: tuple[Pdu, bytes], digests: Digests, pda: int) -> None:
    stream = wire(*pdu, digests=digests, pda=pda)
    assert struct.unpack_from("<I", stream, 4) == (len(stream),)
    (received,) = receive(stream, digests=digests)
    assert (received.pdu, bytes(received.data), received.data_digest_valid) == (*pdu, True)


def test_icreq_lies_as_specified() -> None:
    stream = wire(ICReq(digests=Digests(header=True), maxr2t=3, hpda=5))
    assert len(stream) == 128
    assert stream[:8] == bytes([0x00, 0, 128, 0, 128, 0, 0, 0])
    assert stream[8:16] == bytes([0, 0, 5, 0b01, 3, 0, 0, 0])
    assert not any(stream[16:])


def test_icresp_lies_as_specified() -> None:
    stream = wire(ICResp(digests=Digests(data=True), maxh2cdata=0x20000))
    assert len(stream) == 128
    assert stream[:8] == bytes([0x01, 0, 128, 0, 128, 0, 0, 0])
    assert stream[8:16] == bytes([0, 0, 0, 0b10, 0, 0, 2, 0])


def test_a_capsule_with_data_and_digests_lies_as_specified() -> None:
    sqe, data = bytes(range(64)), b"abcd" * 128
    stream = wire(CapsuleCmd(sqe=sqe), data, digests=ALL_DIGESTS)
    assert stream[:4] == bytes([0x04, 0b11, 72, 76])
    assert struct.unpack_from("<I", stream, 4) == (72 + 4 + 512 + 4,)
    assert stream[8:72] == sqe
    assert struct.unpack_from("<I", stream, 72) == (crc32c(stream[:72]),)
    assert stream[76:588] == data
    assert struct.unpack_from("<I", stream, 588) == (crc32c(data),)


def test_digests_are_castagnolis_crc() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_data_pdus_lie_as_specified() -> None:
    r2t = wire(R2T(cccid=0x0102, ttag=0x0304, r2to=0x1000, r2tl=0x2000))
    assert r2t[:8] == bytes([0x09, 0, 24, 0, 24, 0, 0, 0])
    assert struct.unpack_from("<HHII", r2t, 8) == (0x0102, 0x0304, 0x1000, 0x2000)
    h2c = wire(H2CData(cccid=1, ttag=2, datao=4096, datal=8, last=True), bytes(8))
    assert h2c[:8] == bytes([0x06, 0x04, 24, 24, 32, 0, 0, 0])
    assert struct.unpack_from("<HHII", h2c, 8) == (1, 2, 4096, 8)
    c2h = wire(C2HData(cccid=1, datao=0, datal=8, last=True, success=True), bytes(8))
    assert c2h[:8] == bytes([0x07, 0x0C, 24, 24, 32, 0, 0, 0])


def test_data_is_aligned_as_the_receiver_wished() -> None:
    stream = wire(C2HData(cccid=1, datao=0, datal=4), b"data", digests=Digests(header=True), pda=31)
    assert stream[3] == 128
    assert stream[28:128] == bytes(100)
    assert stream[128:] == b"data"


def test_data_is_not_copied() -> None:
    data = memoryview(bytearray(4096))
    assert any(buffer is data for buffer in encode_pdu(C2HData(cccid=1, datao=0, datal=4096), data))


@pytest.mark.parametrize("pdu_type", [0x08, 0x0A, 0x0B, 0xFF])
def test_an_unknown_type_is_refused(pdu_type: int) -> None:
    assert fault(bytes([pdu_type, 0, 24, 0, 24, 0, 0, 0])) == (FatalErrorStatus.INVALID_PDU_HEADER_FIELD, 0)


@pytest.mark.parametrize(
    ("header", "fei"),
    [
        (bytes([0x00, 0, 127, 0, 128, 0, 0, 0]), 2),
        (bytes([0x00, 0, 128, 0, 129, 0, 0, 0]), 4),
        (bytes([0x00, 0, 128, 0, 8, 0, 0, 0]), 4),
        (bytes([0x04, 0, 72, 0, 80, 0, 0, 0]), 4),
        (bytes([0x04, 0, 72, 71, 80, 0, 0, 0]), 3),
        (bytes([0x04, 0, 72, 68, 80, 0, 0, 0]), 3),
        (bytes([0x04, 0, 72, 74, 80, 0, 0, 0]), 3),
        (bytes([0x04, 0, 72, 76, 75, 0, 0, 0]), 4),
        (bytes([0x02, 0, 24, 0, 153, 0, 0, 0]), 4),
        (bytes([0x02, 0, 24, 0, 23, 0, 0, 0]), 4),
        (bytes([0x06, 0, 24, 0, 32, 0, 0, 0]), 4),
        (bytes([0x04, 1, 72, 0, 72, 0, 0, 0]), 1),  # a header digest that was not agreed on
    ],
)
def test_a_wrong_header_field_is_refused_with_its_offset(header: bytes, fei: int) -> None:
    assert fault(header) == (FatalErrorStatus.INVALID_PDU_HEADER_FIELD, fei)


def test_datal_that_differs_from_the_length_of_the_data_is_refused() -> None:
    stream = bytearray(wire(H2CData(cccid=1, ttag=2, datao=0, datal=8), bytes(8)))
    stream[16] = 9
    assert fault(bytes(stream)) == (FatalErrorStatus.INVALID_PDU_HEADER_FIELD, 16)


def test_a_missing_digest_flag_is_refused() -> None:
    stream = wire(R2T(cccid=1, ttag=1, r2to=0, r2tl=4))
    assert fault(stream, digests=Digests(header=True)) == (FatalErrorStatus.INVALID_PDU_HEADER_FIELD, 1)
    stream = wire(C2HData(cccid=1, datao=0, datal=8), bytes(8))
    stream = stream[:4] + bytes([36]) + stream[5:] + bytes(4)
    assert fault(stream, digests=Digests(data=True)) == (FatalErrorStatus.INVALID_PDU_HEADER_FIELD, 1)


@given(st.integers(8, 27), st.integers(0, 7))
def test_a_damaged_header_is_found_by_its_digest(offset: int, bit: int) -> None:
    stream = bytearray(wire(R2T(cccid=1, ttag=1, r2to=0, r2tl=4), digests=ALL_DIGESTS))
    stream[offset] ^= 1 << bit
    fes, _ = fault(bytes(stream), digests=ALL_DIGESTS)
    assert fes is FatalErrorStatus.HEADER_DIGEST_ERROR


@given(payload, st.data())
def test_damaged_data_is_told_and_does_not_end_the_stream(data: bytes, draw: st.DataObject) -> None:
    stream = bytearray(wire(C2HData(cccid=1, datao=0, datal=len(data)), data, digests=ALL_DIGESTS))
    stream[draw.draw(st.integers(28, len(stream) - 1))] ^= 0x10
    behind = wire(R2T(cccid=1, ttag=1, r2to=0, r2tl=4), digests=ALL_DIGESTS)
    damaged, intact = receive(bytes(stream) + behind, digests=ALL_DIGESTS)
    assert not damaged.data_digest_valid
    assert intact.data_digest_valid


@pytest.mark.parametrize("flag", [0x10, 0x20, 0x40, 0x80])
def test_reserved_flags_are_tolerated(flag: int) -> None:
    stream = bytearray(wire(R2T(cccid=1, ttag=1, r2to=0, r2tl=4)))
    stream[1] |= flag
    assert len(receive(bytes(stream))) == 1


def test_fields_that_do_not_fit_are_the_callers_error() -> None:
    with pytest.raises(LocalProtocolError):
        encode_pdu(R2T(cccid=0x10000, ttag=0, r2to=0, r2tl=0))
    with pytest.raises(LocalProtocolError):
        encode_pdu(H2CData(cccid=1, ttag=0, datao=0, datal=3), b"1234")
    with pytest.raises(LocalProtocolError):
        encode_pdu(CapsuleCmd(sqe=bytes(63)))
