"""The folder of a machine's files."""

from pathlib import Path

import pytest

from doctor.machines import MachineFiles


@pytest.fixture
def files(tmp_path: Path) -> MachineFiles:
    return MachineFiles(tmp_path / "root")
