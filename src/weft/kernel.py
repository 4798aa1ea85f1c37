"""What the running kernel has: its modules and the options it was built with. Read only, nothing is loaded.

Everything is read below a root, so that another machine's files can be looked at.
"""

import gzip
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Final

_FALSE: Final = re.compile(r"(/usr)?/?(s?bin/)?(false|true)|:")
"""What people give modprobe in the place of a module that must not be loaded, modprobe.d(5)."""

_MODPROBE_DIRECTORIES: Final = (
    "etc/modprobe.d",
    "run/modprobe.d",
    "usr/local/lib/modprobe.d",
    "usr/lib/modprobe.d",
    "lib/modprobe.d",
)
"""Where modprobe looks for its configuration; a file hides those of the same name that come later."""


class ModuleState(StrEnum):
    """What the kernel has of a module. LOADABLE: modprobe would load it. FORBIDDEN: modprobe is told not to."""

    BUILT_IN = "built in"
    LOADED = "loaded"
    LOADABLE = "loadable"
    FORBIDDEN = "forbidden"
    MISSING = "missing"

    @property
    def active(self) -> bool:
        """Whether its code is in the kernel now."""
        return self in {ModuleState.BUILT_IN, ModuleState.LOADED}

    @property
    def available(self) -> bool:
        """Whether it is there, or root can load it."""
        return self.active or self is ModuleState.LOADABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """The running kernel, by the files below root. release is what `uname -r` says.

    A module may be named with dashes or underscores. What cannot be read counts as not there.
    """

    root: Path = Path("/")
    release: str = field(default_factory=lambda: os.uname().release)

    @property
    def modules_directory(self) -> Path:
        return self.root / "lib/modules" / self.release

    def module(self, name: str) -> ModuleState:
        wanted = _normal(name)
        if (in_sysfs := self.root / "sys/module" / wanted).is_dir():
            # Only what was loaded from a file has an initstate, kernel/module/sysfs.c.
            return ModuleState.LOADED if (in_sysfs / "initstate").exists() else ModuleState.BUILT_IN
        if any(_name_of(path) == wanted for path in self._lines("modules.builtin")):
            return ModuleState.BUILT_IN
        if wanted not in self._dependencies():
            return ModuleState.MISSING
        return ModuleState.FORBIDDEN if self.forbidden_by(wanted) is not None else ModuleState.LOADABLE

    def why_not_module(self, name: str) -> str | None:
        """Why a module can be neither used nor loaded, as a clause for a person; None if it can."""
        match self.module(name):
            case ModuleState.FORBIDDEN:
                return f"{self.forbidden_by(name)} forbids loading the module {name}"
            case ModuleState.MISSING if not self.modules_directory.is_dir():
                return f"there is no module {name}, for {self.modules_directory} is not there"
            case ModuleState.MISSING:
                return f"the kernel {self.release} has no module {name}"
            case _:
                return None

    def forbidden_by(self, name: str) -> Path | None:
        """The file of modprobe's configuration which has a command that does nothing in the module's place.

        A mere `blacklist` line counts for aliases alone: modprobe loads the module by its name all the same.
        """
        for file in self._modprobe_files():
            for line in _read_lines(file):
                words = line.split(maxsplit=2)
                if len(words) == 3 and words[0] == "install" and _normal(words[1]) == _normal(name):
                    return file if _FALSE.fullmatch(words[2].split()[0]) else None
        return None

    def needs(self, name: str, dependency: str) -> bool:
        """Whether a loadable module needs another one, directly or not."""
        return _normal(dependency) in self._dependencies().get(_normal(name), frozenset())

    def option(self, name: str) -> str | None:
        """What the kernel was built with for an option, such as CONFIG_NVME_TARGET_AUTH: `y`, `m`, `n` or a value.

        None where nothing tells, and where the kernel does not know the option.
        """
        lines = next((each for each in self._build_configurations() if each), [])
        for line in lines:
            if line == f"# {name} is not set":
                return "n"
            if line.startswith(f"{name}="):
                return line.partition("=")[2]
        return None

    def parameter(self, module: str, name: str) -> str | None:
        """A parameter of a module that is in use, None when there is none or it cannot be read."""
        lines = _read_lines(self.root / "sys/module" / _normal(module) / "parameters" / name)
        return lines[0].strip() if lines else None

    def target_authenticates(self) -> bool | None:
        """Whether nvmet knows DH-HMAC-CHAP (CONFIG_NVME_TARGET_AUTH); None where nothing tells."""
        hosts = self.root / "sys/kernel/config/nvmet/hosts"
        try:
            some_host = next(iter(hosts.iterdir()), None)
        except OSError:
            some_host = None
        if some_host is not None:
            return (some_host / "dhchap_key").exists()
        return self._authenticates("nvmet", "CONFIG_NVME_TARGET_AUTH")

    def host_authenticates(self) -> bool | None:
        """Whether the kernel's host knows DH-HMAC-CHAP (CONFIG_NVME_HOST_AUTH); None where nothing tells."""
        # Until 6.6 the host's option was called CONFIG_NVME_AUTH, which is now the code that both sides share.
        named = "CONFIG_NVME_HOST_AUTH" if self.option("CONFIG_NVME_HOST_AUTH") else "CONFIG_NVME_AUTH"
        return self._authenticates("nvme_core", named)

    def _authenticates(self, module: str, option: str) -> bool | None:
        """The shared code is a module of its own, on which a side that authenticates depends."""
        built_with = self.option(option)
        if built_with is not None:
            return built_with in {"y", "m"}
        if _normal(module) in self._dependencies():
            return self.needs(module, "nvme_auth")
        return None

    def _dependencies(self) -> Mapping[str, frozenset[str]]:
        file = self.modules_directory / "modules.dep"
        try:
            found = file.stat()
        except OSError:
            return {}
        return _read_dependencies(file, found.st_ino, found.st_mtime_ns, found.st_size)

    def _lines(self, name: str) -> list[str]:
        return _read_lines(self.modules_directory / name)

    def _modprobe_files(self) -> Iterator[Path]:
        files: dict[str, Path] = {}
        for directory in _MODPROBE_DIRECTORIES:
            for file in sorted((self.root / directory).glob("*.conf")):
                files.setdefault(file.name, file)
        yield from (files[name] for name in sorted(files))

    def _build_configurations(self) -> Iterator[list[str]]:
        yield _read_compressed_lines(self.root / "proc/config.gz")
        yield _read_lines(self.root / f"boot/config-{self.release}")
        yield self._lines("config")


def _normal(name: str) -> str:
    return name.replace("-", "_")


def _name_of(path: str) -> str:
    """The module in a file such as kernel/drivers/nvme/target/nvmet-tcp.ko.xz."""
    return _normal(path.strip().rpartition("/")[2].partition(".ko")[0])


@lru_cache(maxsize=2)
def _read_dependencies(file: Path, *_version: int) -> Mapping[str, frozenset[str]]:
    """By module, the modules that it needs, modules.dep(5). There are thousands, so a file is read once."""
    found = {}
    for line in _read_lines(file):
        path, colon, needed = line.partition(":")
        if colon:
            found[_name_of(path)] = frozenset(map(_name_of, needed.split()))
    return found


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _read_compressed_lines(path: Path) -> list[str]:
    try:
        return gzip.decompress(path.read_bytes()).decode(errors="replace").splitlines()
    except (OSError, EOFError, zlib.error):
        return []
