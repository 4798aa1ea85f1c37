"""Running tests of this checkout inside a VM, whose kernel they may use."""

import sysconfig
import tarfile
import tempfile
from pathlib import Path

from kernel_host.kernel_setting import ALLOWED
from lab import Vm

_CHECKOUT = Path(__file__).parents[2]
_TREES = ("src/weft", "tests", "pyproject.toml")
_PACKAGES = (
    "pytest",
    "_pytest",
    "py.py",
    "pluggy",
    "iniconfig",
    "packaging",
    "pygments",
    "hypothesis",
    "_hypothesis_globals.py",
    "_hypothesis_ftz_detector.py",
    "_hypothesis_pytestplugin.py",
    "sortedcontainers",
    "pytest_timeout.py",
)
"""What the tests need beside weft's own dependencies; all of it is Python alone."""
_ENTRY_POINTS = ("pytest_timeout", "hypothesis")


def run_suite(vm: Vm, *arguments: str, timeout: float) -> str:
    """Run pytest in the VM; returns what it printed. Raises CommandFailedError when a test fails."""
    packages = Path(sysconfig.get_path("purelib"))
    found = [packages / name for name in _PACKAGES if (packages / name).exists()]
    found += [each for name in _ENTRY_POINTS for each in packages.glob(f"{name}-*.dist-info")]
    with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
        with tarfile.open(archive.name, "w") as tar:
            for tree in _TREES:
                tar.add(_CHECKOUT / tree, f"suite/{tree}", filter=_no_caches)
            for each in found:
                tar.add(each, f"suite/packages/{each.name}", filter=_no_caches)
        vm.put(Path(archive.name), "/root/suite.tar")
    words = " ".join(f"'{each}'" for each in arguments)
    script = (
        "rm -rf /root/suite; tar -xf /root/suite.tar -C /root; cd /root/suite\n"
        f"export {ALLOWED}=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/root/suite/src:/root/suite/packages\n"
        f"/opt/weft/bin/python -m pytest -q -p no:cacheprovider {words}"
    )
    return vm.run(script, timeout=timeout).stdout


def _no_caches(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if entry.name.endswith("__pycache__") else entry
