"""Parts of the collection's roles, played by Ansible on this machine with a weft that only answers."""

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-ansible"
ROLES = ROOT / "ansible_collections" / "weft" / "storage" / "roles"
TIMEOUT = 120

WEFT = """#!{python}
import sys
open({log!r}, "a").write(" ".join(sys.argv[1:]) + "\\n")
code, text = {told!r}.get(sys.argv[1], (0, "{{}}"))
print(text)
sys.exit(code)
"""


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a play: all that Ansible said, and the number of changed and failed tasks by machine."""

    output: str
    changed: Mapping[str, int]
    failed: Mapping[str, int]

    @property
    def well(self) -> bool:
        return bool(self.failed) and not any(self.failed.values())

    def says(self, sentence: str) -> bool:
        """Whether it is in the output, wherever that is broken into lines."""
        return " ".join(sentence.split()) in " ".join(self.output.split())


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine under one or several names, as Ansible's inventory has them."""

    folder: Path

    @property
    def link(self) -> Path:
        return self.folder / "weft"

    @property
    def called(self) -> list[str]:
        """The commands that were given to weft, the first first."""
        log = self.folder / "called"
        return log.read_text().splitlines() if log.exists() else []

    def answer(self, **answers: tuple[int, object]) -> None:
        """Have a weft that tells its first word's exit code and JSON; without answers it is only there."""
        told = {word: (code, json.dumps(answer)) for word, (code, answer) in answers.items()}
        self.program("weft", WEFT.format(python=sys.executable, log=str(self.folder / "called"), told=told))

    def program(self, name: str, text: str) -> None:
        file = self.folder / name
        file.write_text(text)
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    def play(
        self,
        tasks: Sequence[Mapping[str, Any]],
        *,
        check: bool = False,
        names: Sequence[str] = ("localhost",),
        facts: bool = False,
        **variables: object,
    ) -> Played:
        play = {"hosts": "all", "gather_facts": facts, "tasks": list(tasks)}
        given = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "install_link": str(self.link),
        }
        (self.folder / "play.json").write_text(json.dumps([play]))
        inventory = {"all": {"hosts": {name: {} for name in names}, "vars": given}}
        (self.folder / "inventory.json").write_text(json.dumps(inventory))
        command: list[str | Path] = [ENVIRONMENT / "bin" / "ansible-playbook", "--inventory"]
        command += [self.folder / "inventory.json", self.folder / "play.json"]
        command += ["--extra-vars", json.dumps(variables)]
        done = subprocess.run(
            [*command, *(["--check"] if check else [])],
            env={
                "HOME": str(self.folder),
                "PATH": f"{self.folder}:{os.environ['PATH']}",
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT),
                "ANSIBLE_NOCOLOR": "1",
                "LC_ALL": "C.UTF-8",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
        output = done.stdout + done.stderr
        recap = re.findall(
            r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=(\d+) ", output, re.MULTILINE
        )
        return Played(
            output,
            changed={name: int(changed) for name, changed, _ in recap},
            failed={name: int(failed) for name, _, failed in recap},
        )


def part(role: str, tasks: str) -> Mapping[str, Any]:
    """One file of a role's tasks."""
    return {
        "name": f"{role}, {tasks}",
        "ansible.builtin.include_role": {"name": f"weft.storage.{role}", "tasks_from": tasks},
    }
