"""A connection that ends at any moment is a lost connection, to everybody and at every call."""

import contextlib
import socket
import threading
from collections.abc import Callable

from weft.embedded.host.queue_pair import ConnectionLostError, QueuePair
from weft.nvme.cqe import Cqe
from weft.nvme.events import CommandCompleted
from weft.nvme.fabrics import Connect, ConnectData
from weft.nvme.nvm import Flush
from weft.nvme.pdu import CapsuleResp, ICResp, Pdu, encode_pdu
from weft.nvme.status import SUCCESS

_CONNECT_CID = 0xF000
_UNKNOWN_PDU = b"\xff" * 8
_ROUNDS = 100


def _bytes(pdu: Pdu) -> bytes:
    return b"".join(bytes(part) for part in encode_pdu(pdu))


class Listener:
    def __init__(self) -> None:
        self.connected = threading.Event()
        self.lost_with: list[ConnectionLostError] = []

    def completed(self, completion: CommandCompleted) -> None:
        assert completion.cid == _CONNECT_CID
        self.connected.set()

    def lost(self, error: ConnectionLostError) -> None:
        self.lost_with.append(error)


def _each_ends_with_a_lost_connection(use: Callable[[QueuePair, socket.socket, Listener], None]) -> None:
    for _ in range(_ROUNDS):
        ours, peers = socket.socketpair()
        listener = Listener()
        pair = QueuePair(ours, "the target", listener)
        try:
            with contextlib.suppress(ConnectionLostError):
                use(pair, peers, listener)
        finally:
            peers.close()
            pair.close()
        assert len(listener.lost_with) <= 1


def test_a_peer_that_hangs_up_at_once_is_a_lost_connection() -> None:
    def use(pair: QueuePair, peers: socket.socket, _: Listener) -> None:
        peers.close()
        pair.start(5)
        raise AssertionError("it was not noticed")

    _each_ends_with_a_lost_connection(use)


def _say_and_close(peers: socket.socket, last_words: bytes) -> None:
    with contextlib.suppress(OSError):
        peers.sendall(last_words)
    peers.close()


def _submit_until_lost(last_words: bytes) -> None:
    def use(pair: QueuePair, peers: socket.socket, listener: Listener) -> None:
        peers.sendall(_bytes(ICResp(maxh2cdata=4096)))
        pair.start(5)
        nqn = "nqn.2014-08.org.example:x"
        pair.submit(
            _CONNECT_CID,
            Connect(qid=1, sqsize=127),
            data=ConnectData(hostid=bytes(16), subnqn=nqn, hostnqn=nqn).encode(),
        )
        cqe = Cqe(cid=_CONNECT_CID, status=SUCCESS, result=1, sqhd=0, sqid=1)
        peers.sendall(_bytes(CapsuleResp(cqe=cqe.encode())))
        assert listener.connected.wait(5)
        ending = threading.Thread(target=_say_and_close, args=(peers, last_words))
        ending.start()
        try:
            for cid in range(10_000):
                pair.submit(cid, Flush(nsid=1))
        finally:
            ending.join()

    _each_ends_with_a_lost_connection(use)


def test_who_submits_while_the_peer_hangs_up_is_told_of_a_lost_connection() -> None:
    _submit_until_lost(b"")


def test_who_submits_while_the_peer_breaks_the_protocol_is_told_of_a_lost_connection() -> None:
    _submit_until_lost(_UNKNOWN_PDU)
