"""Any sequence of verbs gives the same on the file driver as on the fake that other tests trust."""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from fakes.driver import BLOCK, FakeVolumeDriver
from fakes.rows import make_snapshot, make_volume
from weft.drivers.file import FileDriver
from weft.errors import WeftError
from weft.model import Snapshot, Volume
from weft.ports import VolumeDriver

BLOCKS = st.integers(1, 4)


class Agreement(RuleBasedStateMachine):
    volumes = Bundle("volumes")
    snapshots = Bundle("snapshots")

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="weft-test-"))
        self.file = FileDriver(self.root)
        self.fake = FakeVolumeDriver()

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    def both(self, verb: Callable[[VolumeDriver], object]) -> None:
        errors: list[type[WeftError] | None] = []
        for driver in (self.file, self.fake):
            try:
                verb(driver)
                errors.append(None)
            except WeftError as error:
                errors.append(type(error))
        assert errors[0] is errors[1]

    @rule(target=volumes, blocks=BLOCKS)
    def new_volume(self, blocks: int) -> Volume:
        volume = make_volume(blocks * BLOCK)
        self.both(lambda driver: driver.create(volume))
        return volume

    @rule(volume=volumes)
    def create_again(self, volume: Volume) -> None:
        self.both(lambda driver: driver.create(volume))

    @rule(target=volumes, snapshot=snapshots, blocks=BLOCKS)
    def from_snapshot(self, snapshot: Snapshot, blocks: int) -> Volume:
        volume = make_volume(blocks * BLOCK)
        self.both(lambda driver: driver.create(volume, snapshot))
        return volume

    @rule(volume=volumes, blocks=BLOCKS)
    def extend(self, volume: Volume, blocks: int) -> None:
        self.both(lambda driver: driver.extend(replace(volume, size=blocks * BLOCK)))

    @rule(volume=volumes)
    def delete(self, volume: Volume) -> None:
        self.both(lambda driver: driver.delete(volume))

    @rule(target=snapshots, volume=volumes)
    def new_snapshot(self, volume: Volume) -> Snapshot:
        snapshot = make_snapshot(volume)
        self.both(lambda driver: driver.snapshot(snapshot))
        return snapshot

    @rule(snapshot=snapshots)
    def snapshot_again(self, snapshot: Snapshot) -> None:
        self.both(lambda driver: driver.snapshot(snapshot))

    @rule(snapshot=snapshots)
    def delete_snapshot(self, snapshot: Snapshot) -> None:
        self.both(lambda driver: driver.delete_snapshot(snapshot))

    @rule(volume=volumes, snapshot=snapshots)
    def revert(self, volume: Volume, snapshot: Snapshot) -> None:
        self.both(lambda driver: driver.revert(volume, snapshot))

    @rule(volume=volumes, block=st.integers(0, 3), byte=st.integers(1, 255))
    def write(self, volume: Volume, block: int, byte: int) -> None:
        found = self.file.volume(volume.id)
        if found is not None and (block + 1) * BLOCK <= found.size:
            self.fake.write(volume.id, block * BLOCK, bytes([byte]) * BLOCK)
            with found.path.open("r+b") as file:
                os.pwrite(file.fileno(), bytes([byte]) * BLOCK, block * BLOCK)

    @rule()
    def reopen(self) -> None:
        self.file = FileDriver(self.root)

    @invariant()
    def the_same_volumes_hold_the_same_bytes(self) -> None:
        here, there = self.file.volumes(), self.fake.volumes()
        assert {key: found.size for key, found in here.items()} == {
            key: found.size for key, found in there.items()
        }
        for volume_id, found in here.items():
            assert found.path.read_bytes() == self.fake.read(volume_id, 0, found.size)
            kept = self.file.snapshots(volume_id)
            assert set(kept) == set(self.fake.snapshots(volume_id))

    @invariant()
    def nothing_half_made_is_left(self) -> None:
        assert list(self.root.rglob(".*")) == []
        assert [path for path in (self.root / "snapshots").iterdir() if not any(path.iterdir())] == []


TestAgreement = Agreement.TestCase
TestAgreement.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
