"""Whether a controller of nvmet's still lives, asked of nvmet itself.

configfs does not tell who is connected. But the target answers a Connect for an I/O queue of a controller: where there
is no such controller it names the controller id as the wrong field, and where there is one and the queue's number is
beyond its queues, it names that (nvmet_execute_io_connect in drivers/nvme/target/fabrics-cmd.c). Neither changes
anything.
"""

import time
from collections.abc import Iterable
from typing import Final, Protocol

from weft.connection import NvmeofPortal
from weft.embedded.host.exchange import Exchange
from weft.embedded.host.queue_pair import ConnectionLostError
from weft.errors import UnavailableError
from weft.nvme.events import CommandCompleted
from weft.nvme.fabrics import Connect, ConnectData, connect_parameter
from weft.nvme.status import StatusCode
from weft.targets.nvmet_log import Controller

_SECONDS: Final = 5.0
_NO_SUCH_QUEUE: Final = 0xFFFF
_QUEUE_ID: Final = connect_parameter(42)
_CONTROLLER_ID: Final = connect_parameter(16, in_data=True)


class Probe(Protocol):
    def living(self, controllers: Iterable[Controller], portal: NvmeofPortal) -> list[Controller]:
        """Those that have not ended, asked through a tcp portal that shows their subsystem.

        Raises UnavailableError when it cannot be found out.
        """


class ConnectProbe:
    """Asks over NVMe/TCP."""

    def living(self, controllers: Iterable[Controller], portal: NvmeofPortal) -> list[Controller]:
        return [each for each in controllers if self._lives(each, portal)]

    def _lives(self, controller: Controller, portal: NvmeofPortal) -> bool:
        deadline = time.monotonic() + _SECONDS
        exchange = Exchange(portal, _Listener(), _SECONDS)
        try:
            data = ConnectData(
                hostid=bytes(16), subnqn=controller.subsystem, hostnqn=controller.host, cntlid=controller.id
            ).encode()
            command = Connect(qid=_NO_SUCH_QUEUE, sqsize=1)
            answer = exchange.execute(command, deadline - time.monotonic(), data=data)
        finally:
            exchange.queue_pair.close()
        if answer.status.code == StatusCode.CONNECT_INVALID_PARAMETERS:
            if answer.result == _QUEUE_ID:
                return True
            if answer.result == _CONTROLLER_ID:
                return False
        raise UnavailableError(
            f"nvmet does not tell whether controller {controller.id} lives: {answer.status.text} ({answer.result:#x})"
        )


class _Listener:
    def completed(self, completion: CommandCompleted) -> None:
        """Nothing but what is waited for is ever sent."""

    def lost(self, error: ConnectionLostError) -> None:
        """Who waits is told by the exchange."""
