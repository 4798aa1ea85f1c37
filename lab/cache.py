"""Where what the lab is built of is kept: layers, each named by a fingerprint of all that it is made from."""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab.errors import LabError, LabUnavailableError

_UNUSED_DAYS = 14
_LOG_LINES = 15
_UNAVAILABLE = 77  # a script's exit status when this machine cannot do what it takes


def cache_folder() -> Path:
    """WEFT_LAB_CACHE, or /var/cache/weft-lab for root, or weft-lab in the user's cache folder."""
    if named := os.environ.get("WEFT_LAB_CACHE"):
        return Path(named).absolute()
    if os.geteuid() == 0:
        return Path("/var/cache/weft-lab")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weft-lab"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A folder that is built once from files, words and other layers."""

    name: str
    build: Callable[[Path], None]  # fills an empty folder; the folder is thrown away when it raises
    files: Sequence[Path] = ()
    words: Sequence[str] = ()
    below: Sequence["Layer"] = field(default=())

    def fingerprint(self) -> str:
        """Changes when anything that this layer is made from does."""
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(
                f"{path.name} {path.stat().st_mode & 0o777:o}\0".encode() + path.read_bytes() + b"\0"
            )
        for word in (*self.words, *(layer.fingerprint() for layer in self.below)):
            digest.update(word.encode() + b"\0")
        return digest.hexdigest()[:16]

    @property
    def folder(self) -> Path:
        return cache_folder() / f"{self.name}-{self.fingerprint()}"

    @property
    def is_built(self) -> bool:
        return self.folder.is_dir()


def build(layers: Sequence[Layer], say: Callable[[str], None]) -> None:
    """Build those layers that are missing, each after the ones before it.

    Of several builders at once one builds and the others wait for it. Raises LabError when a layer cannot be built;
    nothing half-made is left.
    """
    if all(layer.is_built for layer in layers):
        for layer in layers:
            os.utime(layer.folder)  # for the sweep
        return
    with _locked(say):
        _sweep(layers)
        for layer in layers:
            if layer.is_built:
                continue
            began = time.monotonic()
            say(f"  {layer.name} ...")
            unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=cache_folder()))
            try:
                layer.build(unfinished)
                unfinished.chmod(0o755)
                unfinished.rename(layer.folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
            say(f"  {layer.name} built in {time.monotonic() - began:.0f} s")


def run_script(script: Path, *arguments: str | Path, folder: Path) -> None:
    """Run a build script in a folder; all that it says goes to the cache's log folder.

    Raises LabError with the last of it when it fails, LabUnavailableError with its last line when it exits with 77.
    """
    log = cache_folder() / "log" / f"{script.stem}.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(script), *(str(argument) for argument in arguments)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        status = process.wait()
    except BaseException:  # interrupted: the script goes with all that it has started
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    if status == _UNAVAILABLE:
        raise LabUnavailableError(log.read_text("utf-8", errors="replace").splitlines()[-1])
    if status != 0:
        said = log.read_text("utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        raise LabError("\n".join([*said, f"{script.name} failed; all that it said is in {log}"]))


@contextmanager
def _locked(say: Callable[[str], None]) -> Iterator[None]:
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "lock").open("w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("  another build of the lab runs; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sweep(wanted: Sequence[Layer]) -> None:
    """Remove what interrupted builds left, and layers that nobody has used for long."""
    keep = {layer.folder for layer in wanted}
    for entry in cache_folder().iterdir():
        if entry in keep or not entry.is_dir() or entry.name == "log":
            continue
        age_days = (time.time() - entry.stat().st_mtime) / 86400
        if entry.name.startswith("unfinished-") or age_days > _UNUSED_DAYS:
            shutil.rmtree(entry, ignore_errors=True)
