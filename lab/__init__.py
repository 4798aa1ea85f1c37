"""Virtual machines in which weft meets the real kernel: nvmet, NVMe over TCP and RDMA, LVM, iSCSI.

`Lab` starts a storage node and hosts within seconds, `Vm` is one of them. See lab/README.md.
"""

from lab.cleaning import clean, leftovers
from lab.debian import Debian
from lab.errors import CommandFailedError, LabError, LabUnavailableError
from lab.laboratory import Lab
from lab.ssh import RemoteProcess, Result
from lab.vm import Rdma, Vm
from lab.wire import Direction, Wire

__all__ = [
    "CommandFailedError",
    "Debian",
    "Direction",
    "Lab",
    "LabError",
    "LabUnavailableError",
    "Rdma",
    "RemoteProcess",
    "Result",
    "Vm",
    "Wire",
    "clean",
    "leftovers",
]
