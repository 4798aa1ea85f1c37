"""Who waits for whom: locks by id, turns, and the queue of volumes to look at."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from weft.control.locks import IdLocks, Turns
from weft.control.workqueue import WorkQueue
from weft.model import VolumeId

A, B, C = VolumeId("a"), VolumeId("b"), VolumeId("c")


def taking(
    pool: ThreadPoolExecutor, locks: IdLocks, *alone: str, shared: tuple[str, ...] = ()
) -> Future[None]:
    def take() -> None:
        with locks.hold(*alone, shared=shared):
            pass

    return pool.submit(take)


def is_stuck(future: Future[None]) -> bool:
    time.sleep(0.02)
    return not future.done()


def test_one_id_is_held_by_one_at_a_time_and_others_do_not_wait() -> None:
    locks = IdLocks()
    with ThreadPoolExecutor() as pool:
        with locks.hold("a", "b"):
            waiting = taking(pool, locks, "c", "b")
            taking(pool, locks, "c", "d").result(10)
            assert is_stuck(waiting)
            taking(pool, locks, "c").result(10)
        waiting.result(10)


def test_what_is_shared_is_shared_and_kept_from_whoever_wants_it_alone() -> None:
    locks = IdLocks()
    with ThreadPoolExecutor() as pool:
        with locks.hold("copy 1", shared=["snapshot"]):
            taking(pool, locks, "copy 2", shared=("snapshot",)).result(10)
            deletion = taking(pool, locks, "snapshot")
            assert is_stuck(deletion)
        deletion.result(10)
        with locks.hold("snapshot"):
            copy = taking(pool, locks, shared=("snapshot",))
            assert is_stuck(copy)
        copy.result(10)


def test_an_id_that_is_held_alone_and_shared_by_the_same_taker_is_held_alone() -> None:
    locks = IdLocks()
    with ThreadPoolExecutor() as pool:
        with locks.hold("a", shared=["a"]):
            other = taking(pool, locks, shared=("a",))
            assert is_stuck(other)
        other.result(10)


def test_who_waits_no_longer_than_he_said_holds_nothing() -> None:
    locks = IdLocks()
    with locks.hold("a"):
        with locks.hold("a", "b", within=0.01) as is_held:
            assert not is_held
        with ThreadPoolExecutor() as pool:
            taking(pool, locks, "b").result(10)
    with locks.hold("a", within=0.01) as is_held:
        assert is_held


def test_takers_of_several_ids_never_block_each_other_for_ever() -> None:
    locks, inside = IdLocks(), set[str]()
    guard = threading.Lock()

    def take(ids: tuple[str, ...]) -> None:
        for _ in range(50):
            with locks.hold(*ids):
                with guard:
                    assert not inside & set(ids)
                    inside.update(ids)
                with guard:
                    inside.difference_update(ids)

    with ThreadPoolExecutor() as pool:
        for future in [
            pool.submit(take, ids) for ids in (("a", "b"), ("b", "c"), ("c", "a"), ("a", "b", "c"))
        ]:
            future.result(30)


def test_a_lock_is_given_back_when_its_holder_fails() -> None:
    locks = IdLocks()
    with pytest.raises(ValueError, match="x"), locks.hold("a", shared=["b"]):
        raise ValueError("x")
    with ThreadPoolExecutor() as pool:
        taking(pool, locks, "a", "b").result(10)
    assert not locks._alone
    assert not locks._shared


def test_who_gets_no_turn_is_called_back_and_not_kept_waiting() -> None:
    called: list[str] = []
    turns: Turns[str] = Turns(2, called.append)
    assert turns.take("a")
    assert turns.take("b")
    assert not turns.take("c")
    assert not turns.take("d")
    assert not turns.take("c")
    turns.give_back()
    assert called == ["c", "d"]
    assert turns.take("d")
    assert not turns.take("c")
    turns.give_back()
    assert called == ["c", "d", "c"]


def test_an_id_is_in_the_queue_once_however_often_it_is_added() -> None:
    queue = WorkQueue[VolumeId]()
    for each in (A, B, A, A):
        queue.add(each)
    queue.add(A, delay=0.001)
    assert [queue.take(), queue.take()] == [A, B]
    queue.add(C)
    assert queue.take() == C


def test_an_id_is_never_in_two_hands_and_comes_round_again_when_it_changed_meanwhile() -> None:
    queue = WorkQueue[VolumeId]()
    queue.add(A)
    assert queue.take() == A
    queue.add(A)
    queue.add(A)
    queue.add(B)
    assert queue.take() == B
    queue.done(A)
    assert queue.take() == A
    queue.done(A)
    queue.add(C)
    assert queue.take() == C


def test_a_delayed_id_comes_when_it_is_due_and_the_others_do_not_wait_for_it() -> None:
    queue = WorkQueue[VolumeId]()
    begun = time.monotonic()
    queue.add(A, delay=0.05)
    queue.add(B)
    assert queue.take() == B
    assert queue.take() == A
    assert time.monotonic() - begun >= 0.05


def test_an_id_waits_for_the_earliest_moment_only_so_that_retries_do_not_pile_up() -> None:
    queue = WorkQueue[VolumeId]()
    for delay in (0.04, 0.02, 0.03, 30):
        queue.add(A, delay=delay)
    begun = time.monotonic()
    assert queue.take() == A
    assert time.monotonic() - begun < 10
    queue.done(A)
    queue.add(B, delay=0.08)
    assert queue.take() == B, "a was still waiting for its other moments"


def test_being_looked_at_now_overtakes_a_later_moment() -> None:
    queue = WorkQueue[VolumeId]()
    queue.add(A, delay=0.02)
    queue.add(A)
    assert queue.take() == A
    queue.done(A)
    queue.add(B, delay=0.05)
    assert queue.take() == B


def test_an_id_that_falls_due_while_it_is_in_hand_comes_round_once_it_is_done() -> None:
    queue = WorkQueue[VolumeId]()
    queue.add(A)
    assert queue.take() == A
    queue.add(A, delay=0.01)
    queue.add(B, delay=0.03)
    assert queue.take() == B
    queue.done(A)
    assert queue.take() == A


def test_every_idle_worker_helps_when_several_ids_fall_due_at_once() -> None:
    queue = WorkQueue[VolumeId]()
    with ThreadPoolExecutor() as pool:
        workers = [pool.submit(queue.take) for _ in range(3)]
        time.sleep(0.02)
        for each in (A, B, C):
            queue.add(each, delay=0.03)
        assert {worker.result(5) for worker in workers} == {A, B, C}


def test_a_delayed_id_is_taken_by_an_idle_worker_while_another_is_busy() -> None:
    queue = WorkQueue[VolumeId]()
    with ThreadPoolExecutor() as pool:
        workers = [pool.submit(queue.take) for _ in range(2)]
        time.sleep(0.02)
        queue.add(A, delay=0.05)
        queue.add(B)
        assert {worker.result(5) for worker in workers} == {A, B}


def test_closing_the_queue_ends_all_who_wait_and_all_who_come_later() -> None:
    queue = WorkQueue[VolumeId]()
    with ThreadPoolExecutor() as pool:
        workers = [pool.submit(queue.take) for _ in range(3)]
        queue.add(A, delay=60)
        queue.close()
        assert [worker.result(5) for worker in workers] == [None] * 3
    queue.add(B)
    assert queue.take() is None
