"""Ansible against the VMs of a lab, by the ssh that a person would use, with the collection of this checkout."""

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.laboratory import SSH_CONFIG, Lab
from lab.wheels import CHECKOUT

_ENVIRONMENT = CHECKOUT / ".venv-ansible"
_SETUP_SECONDS = 600.0
_RECAP = re.compile(r"^(\S+) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+) ", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of a playbook. changed and failed: the number of such tasks by VM; unreachable ones count as failed."""

    output: str
    changed: Mapping[str, int]
    failed: Mapping[str, int]

    def require(self) -> "Played":
        """This, if nothing has failed. Raises LabError with what Ansible said."""
        if not self.failed or any(self.failed.values()):
            raise LabError(f"Ansible failed:\n{self.output}")
        return self


class Ansible:
    """Plays playbooks for one lab. variables: of all its VMs."""

    def __init__(self, lab: Lab, variables: Mapping[str, object]) -> None:
        self._lab = lab
        self._home = lab.folder / "ansible"
        self._home.mkdir()
        self.variables = dict(variables)
        _run([str(CHECKOUT / "scripts" / "ansible.sh"), "setup"], _SETUP_SECONDS, os.environ)

    def play(
        self,
        playbook: str | Path,
        *,
        check: bool = False,
        timeout: float = 1200.0,
        hosts: Sequence[str] = (),
        **variables: object,
    ) -> Played:
        """Play a playbook to its end, whatever comes of it. variables: more of them, which come over the lab's.

        hosts: only these VMs. check: only tell what would be done. Raises LabError when it does not end in time.
        """
        command = [str(_ENVIRONMENT / "bin" / "ansible-playbook"), "--inventory", str(self._inventory())]
        command += [str(playbook), "--diff", "--extra-vars", json.dumps(variables)]
        command += ["--limit", ",".join(hosts)] if hosts else []
        command += ["--check"] if check else []
        output = _run(command, timeout, self._variables()).stdout
        recap = {each[1]: each for each in _RECAP.finditer(output)}
        return Played(
            output=output,
            changed={name: int(each[3]) for name, each in recap.items()},
            failed={name: int(each[4]) + int(each[5]) for name, each in recap.items()},
        )

    def _inventory(self) -> Path:
        groups = {"storage_nodes": "node", "hosts": "host"}
        inventory: dict[str, Any] = {
            group: {"hosts": {name: {} for name in self._lab.vms if name.startswith(kind)}}
            for group, kind in groups.items()
        }
        inventory["all"] = {
            "vars": {
                "ansible_ssh_common_args": f"-F {self._lab.folder / SSH_CONFIG}",
                "ansible_python_interpreter": "/usr/bin/python3",
                **self.variables,
            }
        }
        file = self._home / "inventory.json"
        file.write_text(json.dumps(inventory), "utf-8")
        return file

    def _variables(self) -> Mapping[str, str]:
        own = {
            "HOME": str(self._home),
            "ANSIBLE_HOME": str(self._home),
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_TIMEOUT": "60",
            "LC_ALL": "C.UTF-8",
        }
        return {**os.environ, **own, "PATH": f"{_ENVIRONMENT / 'bin'}:{os.environ['PATH']}"}


def _run(
    command: list[str], timeout: float, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            env=environment,
            cwd=CHECKOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{Path(command[0]).name} did not end within {timeout:g} s:\n{error.output}") from None
