"""Where weft's own directories are when the configuration does not say, and how long their paths may be."""

import os
from pathlib import Path

from weft.errors import InvalidValueError


def home(variable: str, under_home: str) -> Path:
    """What the XDG variable names, else the same place below the user's home."""
    value = os.environ.get(variable, "")
    if Path(value).is_absolute():
        return Path(value)
    try:
        return Path.home() / under_home
    except RuntimeError:
        raise InvalidValueError(
            variable, "neither it nor HOME says where this user's files are; set one"
        ) from None


def default_data_dir() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/weft")
    return home("XDG_DATA_HOME", ".local/share") / "weft"


def default_runtime_dir(data_dir: Path) -> Path:
    """Not $XDG_RUNTIME_DIR: it goes when its user logs out, and attached volumes are to stay."""
    return Path("/run/weft") if os.geteuid() == 0 else data_dir / "run"


def check_socket_length(runtime_dir: Path) -> None:
    """Raises InvalidValueError when the kernel would not take the name of a socket in the directory."""
    longest = len(os.fsencode(runtime_dir / "target.sock"))
    if longest > 107:  # sun_path, unix(7)
        raise InvalidValueError(
            "runtime_dir", f"{runtime_dir} is too long for a unix socket; choose a shorter path"
        )
