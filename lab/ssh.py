"""Commands in a VM, over one ssh connection that all of them share."""

import contextlib
import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lab.errors import CommandFailedError, LabError

Command = Sequence[str] | str
_GRACE = 20.0  # seconds beyond a command's own time limit in the VM, for ssh itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str
    seconds: float


def shell_words(command: Command) -> str:
    """A list is one program and its arguments; a string is a bash script that ends at its first failure."""
    if isinstance(command, str):
        return shlex.join(["bash", "--norc", "-euo", "pipefail", "-c", command])
    return shlex.join(command)


class Ssh:
    """ssh to one VM. The connection is made when it is first needed, and again when it broke."""

    def __init__(self, name: str, folder: Path, key: Path) -> None:
        self._name = name
        self._folder = folder
        self._key = key
        self._lock = threading.Lock()
        self._is_alive: Callable[[], bool] = lambda: False
        self._master: subprocess.Popen[bytes] | None = None
        self._config = folder / f"{name}.ssh"
        self._socket = folder / f"{name}.mux"

    def point_at(self, port: int, is_alive: Callable[[], bool]) -> None:
        """The VM's ssh is at this port of 127.0.0.1 from now on; is_alive tells whether waiting for it makes sense."""
        self.close()
        self._is_alive = is_alive
        self._config.write_text(
            f"Host {self._name}\n"
            f"  HostName 127.0.0.1\n  Port {port}\n  User root\n  IdentityFile {self._key}\n"
            "  IdentitiesOnly yes\n  BatchMode yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n"
            "  LogLevel ERROR\n  ConnectTimeout 10\n  ServerAliveInterval 15\n  ServerAliveCountMax 8\n"
            f"  ControlPath {self._socket}\n",
            "utf-8",
        )

    @property
    def words(self) -> list[str]:
        """The command that a person types to get into the VM."""
        return ["ssh", "-F", str(self._config), self._name]

    def wait(self, deadline: float) -> None:
        """Return as soon as the VM takes commands.

        Raises LabError after the deadline (time.monotonic()), and at once when the VM does not run.
        """
        while not self._is_connected():
            if not self._is_alive():
                raise LabError(f"{self._name} does not run")
            if time.monotonic() > deadline:
                raise LabError(f"{self._name} does not answer ssh")
            self._connect(min(15.0, max(1.0, deadline - time.monotonic())))

    def run(
        self, command: Command, *, timeout: float, stdin: str | None = None, check: bool = True
    ) -> Result:
        """Run a command to its end, for at most timeout seconds.

        Raises CommandFailedError when check is set and the status is not 0, and LabError when time is over or the
        VM does not answer.
        """
        self.wait(time.monotonic() + min(timeout, 60))
        words = f"timeout --kill-after=5 {timeout:g} {shell_words(command)}"
        began = time.monotonic()
        try:
            done = subprocess.run(
                [*self.words, words],
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=timeout + _GRACE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise LabError(f"{self._name} did not end this within {timeout:g} s: {words}") from None
        took = time.monotonic() - began
        if done.returncode == 124 and took >= timeout:
            raise LabError(
                f"{self._name} did not end this within {timeout:g} s: {words}\n{done.stdout}{done.stderr}"
            )
        if check and done.returncode != 0:
            raise CommandFailedError(
                self._name, shell_words(command), done.returncode, done.stdout, done.stderr
            )
        return Result(status=done.returncode, stdout=done.stdout, stderr=done.stderr, seconds=took)

    def spawn(self, command: Command) -> "RemoteProcess":
        """Start a command and return at once."""
        self.wait(time.monotonic() + 60)
        return RemoteProcess(self, self._name, command)

    def put(self, source: Path, target: str, *, timeout: float) -> None:
        """Copy a file into the VM."""
        with source.open("rb") as content:
            self._copy(
                f"cat >{shlex.quote(target)}",
                stdin=content.fileno(),
                stdout=subprocess.DEVNULL,
                timeout=timeout,
            )

    def get(self, source: str, target: Path, *, timeout: float) -> None:
        """Copy a file out of the VM."""
        with target.open("wb") as content:
            self._copy(
                f"cat {shlex.quote(source)}",
                stdin=subprocess.DEVNULL,
                stdout=content.fileno(),
                timeout=timeout,
            )

    def close(self) -> None:
        """End the shared connection. Idempotent."""
        with self._lock:
            self._end_master()

    def _copy(self, command: str, *, stdin: int, stdout: int, timeout: float) -> None:
        self.wait(time.monotonic() + min(timeout, 60))
        try:
            done = subprocess.run(
                [*self.words, command],
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise LabError(f"{self._name}: {command} did not end within {timeout:g} s") from None
        if done.returncode != 0:
            raise CommandFailedError(
                self._name, command, done.returncode, "", done.stderr.decode(errors="replace")
            )

    def _is_connected(self) -> bool:
        return self._master is not None and self._master.poll() is None and self._socket.exists()

    def _connect(self, patience: float) -> None:
        """Try once to make the shared connection."""
        with self._lock:
            if self._is_connected():
                return
            self._end_master()
            self._master = subprocess.Popen(
                [*self.words[:-1], "-M", "-N", "-T", self._name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline and self._is_alive() and not self._socket.exists():
                if self._master.poll() is not None:
                    break
                time.sleep(0.02)
            if not self._socket.exists():
                self._end_master()
                time.sleep(0.2)

    def _end_master(self) -> None:
        if self._master is not None:
            self._master.kill()
            self._master.wait()
            self._master = None
        self._socket.unlink(missing_ok=True)


class RemoteProcess:
    """A command that runs in a VM beside others. Also a context manager, which stops it."""

    def __init__(self, ssh: Ssh, vm: str, command: Command) -> None:
        self._ssh = ssh
        self._vm = vm
        self._command = shell_words(command)
        self._began = time.monotonic()
        # Its own session, so that it can be ended with all its children; its leader's id comes first.
        script = f"echo $$; exec {self._command}"
        self._process = subprocess.Popen(
            [*ssh.words, shlex.join(["setsid", "--wait", "bash", "--norc", "-c", script])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._output = {"stdout": bytearray(), "stderr": bytearray()}
        self._leader = threading.Event()
        self._readers = [
            threading.Thread(target=self._read, args=(name,), name=f"{vm} {name}", daemon=True)
            for name in self._output
        ]
        for reader in self._readers:
            reader.start()
        if not self._leader.wait(30):
            self._process.kill()
            raise LabError(f"{vm} did not start this within 30 s: {self._command}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self._output["stdout"].partition(b"\n")[2].decode(errors="replace")

    @property
    def stderr(self) -> str:
        return self._output["stderr"].decode(errors="replace")

    def wait(self, timeout: float, *, check: bool = True) -> Result:
        """Its end. Raises LabError after timeout seconds (it then still runs), CommandFailedError as Ssh.run does."""
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self._vm} did not end this within {timeout:g} s: {self._command}") from None
        for reader in self._readers:
            reader.join(10)
        if check and status != 0:
            raise CommandFailedError(self._vm, self._command, status, self.stdout, self.stderr)
        took = time.monotonic() - self._began
        return Result(status=status, stdout=self.stdout, stderr=self.stderr, seconds=took)

    def signal(self, name: str = "TERM") -> None:
        """Send a signal to it and its children; nothing happens when they are gone."""
        leader = self._output["stdout"].partition(b"\n")[0].decode()
        self._ssh.run(["bash", "-c", f"kill -{name} -- -{leader} 2>/dev/null || true"], timeout=30)

    def stop(self) -> None:
        """End it, also when its VM is gone. Idempotent."""
        if self.is_running:
            with contextlib.suppress(LabError):
                self.signal("TERM")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        if self.is_running:
            with contextlib.suppress(LabError):
                self.signal("KILL")
            self._process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join(10)

    def _read(self, name: str) -> None:
        pipe = self._process.stdout if name == "stdout" else self._process.stderr
        if pipe is None:
            return
        with pipe:
            while chunk := os.read(pipe.fileno(), 65536):
                self._output[name] += chunk
                if name == "stdout":
                    self._leader.set()
        self._leader.set()
