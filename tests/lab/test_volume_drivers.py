"""The LVM drivers on real LVM: the tests of all volume drivers are run inside the storage node."""

import io
import tarfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from lab import Lab, Vm

_CHECKOUT = Path(__file__).parents[2]
_TOOLS = (
    "pytest",
    "pluggy",
    "iniconfig",
    "packaging",
    "pygments",
    "hypothesis",
    "sortedcontainers",
    "pytest-timeout",
)
"""What these tests need beside weft; all of it is Python alone."""
_FOLDER = "/root/volume-drivers"
_SECONDS = 3600
_RUN = f"""
cd {_FOLDER}
export PYTHONPATH={_FOLDER}/tools:{_FOLDER}/tests WEFT_TEST_LVM_DEVICES=%s
exec /opt/weft/bin/python -m pytest -p no:cacheprovider -o timeout={_SECONDS} -q -k %s tests/contract/test_volume_driver_contract.py tests/contract/test_lvm_failures.py
"""


@pytest.fixture(scope="module")
def node_with_tests(lab_with_weft: Lab, tmp_path_factory: pytest.TempPathFactory) -> Vm:
    vm = lab_with_weft["node"]
    archive = tmp_path_factory.mktemp("tests") / "tests.tar"
    archive.write_bytes(packed())
    vm.put(archive, f"{_FOLDER}.tar")
    vm.run(f"rm -rf {_FOLDER}; mkdir {_FOLDER}; tar -xf {_FOLDER}.tar -C {_FOLDER} --no-same-owner")
    return vm


def packed() -> bytes:
    """The tests, what configures them and what they need, as a tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(_CHECKOUT / "pyproject.toml", "pyproject.toml")
        for name in ("conftest.py", "contract", "fakes"):
            tar.add(_CHECKOUT / "tests" / name, f"tests/{name}", filter=_without_caches)
        for tool in _TOOLS:
            for each in distribution(tool).files or ():
                if ".." not in each.parts and each.suffix != ".pyc":
                    tar.add(each.locate(), f"tools/{each}")
    return buffer.getvalue()


def _without_caches(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in entry.name else entry


@pytest.mark.timeout(_SECONDS)
@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(
            "lvm and (from_a_snapshot_has or after_a_deleted or keeps_the_size)",
            id="content",
            marks=pytest.mark.lab_full,
        ),
        pytest.param("lvm-thin", id="thin", marks=pytest.mark.lab_full),
        pytest.param("lvm-thick", id="thick", marks=pytest.mark.lab_full),
    ],
)
def test_volumes_in_lvm_do_what_all_volumes_do(node_with_tests: Vm, chosen: str) -> None:
    devices = ",".join(node_with_tests.disks[-2:])
    done = node_with_tests.run(_RUN % (devices, repr(chosen)), timeout=_SECONDS, check=False)
    assert done.status == 0, done.stdout[-8000:] + done.stderr[-2000:]
