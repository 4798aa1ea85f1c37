"""Nothing that the SQLite store acknowledged is lost by kill -9, and nothing is there by halves."""

import os
import random
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from weft.ports import CLAIMS
from weft.store.sqlite import SqliteStore

SCRIPT = Path(__file__).with_name("transacting_process.py")


def acknowledged_before_its_kill(database: Path, seconds: float) -> int:
    """Let a process transact for so long after its first acknowledgement, kill it, and tell the last one."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(database)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    try:
        assert select.select([process.stdout], [], [], 30)[0], "the process did not begin"
        time.sleep(seconds)
    finally:
        process.kill()
        said, _ = process.communicate(timeout=10)
    whole_lines = said.decode().split("\n")[:-1]
    return int(whole_lines[-1])


@pytest.mark.parametrize("seed", range(2))
def test_every_acknowledged_transaction_is_there_and_none_by_halves(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    database = tmp_path / "weft.db"
    for _ in range(4):
        acknowledged = acknowledged_before_its_kill(database, chance.uniform(0, 0.12))
        store = SqliteStore(database)
        rows = {row.value.id: row for row in store.list(CLAIMS)}
        left, right = rows.pop("left"), rows.pop("right")
        assert int(left.value.owner) >= acknowledged
        assert left.value.owner == right.value.owner
        assert left.revision == right.revision == store.revision()
        assert len(rows) == int(left.value.owner), "a transaction in between is missing"
        store.close()
