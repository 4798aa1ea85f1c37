"""What every VolumeDriver does, run on the file driver, on LVM where there is some, and on the fake that other tests trust."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from contract.lvm_bench import KINDS, lvm_bench
from contract.volume_benches import Bench, FakeBench, FileBench
from fakes.file_driver_process import FileDriverProcess
from fakes.rows import make_snapshot, make_volume
from weft.errors import ConflictError, InvalidValueError, NotFoundError
from weft.model import Snapshot, SnapshotId, Volume, VolumeId

MIB = 2**20
OLD = b"old." * 1024
NEW = b"new!" * 1024
HOSTILE_IDS = ["", "..", "../../etc/passwd", "a/b", "A" * 36, "0" * 36, "x\0y", "*", "{0}", "\n"]


@pytest.fixture(scope="module")
def file_driver_process() -> Iterator[FileDriverProcess]:
    with FileDriverProcess() as process:
        yield process


@pytest.fixture(params=["file", "fake", *KINDS])
def bench(
    request: pytest.FixtureRequest, tmp_path: Path, file_driver_process: FileDriverProcess
) -> Iterator[Bench]:
    if request.param in KINDS:
        lvm = lvm_bench(request.param)
        yield lvm
        lvm.empty()
    elif request.param == "file":
        yield FileBench(tmp_path / "pool", file_driver_process)
    else:
        yield FakeBench()


def made(bench: Bench, size: int = MIB, content: bytes = OLD) -> Volume:
    volume = make_volume(size)
    bench.driver.create(volume)
    bench.write(volume, 0, content)
    return volume


def kept(bench: Bench, volume: Volume) -> Snapshot:
    snapshot = make_snapshot(volume)
    bench.driver.snapshot(snapshot)
    return snapshot


def size_of(bench: Bench, volume: Volume) -> int | None:
    found = bench.driver.volume(volume.id)
    return found.size if found else None


def test_a_new_volume_has_its_size_and_reads_zeroes(bench: Bench) -> None:
    volume = make_volume(MIB)
    assert bench.driver.volume(volume.id) is None
    bench.driver.create(volume)
    found = bench.driver.volume(volume.id)
    assert found is not None
    assert (found.id, found.size, found.path) == (volume.id, MIB, bench.driver.path(volume))
    assert bench.driver.volumes() == {volume.id: found}
    assert bench.read(volume, 0, MIB) == bytes(MIB)


def test_a_volume_that_exists_is_never_made_again(bench: Bench) -> None:
    volume = made(bench)
    bench.driver.create(replace(volume, size=2 * MIB))
    assert bench.read(volume, 0, len(OLD)) == OLD
    assert size_of(bench, volume) == MIB


def test_a_volume_from_a_snapshot_has_its_content_and_zeroes_after_it(bench: Bench) -> None:
    source = made(bench)
    bench.write(source, MIB - len(NEW), NEW)
    snapshot = kept(bench, source)
    bench.write(source, 0, NEW)
    volume = make_volume(2 * MIB)
    bench.driver.create(volume, snapshot)
    assert bench.read(volume, 0, len(OLD)) == OLD
    assert bench.read(volume, MIB - len(NEW), len(NEW)) == NEW
    assert bench.read(volume, MIB, MIB) == bytes(MIB)
    assert size_of(bench, volume) == 2 * MIB


def test_a_volume_from_a_snapshot_is_its_own(bench: Bench) -> None:
    source = made(bench)
    snapshot = kept(bench, source)
    volume, other = make_volume(MIB), make_volume(MIB)
    bench.driver.create(volume, snapshot)
    bench.write(volume, 0, NEW)
    bench.driver.create(other, snapshot)
    assert bench.read(source, 0, len(OLD)) == OLD
    assert bench.read(other, 0, len(OLD)) == OLD


def test_a_volume_smaller_than_its_snapshot_is_refused(bench: Bench) -> None:
    snapshot = kept(bench, made(bench, 2 * MIB))
    volume = make_volume(MIB)
    with pytest.raises(InvalidValueError, match="size"):
        bench.driver.create(volume, snapshot)
    assert bench.driver.volume(volume.id) is None
    assert bench.leftovers() == []


def test_a_volume_from_a_missing_snapshot_is_refused(bench: Bench) -> None:
    volume = make_volume(MIB)
    missing = make_snapshot(made(bench))
    with pytest.raises(NotFoundError, match=missing.id):
        bench.driver.create(volume, missing)
    assert bench.driver.volume(volume.id) is None
    assert bench.leftovers() == []


def test_making_a_volume_from_a_snapshot_again_does_not_need_the_snapshot(bench: Bench) -> None:
    snapshot = kept(bench, made(bench))
    volume = make_volume(MIB)
    bench.driver.create(volume, snapshot)
    bench.driver.delete_snapshot(snapshot)
    bench.driver.create(volume, snapshot)
    assert bench.read(volume, 0, len(OLD)) == OLD


def test_a_volume_from_a_volume_has_its_content_of_that_moment_and_zeroes_after_it(bench: Bench) -> None:
    source = made(bench)
    volume = make_volume(2 * MIB)
    bench.driver.create(volume, source)
    bench.write(source, 0, NEW)
    assert bench.read(volume, 0, 2 * MIB) == OLD + bytes(2 * MIB - len(OLD))
    bench.write(volume, MIB, NEW)
    bench.driver.delete(source)
    assert bench.read(volume, MIB, len(NEW)) == NEW
    assert bench.leftovers() == []


def test_a_volume_from_a_larger_or_a_missing_volume_is_refused(bench: Bench) -> None:
    source, missing, volume = made(bench, 2 * MIB), make_volume(MIB), make_volume(MIB)
    with pytest.raises(InvalidValueError, match="size"):
        bench.driver.create(volume, source)
    with pytest.raises(NotFoundError, match=missing.id):
        bench.driver.create(volume, missing)
    assert bench.driver.volume(volume.id) is None
    assert bench.leftovers() == []


def test_extending_keeps_the_content_and_adds_zeroes(bench: Bench) -> None:
    volume = made(bench)
    bench.driver.extend(replace(volume, size=3 * MIB))
    bench.driver.extend(replace(volume, size=3 * MIB))
    assert size_of(bench, volume) == 3 * MIB
    assert bench.read(volume, 0, len(OLD)) == OLD
    assert bench.read(volume, MIB, 2 * MIB) == bytes(2 * MIB)


def test_extending_never_makes_a_volume_smaller(bench: Bench) -> None:
    volume = made(bench, 2 * MIB)
    bench.driver.extend(replace(volume, size=MIB))
    assert size_of(bench, volume) == 2 * MIB


def test_a_deleted_volume_is_gone_and_deleting_it_again_is_done(bench: Bench) -> None:
    volume, other = made(bench), made(bench)
    bench.driver.delete(volume)
    bench.driver.delete(volume)
    assert bench.driver.volume(volume.id) is None
    assert list(bench.driver.volumes()) == [other.id]


def test_a_volume_made_after_a_deleted_one_does_not_show_its_data(bench: Bench) -> None:
    volume = made(bench)
    bench.driver.delete(volume)
    bench.driver.create(volume)
    assert bench.read(volume, 0, MIB) == bytes(MIB)


def test_a_volume_with_snapshots_is_not_deleted(bench: Bench) -> None:
    volume = made(bench)
    snapshot = kept(bench, volume)
    with pytest.raises(ConflictError, match="snapshots"):
        bench.driver.delete(volume)
    assert bench.read(volume, 0, len(OLD)) == OLD
    bench.driver.delete_snapshot(snapshot)
    bench.driver.delete(volume)
    assert bench.driver.volumes() == {}


def test_a_snapshot_keeps_the_first_moment_at_which_it_was_made(bench: Bench) -> None:
    volume = made(bench)
    snapshot = kept(bench, volume)
    bench.write(volume, 0, NEW)
    bench.driver.snapshot(snapshot)
    bench.driver.revert(volume, snapshot)
    assert bench.read(volume, 0, len(OLD)) == OLD


def test_snapshots_are_found_by_their_volume(bench: Bench) -> None:
    volume, other = made(bench), made(bench)
    first, second = kept(bench, volume), kept(bench, volume)
    assert set(bench.driver.snapshots(volume.id)) == {first.id, second.id}
    found = bench.driver.snapshots(volume.id)[first.id]
    assert (found.id, found.volume_id, found.size) == (first.id, volume.id, MIB)
    assert bench.driver.snapshots(other.id) == {}


def test_a_deleted_snapshot_is_gone_and_deleting_it_again_is_done(bench: Bench) -> None:
    volume = made(bench)
    snapshot, other = kept(bench, volume), kept(bench, volume)
    bench.driver.delete_snapshot(snapshot)
    bench.driver.delete_snapshot(snapshot)
    assert set(bench.driver.snapshots(volume.id)) == {other.id}


def test_deleting_a_snapshot_that_never_was_is_done(bench: Bench) -> None:
    bench.driver.delete_snapshot(make_snapshot(make_volume(MIB)))
    assert bench.leftovers() == []


def test_reverting_brings_the_content_back_and_keeps_the_size(bench: Bench) -> None:
    volume = made(bench)
    snapshot = kept(bench, volume)
    grown = replace(volume, size=2 * MIB)
    bench.driver.extend(grown)
    bench.write(volume, 0, NEW)
    bench.write(volume, MIB, NEW)
    bench.driver.revert(volume, snapshot)
    bench.driver.revert(volume, snapshot)
    assert size_of(bench, volume) == 2 * MIB
    assert bench.read(volume, 0, len(OLD)) == OLD
    assert bench.read(volume, MIB, MIB) == bytes(MIB)
    assert set(bench.driver.snapshots(volume.id)) == {snapshot.id}


def test_reverting_grows_a_volume_that_is_to_be_larger(bench: Bench) -> None:
    volume = made(bench)
    snapshot = kept(bench, volume)
    bench.driver.revert(replace(volume, size=4 * MIB), snapshot)
    assert size_of(bench, volume) == 4 * MIB


def test_reverting_to_a_missing_snapshot_changes_nothing(bench: Bench) -> None:
    volume = made(bench)
    with pytest.raises(NotFoundError):
        bench.driver.revert(volume, make_snapshot(volume))
    assert bench.read(volume, 0, len(OLD)) == OLD


def test_reverting_to_another_volumes_snapshot_is_refused(bench: Bench) -> None:
    volume, other = made(bench), made(bench, content=NEW)
    with pytest.raises(InvalidValueError, match="snapshot"):
        bench.driver.revert(volume, kept(bench, other))
    assert bench.read(volume, 0, len(OLD)) == OLD


@pytest.mark.parametrize("verb", ["extend", "snapshot", "revert"])
def test_a_verb_on_a_volume_that_is_not_there_says_so(bench: Bench, verb: str) -> None:
    volume = make_volume(MIB)
    snapshot = make_snapshot(volume)
    arguments = {"extend": (volume,), "snapshot": (snapshot,), "revert": (volume, snapshot)}[verb]
    with pytest.raises(NotFoundError, match=volume.id):
        getattr(bench.driver, verb)(*arguments)
    assert bench.leftovers() == []


def test_the_capacity_is_in_bytes_and_what_is_free_is_part_of_it(bench: Bench) -> None:
    found = bench.driver.capacity()
    assert 0 < found.free <= found.total


@pytest.mark.parametrize("hostile", HOSTILE_IDS, ids=ascii)
def test_an_id_that_is_not_one_reaches_no_path(bench: Bench, hostile: str) -> None:
    driver, good = bench.driver, made(bench)
    volume = replace(good, id=VolumeId(hostile))
    of_volume = make_snapshot(volume)
    snapshot = replace(make_snapshot(good), id=SnapshotId(hostile))
    verbs: list[Callable[[], object]] = [
        lambda: driver.volume(volume.id),
        lambda: driver.path(volume),
        lambda: driver.create(volume),
        lambda: driver.create(make_volume(MIB), volume),
        lambda: driver.create(make_volume(MIB), of_volume),
        lambda: driver.create(make_volume(MIB), snapshot),
        lambda: driver.extend(volume),
        lambda: driver.delete(volume),
        lambda: driver.snapshots(volume.id),
        lambda: driver.snapshot(of_volume),
        lambda: driver.snapshot(snapshot),
        lambda: driver.delete_snapshot(of_volume),
        lambda: driver.delete_snapshot(snapshot),
        lambda: driver.revert(volume, of_volume),
        lambda: driver.revert(good, snapshot),
    ]
    for verb in verbs:
        with pytest.raises(InvalidValueError):
            verb()
    assert list(driver.volumes()) == [good.id]


# -- a process that ends in the middle --------------------------------------------------------------------------


def every_crash(
    bench: Bench, verb: str, make_arguments: Callable[[], tuple[Volume | Snapshot, ...]]
) -> Iterator[tuple[Volume | Snapshot, ...]]:
    """Run verb on new arguments again and again, dying one step later each time; yields after each death."""
    for at in itertools.count():
        arguments = make_arguments()
        if not bench.dies_in(verb, *arguments, at=at):
            assert at >= 2, "the verb has no steps to die at"
            return
        yield arguments


def test_a_crash_while_a_volume_is_made_leaves_all_or_nothing_of_it(bench: Bench) -> None:
    for (volume,) in every_crash(bench, "create", lambda: (make_volume(MIB),)):
        assert isinstance(volume, Volume)
        assert size_of(bench, volume) in {None, MIB}
        bench.driver.create(volume)
        assert bench.read(volume, 0, MIB) == bytes(MIB)
        assert bench.leftovers() == []


def test_a_crash_while_a_snapshot_is_copied_leaves_all_or_nothing_of_the_volume(bench: Bench) -> None:
    snapshot = kept(bench, made(bench))
    for volume, _ in every_crash(bench, "create", lambda: (make_volume(2 * MIB), snapshot)):
        assert isinstance(volume, Volume)
        assert size_of(bench, volume) in {None, 2 * MIB}
        bench.driver.create(volume, snapshot)
        assert bench.read(volume, 0, len(OLD)) == OLD
        assert size_of(bench, volume) == 2 * MIB
        assert bench.leftovers() == []


def test_a_crash_while_a_volume_is_copied_leaves_all_or_nothing_of_the_new_one(bench: Bench) -> None:
    source = made(bench)
    for volume, _ in every_crash(bench, "create", lambda: (make_volume(2 * MIB), source)):
        assert isinstance(volume, Volume)
        assert size_of(bench, volume) in {None, 2 * MIB}
        bench.driver.create(volume, source)
        assert bench.read(volume, 0, 2 * MIB) == OLD + bytes(2 * MIB - len(OLD))
        assert bench.leftovers() == []


def test_a_half_made_volume_can_be_deleted(bench: Bench) -> None:
    snapshot = kept(bench, made(bench))
    for volume, _ in every_crash(bench, "create", lambda: (make_volume(MIB), snapshot)):
        assert isinstance(volume, Volume)
        bench.driver.delete(volume)
        assert bench.driver.volume(volume.id) is None
        assert bench.leftovers() == []


def test_a_crash_while_a_volume_is_extended_loses_no_data(bench: Bench) -> None:
    for (volume,) in every_crash(bench, "extend", lambda: (replace(made(bench), size=2 * MIB),)):
        assert isinstance(volume, Volume)
        assert size_of(bench, volume) in {MIB, 2 * MIB}
        bench.driver.extend(volume)
        assert bench.read(volume, 0, 2 * MIB) == OLD + bytes(2 * MIB - len(OLD))


def test_a_crash_while_a_volume_is_deleted_is_mended_by_deleting_it_again(bench: Bench) -> None:
    for (volume,) in every_crash(bench, "delete", lambda: (made(bench),)):
        assert isinstance(volume, Volume)
        bench.driver.delete(volume)
        assert bench.driver.volume(volume.id) is None
        assert bench.leftovers() == []


def test_a_crash_while_a_snapshot_is_made_leaves_all_or_nothing_of_it(bench: Bench) -> None:
    for (snapshot,) in every_crash(bench, "snapshot", lambda: (make_snapshot(made(bench)),)):
        assert isinstance(snapshot, Snapshot)
        volume = make_volume(MIB, snapshot.volume_id)
        assert set(bench.driver.snapshots(volume.id)) <= {snapshot.id}
        bench.driver.snapshot(snapshot)
        bench.write(volume, 0, NEW)
        bench.driver.revert(volume, snapshot)
        assert bench.read(volume, 0, len(OLD)) == OLD
        assert bench.leftovers() == []


def test_a_half_made_snapshot_can_be_deleted_and_does_not_hold_its_volume(bench: Bench) -> None:
    for (snapshot,) in every_crash(bench, "snapshot", lambda: (make_snapshot(made(bench)),)):
        assert isinstance(snapshot, Snapshot)
        volume = make_volume(MIB, snapshot.volume_id)
        bench.driver.delete_snapshot(snapshot)
        bench.driver.delete(volume)
        assert bench.driver.volume(volume.id) is None
        assert bench.leftovers() == []


def test_a_crash_while_a_snapshot_is_deleted_is_mended_by_deleting_it_again(bench: Bench) -> None:
    for (snapshot,) in every_crash(bench, "delete_snapshot", lambda: (kept(bench, made(bench)),)):
        assert isinstance(snapshot, Snapshot)
        bench.driver.delete_snapshot(snapshot)
        assert bench.driver.snapshots(snapshot.volume_id) == {}
        bench.driver.delete(make_volume(MIB, snapshot.volume_id))
        assert bench.leftovers() == []


def test_a_crash_while_a_volume_is_reverted_leaves_the_old_content_or_the_snapshots(bench: Bench) -> None:
    def changed() -> tuple[Volume, Snapshot]:
        volume = made(bench)
        snapshot = kept(bench, volume)
        bench.write(volume, 0, NEW)
        return volume, snapshot

    for volume, snapshot in every_crash(bench, "revert", changed):
        assert isinstance(volume, Volume)
        assert isinstance(snapshot, Snapshot)
        assert bench.read(volume, 0, len(OLD)) in {OLD, NEW}
        bench.driver.revert(volume, snapshot)
        assert bench.read(volume, 0, MIB) == OLD + bytes(MIB - len(OLD))
        assert bench.leftovers() == []
