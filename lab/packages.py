"""Other projects' Python packages for the VMs, unpacked here: there is no time for pip in an emulated machine."""

import tarfile
import tempfile
import zipfile
from pathlib import Path

from lab.vm import Vm
from lab.wheels import download_wheels

_SECONDS = 300.0


def archive_packages(requirements: Path, archive: Path) -> None:
    """Write a tar archive with everything that a requirements file with hashes names, ready for PYTHONPATH.

    Raises LabUnavailableError when the package index does not have it or cannot be reached.
    """
    with tempfile.TemporaryDirectory(prefix="weft-wheels-") as work:
        wheels, unpacked = Path(work, "wheels"), Path(work, "unpacked")
        wheels.mkdir()
        download_wheels(requirements, wheels)
        for wheel in wheels.glob("*.whl"):
            with zipfile.ZipFile(wheel) as content:
                content.extractall(unpacked)
        with tarfile.open(archive, "w") as tar:
            tar.add(unpacked, ".")


def put_packages(vm: Vm, archive: Path, folder: str) -> None:
    """Have the packages of an archive in a folder of the VM."""
    vm.put(archive, "/root/packages.tar", timeout=_SECONDS)
    vm.run(
        f"mkdir -p {folder}; tar --extract --file /root/packages.tar --directory {folder}; rm /root/packages.tar",
        timeout=_SECONDS,
    )
