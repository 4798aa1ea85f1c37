"""Who this host is towards controllers: its host NQN and its host identifier.

A machine has one identity. It comes from the configuration, else from the files that nvme-cli and the kernel host
use, else it is made once and kept in the data directory, from where the kernel's connector publishes it to those
files. Whatever is there but damaged or half there is an error: a second identity would look like a second host, and
two NQNs with one identifier are refused by Linux controllers.
"""

import uuid
from pathlib import Path
from typing import Final

from weft.config import Config
from weft.errors import DataError, InvalidValueError
from weft.model import HostIdentity
from weft.names import check_nqn, host_nqn
from weft.private import write_private, write_whole

SYSTEM_DIRECTORY: Final = Path("/etc/nvme")
"""Where nvme-cli keeps `hostnqn` and `hostid`."""

_REMEDY: Final = "repair it, or give host.nqn and host.id in weft's configuration"


def load_identity(config: Config, system_directory: Path = SYSTEM_DIRECTORY) -> HostIdentity:
    """This host's identity; made and kept if there was none.

    Raises InvalidValueError for a wrong configuration, and DataError naming the file that is damaged, unreadable or
    lacks its other half.
    """
    if config.host.nqn:
        return HostIdentity(nqn=config.host.nqn, id=_check_id("host.id", config.host.id))
    own = config.data_dir / "host-identity"
    return _system_identity(system_directory, own) or _own_identity(own)


def publish_identity(identity: HostIdentity, system_directory: Path = SYSTEM_DIRECTORY) -> None:
    """Have nvme-cli and whoever else tells the kernel to connect use this identity too, if they have none yet.

    Files that are there stay as they are, also with another identity that the configuration overrides. Interrupted,
    it leaves none or one of the two, which the next call completes. Raises DataError when they cannot be written.
    """
    wanted = {"hostid": identity.id, "hostnqn": identity.nqn}
    there = {name: _read(system_directory / name) for name in wanted}
    if any(there[name] not in {None, wanted[name]} for name in wanted):
        return
    for name, value in wanted.items():  # the identifier first: load_identity knows by it what is left to do
        if there[name] is None:
            write_whole(system_directory / name, f"{value}\n".encode(), "this host's identity", mode=0o644)


def _system_identity(directory: Path, own: Path) -> HostIdentity | None:
    nqn_file, id_file = directory / "hostnqn", directory / "hostid"
    nqn, identifier = _read(nqn_file), _read(id_file)
    if nqn is None and identifier is None:
        return None
    if nqn is None or identifier is None:
        if own.exists() and identifier == (kept := _own_identity(own)).id:
            return kept  # publish_identity was interrupted
        there, missing = (id_file, nqn_file) if nqn is None else (nqn_file, id_file)
        raise DataError(f"{there} is there and {missing} is missing or empty: {_REMEDY}")
    # The NQN of a host often holds another UUID than its identifier (Debian's nvme-cli makes the two apart), and
    # nothing requires them to be equal.
    return HostIdentity(nqn=_nqn_in(nqn_file, nqn), id=_id_in(id_file, identifier))


def _own_identity(path: Path) -> HostIdentity:
    text = _read(path)
    if text is None:
        text = _make(path)
    lines = text.splitlines()
    if len(lines) != 2:
        raise DataError(f"{path} does not hold an NQN and an identifier, one on each line: {_REMEDY}")
    return HostIdentity(nqn=_nqn_in(path, lines[0]), id=_id_in(path, lines[1]))


def _make(path: Path) -> str:
    """Write a new identity, or give the one that another process has written meanwhile."""
    host_id = str(uuid.uuid4())
    text = f"{host_nqn(host_id)}\n{host_id}\n"
    written = write_private(path, text.encode(), "this host's identity", replace=False)
    return text if written else _read(path) or ""


def _read(path: Path) -> str | None:
    """The file's text without space around it; None if it is not there or, in the system's directory, empty."""
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}): {_REMEDY}") from None


def _nqn_in(path: Path, value: str) -> str:
    try:
        return check_nqn(str(path), value)
    except InvalidValueError as error:
        raise DataError(f"{error}: {_REMEDY}") from None


def _id_in(path: Path, value: str) -> str:
    try:
        return _check_id(str(path), value)
    except InvalidValueError as error:
        raise DataError(f"{error}: {_REMEDY}") from None


def _check_id(field: str, value: str) -> str:
    try:
        identifier = uuid.UUID(value)
    except ValueError:
        raise InvalidValueError(field, f"{value!r} is not a UUID") from None
    if identifier.int == 0:
        raise InvalidValueError(field, "the UUID of zeros is nobody's identifier")
    return str(identifier)
