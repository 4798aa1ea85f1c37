"""The releases of Debian that VMs run."""

from enum import Enum


class Debian(Enum):
    """Named as apt names them. All run the same kernel, that of Debian 13."""

    BOOKWORM = "bookworm"
    TRIXIE = "trixie"

    @property
    def python(self) -> str:
        """The version of its Python, such as 3.11."""
        return {Debian.BOOKWORM: "3.11", Debian.TRIXIE: "3.13"}[self]
