"""weft as a user runs it, in a directory of its own: its processes, its command line, its traces."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from weft.client import Client
from weft.config import load_config
from weft.errors import UnavailableError

_START_SECONDS = 20.0
_COMMAND_SECONDS = 120.0


class WeftUnderDemo:
    """One installation below a directory; everything that it starts is ended by stop()."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "weft.toml"
        self.log = directory / "serve.log"
        self.seen_pids: set[int] = set()
        self._serve: subprocess.Popen[bytes] | None = None
        port = _free_port()
        self.config.write_text(
            f'data_dir = "{directory / "data"}"\nruntime_dir = "{directory / "run"}"\n'
            f'[target]\nkind = "embedded"\nportals = ["127.0.0.1:{port}"]\n[host]\nconnector = "embedded"\n[[pools]]\nname = "demo"\n'
            "over_commit = 1000\n"  # the demo must not need as much room as it promises
        )

    @property
    def serve_pid(self) -> int:
        assert self._serve is not None
        return self._serve.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._serve = subprocess.Popen(
                self._argv("serve"), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.seen_pids.add(self._serve.pid)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            if self._answers():
                return
            if self._serve.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"weft serve did not come up:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            self.client().pools()
        except UnavailableError:
            return False
        return True

    def kill_serve(self) -> None:
        assert self._serve is not None
        self._serve.kill()
        self._serve.wait(10)

    def weft(self, *arguments: str) -> Any:
        """What a command prints with --json; raises RuntimeError with its sentence when it fails."""
        done = self._run(*arguments, "--json")
        if done.returncode != 0:
            raise RuntimeError(f"weft {' '.join(arguments)}: {done.stderr.strip()}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def client(self) -> Client:
        return Client.for_config(load_config(self.config))

    def status(self) -> Any:
        """What `weft status` says, whether all is well or not."""
        return json.loads(self._run("status", "--json").stdout)

    def target_pid(self) -> int:
        pid = int(self.status()["target"]["pid"])
        self.seen_pids.add(pid)
        return pid

    def stop(self) -> None:
        """End the daemon and the target, and wait until they are gone."""
        self._run("stop", "--target")
        if self._serve is not None:
            try:
                self._serve.wait(10)
            except subprocess.TimeoutExpired:
                self._serve.kill()
                self._serve.wait(10)

    def end_what_is_left(self) -> list[str]:
        """End the processes and mounts that a failed run left, and name them."""
        left = [f"process {pid}" for pid in self.processes()]
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        for mount in self.mounts():
            left.append(f"mount {mount}")
            unmount = ["fusermount3", "-u", "-z", mount] if os.geteuid() else ["umount", "-l", mount]
            subprocess.run(unmount, check=False, capture_output=True, timeout=10)
        return left

    def processes(self) -> list[int]:
        """Processes that have this installation's directory in their arguments, and those seen that still run."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    arguments = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if os.fsencode(self.directory) in arguments:
                    found.append(int(entry.name))
        return found

    def mounts(self) -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line.split()[4] for line in lines if str(self.directory) in line.split()[4]]

    def sockets(self) -> list[str]:
        return [str(each) for each in self.directory.rglob("*") if each.is_socket()]

    def pool_files(self) -> list[str]:
        return [str(each) for each in (self.directory / "data" / "pools").rglob("*") if each.is_file()]

    def _argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "weft", *arguments, "--config", str(self.config)]

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._argv(*arguments),
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )


def _free_port() -> int:
    """A port that is free, and below those that the kernel gives to clients: a host that reconnects while the target
    is away could else be given the target's own port.
    """
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise RuntimeError("no free port was found")
