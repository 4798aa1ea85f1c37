"""VMs for the tests in this folder: one lab for all of them, cleaned before each file.

Everything here has the mark `lab`. One row for each promise has no other mark and is run by `make test`; the others are
marked `lab_full` and run by `make test-full`. `pytest -m lab tests/lab/test_lab.py` runs one file.
"""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from lab import Lab, LabError, LabUnavailableError, Vm, clean

_HERE = Path(__file__).parent
_LOG_LINES = 200
_TEST_SECONDS = 900
_LAB = pytest.StashKey[Lab]()
_MARKS = pytest.StashKey[dict[str, int]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker("lab")
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(_TEST_SECONDS))


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A storage node and two hosts that share two wires."""
    try:
        with Lab() as lab:
            request.config.stash[_LAB] = lab
            yield lab
            del request.config.stash[_LAB]
    except LabUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def lab_with_weft(lab: Lab) -> Lab:
    """The same, with weft installed in every VM from this checkout."""
    lab.everywhere(Vm.install_weft)
    return lab


@pytest.fixture(scope="module", autouse=True)
def fresh(lab: Lab) -> None:
    """No test finds what one in another file left."""
    lab.everywhere(clean)


@pytest.fixture
def node(lab: Lab) -> Vm:
    return lab["node"]


@pytest.fixture
def host1(lab: Lab) -> Vm:
    return lab["host1"]


@pytest.fixture
def host2(lab: Lab) -> Vm:
    return lab["host2"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    running = item.config.stash.get(_LAB, None)
    item.stash[_MARKS] = {vm.name: vm.kernel_log_mark() for vm in running.vms.values()} if running else {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test's report has what the VMs' kernels said during it, and the last words of weft's service."""
    report = yield
    running = item.config.stash.get(_LAB, None)
    if report.failed and running is not None:
        marks = item.stash.get(_MARKS, {})
        for vm in running.vms.values():
            report.sections.append((f"kernel of {vm.name}", _shortened(vm.kernel_log(marks.get(vm.name, 0)))))
            report.sections.append((f"weft on {vm.name}", _journal(vm)))
    return report


def _shortened(log: str) -> str:
    """Both ends: what a kernel died of is followed by how it boots."""
    lines = log.splitlines()
    if len(lines) > 2 * _LOG_LINES:
        lines[_LOG_LINES:-_LOG_LINES] = [f"... {len(lines) - 2 * _LOG_LINES} lines ..."]
    return "\n".join(lines)


def _journal(vm: Vm) -> str:
    """What weft wrote last, or why that can't be read: a test may leave a VM dead, hung or cut off."""
    try:
        return vm.run(f"journalctl --unit weft --no-pager --output short | tail -n {_LOG_LINES}", 30).stdout
    except LabError as error:
        return str(error)
