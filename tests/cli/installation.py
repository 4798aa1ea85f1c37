"""weft as a user has it: a daemon and its target, processes of their own."""

import socket
import subprocess
import sys
import time
from pathlib import Path

from cli.runner import Cli, make_cli

_START_SECONDS = 30.0


def run_weft(cli: Cli, *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """One command in a process of its own, whose standard streams carry bytes."""
    return subprocess.run(
        [sys.executable, "-m", "weft", *arguments, "--config", str(cli.config)],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        check=False,
        timeout=60,
    )


class Installation:
    """A daemon and its target below a folder. listen: where its API is to be reached over TCP."""

    def __init__(self, folder: Path, *, listen: str = "") -> None:
        self.cli = make_cli(folder)
        with socket.create_server(("127.0.0.1", 0)) as finder:
            port = finder.getsockname()[1]
        with self.cli.config.open("a") as config:
            config.write(
                f'[target]\nkind = "embedded"\nportals = ["127.0.0.1:{port}"]\n[host]\nconnector = "embedded"\n'
            )
            if listen:
                config.write(f'[api]\nlisten = ["{listen}"]\n')
        self._log = folder / "serve.log"
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._daemon = subprocess.Popen(
                [sys.executable, "-m", "weft", "serve", "--config", str(self.cli.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_SECONDS
        while self.cli("status").exit_code != 0:
            assert self._daemon.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)

    def stop(self, *more: str) -> None:
        self.cli.ok("stop", *more)
        self._daemon.wait(20)

    @property
    def log(self) -> str:
        return self._log.read_text()
