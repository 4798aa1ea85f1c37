"""Wheels for the Python of the VMs: weft's own, and others from the package index."""

import atexit
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from lab.debian import Debian
from lab.errors import LabError, LabUnavailableError

CHECKOUT = Path(__file__).resolve().parent.parent
# The glibc of Debian 12, the oldest of them: 2.36.
_PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(36, 4, -1)]
_DOWNLOAD_SECONDS = 600.0
_BUILD_SECONDS = 120.0


def download_wheels(requirements: Path, folder: Path, debian: Debian = Debian.BOOKWORM) -> None:
    """Put everything that a requirements file with hashes names into a folder, as wheels for the VMs.

    Raises LabUnavailableError when the index does not have them or cannot be reached.
    """
    platforms = [
        word
        for name in [*_PLATFORMS, "manylinux2014_x86_64", "linux_x86_64"]
        for word in ("--platform", name)
    ]
    target = ["--python-version", debian.python, "--implementation", "cp"]
    for abi in ("cp" + debian.python.replace(".", ""), "abi3", "none"):
        target += ["--abi", abi]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--only-binary", ":all:", "--require-hashes", "--requirement", str(requirements)]
    try:
        _run([*command, *target, *platforms, "--dest", str(folder)], folder, _DOWNLOAD_SECONDS)
    except LabError as error:
        last = str(error).splitlines()[-1]
        raise LabUnavailableError(
            f"weft's dependencies could not be downloaded for the VMs: {last}"
        ) from None


@cache
def weft_wheel() -> Path:
    """weft's wheel, built from this checkout once in this process. Raises LabError when it cannot be built."""
    folder = Path(tempfile.mkdtemp(prefix="weft-wheel-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    _run(command, CHECKOUT, _BUILD_SECONDS)
    return next(folder.glob("weft-*.whl"))


def next_wheel(folder: Path) -> Path:
    """The wheel of a version after this one, which is the same but for its number. Raises LabError when it cannot be built."""
    source = folder / "next"
    source.mkdir(parents=True)
    for name in ("src", "docs"):
        shutil.copytree(CHECKOUT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, source / name)
    for name in ("pyproject.toml", "src/weft/__init__.py"):
        file = source / name
        file.write_text(file.read_text("utf-8").replace('"0.1.0"', '"0.1.1"', 1), "utf-8")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    _run(command, source, _BUILD_SECONDS)
    return next(folder.glob("weft-0.1.1-*.whl"))


def _run(command: list[str], folder: Path, timeout: float) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"this did not end within {timeout:g} s: {' '.join(command)}") from None
    if done.returncode != 0:
        raise LabError(f"this failed: {' '.join(command)}\n{done.stderr.strip() or done.stdout.strip()}")
