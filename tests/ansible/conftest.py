"""This machine, as Ansible works on it."""

import subprocess
from pathlib import Path

import pytest

from fakes.played import ROOT, Machine


@pytest.fixture(scope="session")
def environment() -> None:
    subprocess.run([ROOT / "scripts" / "ansible.sh", "setup"], check=True, timeout=600, capture_output=True)


@pytest.fixture
def machine(tmp_path: Path, environment: None) -> Machine:
    del environment
    return Machine(tmp_path)
