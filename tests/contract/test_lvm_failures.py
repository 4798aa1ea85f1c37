"""Every command of LVM's fails once, before it has done anything and after it has done all: the verb done again mends it.

The same with a process that dies there is in the contract of all drivers.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from contract.lvm_bench import KINDS, LvmBench, lvm_bench
from fakes.rows import make_snapshot, make_volume
from weft.errors import CommandError, WeftError
from weft.model import Snapshot, Volume

MIB = 2**20
OLD = b"old." * 1024
NEW = b"new!" * 1024
WITH_OLD = OLD + bytes(2 * MIB - len(OLD))

pytestmark = pytest.mark.skipif(not KINDS, reason="there is no LVM to be tested with")


@dataclass(frozen=True)
class Case:
    """A verb, its arguments made anew each time, and what is to be there once it is done."""

    verb: str
    arguments: Callable[[LvmBench], tuple[Volume | Snapshot, ...]]
    check: Callable[..., None]


def volume_with_old(bench: LvmBench) -> Volume:
    volume = make_volume(MIB)
    bench.driver.create(volume)
    bench.write(volume, 0, OLD)
    return volume


def kept(bench: LvmBench) -> tuple[Volume, Snapshot]:
    volume = volume_with_old(bench)
    snapshot = make_snapshot(volume)
    bench.driver.snapshot(snapshot)
    bench.write(volume, 0, NEW)
    return volume, snapshot


def to_be_reverted(bench: LvmBench) -> tuple[Volume, Snapshot]:
    volume, snapshot = kept(bench)
    return replace(volume, size=2 * MIB), snapshot


def is_zero(bench: LvmBench, volume: Volume) -> None:
    assert bench.read(volume, 0, MIB) == bytes(MIB)


def has_old(bench: LvmBench, volume: Volume, _source: Volume | Snapshot | None = None) -> None:
    assert bench.read(volume, 0, 2 * MIB) == WITH_OLD


def is_gone(bench: LvmBench, volume: Volume) -> None:
    assert volume.id not in bench.driver.volumes()


def keeps_old(bench: LvmBench, snapshot: Snapshot) -> None:
    volume = make_volume(2 * MIB, snapshot.volume_id)
    bench.driver.revert(volume, snapshot)
    has_old(bench, volume)


def keeps_nothing(bench: LvmBench, snapshot: Snapshot) -> None:
    assert bench.driver.snapshots(snapshot.volume_id) == {}


CASES = {
    "create": Case("create", lambda _: (make_volume(MIB),), is_zero),
    "create from a snapshot": Case("create", lambda bench: (make_volume(2 * MIB), kept(bench)[1]), has_old),
    "create from a volume": Case(
        "create", lambda bench: (make_volume(2 * MIB), volume_with_old(bench)), has_old
    ),
    "extend": Case("extend", lambda bench: (replace(volume_with_old(bench), size=2 * MIB),), has_old),
    "delete": Case("delete", lambda bench: (volume_with_old(bench),), is_gone),
    "snapshot": Case("snapshot", lambda bench: (make_snapshot(volume_with_old(bench)),), keeps_old),
    "delete_snapshot": Case("delete_snapshot", lambda bench: (kept(bench)[1],), keeps_nothing),
    "revert": Case("revert", to_be_reverted, has_old),
}


@pytest.fixture(params=[*KINDS])
def bench(request: pytest.FixtureRequest) -> Iterator[LvmBench]:
    bench = lvm_bench(request.param)
    yield bench
    bench.empty()


def fail() -> None:
    raise CommandError(("lvm",), 5, "  WARNING: the test\n  the test had this command fail\n")


def fails(bench: LvmBench, verb: str, *arguments: Volume | Snapshot, at: int) -> bool:
    """Do a verb, a command of which fails at this point; False when it was done before that."""
    bench.points.at(at, fail)
    try:
        getattr(bench.driver, verb)(*arguments)
    except WeftError as error:
        if "the test had this command fail" not in str(error):
            raise
        return True
    finally:
        bench.points.never()
    assert bench.points.passed <= at, "a failure was swallowed"
    return False


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_verb_whose_command_fails_says_so_and_is_done_by_doing_it_again(
    bench: LvmBench, case: Case
) -> None:
    for point in itertools.count():
        arguments = case.arguments(bench)
        if not fails(bench, case.verb, *arguments, at=point):
            assert point >= 2, "the verb has no commands that could fail"
            return
        getattr(bench.driver, case.verb)(*arguments)
        case.check(bench, *arguments)
        assert bench.leftovers() == []
