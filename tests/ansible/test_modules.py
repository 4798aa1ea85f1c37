"""The collection's modules, run by Ansible against a weft that runs."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.installation import Installation
from weft.embedded.host.fuse import missing_for_fuse
from weft.model import GIB

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-ansible"
NQN = "nqn.2014-08.org.nvmexpress:uuid:0a4fd6e2-9d1b-4f5c-8a55-6d3a1ef2b7c0"
KEY = "DHHC-1:00:ia6zGodOr4SEG0Zzaw398rpY0wqipUWj4jWjUh4HWUz6aQ2n:"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True, slots=True)
class Modules:
    """Runs one module on this machine, as a task would."""

    home: Path
    executable: Path
    config: Path

    def __call__(self, module: str, *, check: bool = False, secrets: bool = False, **options: object) -> Any:
        """What the module answered; with secrets, all that Ansible printed."""
        given = {"executable": str(self.executable), "config": str(self.config), **options}
        command: list[str | Path] = [
            ENVIRONMENT / "bin" / "ansible",
            "localhost",
            "--connection",
            "local",
            "-vvv" if secrets else "--diff",
        ]
        command += ["--extra-vars", json.dumps({"ansible_python_interpreter": sys.executable})]
        command += ["--module-name", f"weft.storage.{module}", "--args", json.dumps(given)]
        done = subprocess.run(
            [*command, *(["--check"] if check else [])],
            env={
                "HOME": str(self.home),
                "PATH": os.environ["PATH"],
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_LOCALHOST_WARNING": "0",
                "LC_ALL": "C.UTF-8",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        printed = done.stdout + done.stderr
        if secrets:
            return printed
        status, _, answer = done.stdout.rpartition(" => ")
        assert answer, printed
        return {**json.loads(answer), "failed": "FAILED!" in status}


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Modules]:
    """For a daemon of this test file alone."""
    subprocess.run([ROOT / "scripts" / "ansible.sh", "setup"], check=True, timeout=600, capture_output=True)
    with tempfile.TemporaryDirectory(prefix="weft-", dir="/tmp") as folder:
        installation = Installation(Path(folder))
        try:
            weft = Path(sys.executable).with_name("weft")
            yield Modules(tmp_path_factory.mktemp("home"), weft, installation.cli.config)
        finally:
            installation.stop("--target")


def test_a_volume_is_made_once_grown_once_and_deleted_once(modules: Modules) -> None:
    told = modules("weft_volume", check=True, name="data", size_gib=1)
    assert (told["changed"], told["volume"]) == (True, {})
    made = modules("weft_volume", name="data", size_gib=1)
    assert (made["changed"], made["volume"]["status"]) == (True, "available")
    assert modules("weft_volume", name="data", size_gib=1)["changed"] is False

    assert modules("weft_volume", check=True, name="data", size_gib=2)["changed"] is True
    grown = modules("weft_volume", name="data", size_gib=2)
    assert (grown["changed"], grown["volume"]["size_bytes"]) == (True, 2 * GIB)
    assert grown["volume"]["id"] == made["volume"]["id"]
    smaller = modules("weft_volume", name="data", size_gib=1)
    assert (smaller["changed"], smaller["volume"]["size_bytes"]) == (False, 2 * GIB)

    assert modules("weft_volume", check=True, name="data", state="absent")["changed"] is True
    assert modules("weft_volume", name="data", state="absent")["changed"] is True
    assert modules("weft_volume", name="data", state="absent")["changed"] is False


def test_a_volume_that_is_to_be_made_needs_a_size(modules: Modules) -> None:
    refused = modules("weft_volume", name="unsized")
    assert refused["failed"]
    assert "size_gib" in refused["msg"]


def test_wefts_own_sentence_comes_out_of_a_module(modules: Modules) -> None:
    refused = modules("weft_volume", name="data", size_gib=1, pool="missing")
    assert refused["failed"]
    assert "pool" in refused["msg"]
    assert "missing" in refused["msg"]
    assert "Traceback" not in refused["msg"]


def test_a_volume_in_error_is_not_taken_for_one_that_is_there(modules: Modules, tmp_path: Path) -> None:
    found = {"id": "1", "name": "data", "status": "error", "reason": "its file is gone", "size_bytes": GIB}
    answers = tmp_path / "weft"
    answers.write_text(f"#!/bin/sh\necho '{json.dumps([found])}'\n")
    answers.chmod(0o755)
    refused = modules("weft_volume", name="data", size_gib=1, executable=str(answers))
    assert refused["failed"]
    assert refused["msg"] == "Volume data is in error: its file is gone"
    assert modules("weft_volume", check=True, name="data", state="absent", executable=str(answers))["changed"]


def test_a_volume_that_is_not_there_is_detached_and_may_be_about_to_be_made(modules: Modules) -> None:
    nowhere: dict[str, Any] = {"volume": "nowhere", "persist": False}
    gone = modules("weft_attachment", **nowhere, state="detached")
    assert (gone["failed"], gone["changed"], gone["path"]) == (False, False, "")
    told = modules("weft_attachment", check=True, **nowhere)
    assert (told["failed"], told["changed"]) == (False, True)
    refused = modules("weft_attachment", **nowhere)
    assert refused["failed"]
    assert "nowhere" in refused["msg"]


def test_a_machine_without_weft_says_so_and_passes_in_check_mode(modules: Modules) -> None:
    refused = modules("weft_volume", name="data", size_gib=1, executable="/nowhere/weft")
    assert refused["failed"]
    assert "/nowhere/weft cannot be run" in refused["msg"]
    assert modules("weft_volume", check=True, name="data", size_gib=1, executable="/nowhere/weft")["changed"]


def test_a_host_is_registered_once_and_its_key_is_set_once_and_never_shown(modules: Modules) -> None:
    assert modules("weft_host", check=True, name="web1", nqn=NQN)["changed"] is True
    made = modules("weft_host", name="web1", nqn=NQN)
    assert (made["changed"], made["host"]["initiators"][0]["port_name"]) == (True, NQN)
    assert modules("weft_host", name="web1", nqn=NQN)["changed"] is False
    taken = modules("weft_host", name="web1", nqn=NQN.replace("0a4f", "1a4f"))
    assert taken["failed"]
    assert NQN in taken["msg"]

    with_key: dict[str, Any] = {"name": "web1", "nqn": NQN, "key": KEY}
    assert modules("weft_host", check=True, **with_key)["changed"] is True
    assert KEY not in modules("weft_host", secrets=True, **with_key)
    assert modules("weft_host", **with_key)["changed"] is False
    assert modules("weft_host", **with_key, update_key="always")["changed"] is True

    assert modules("weft_host", name="web1", state="absent")["changed"] is True
    assert modules("weft_host", name="web1", state="absent")["changed"] is False


@pytest.mark.skipif(missing_for_fuse() is not None, reason="no FUSE here")
def test_a_volume_is_attached_once_and_detached_once(modules: Modules) -> None:
    modules("weft_volume", name="used", size_gib=1)
    once: dict[str, Any] = {"volume": "used", "persist": False}
    told = modules("weft_attachment", check=True, **once)
    assert told["changed"] is True
    made = modules("weft_attachment", **once)
    assert made["changed"] is True
    assert Path(made["path"]).exists()
    again = modules("weft_attachment", **once)
    assert (again["changed"], again["path"]) == (False, made["path"])

    in_use = modules("weft_volume", name="used", state="absent")
    assert in_use["failed"]
    gone = modules("weft_attachment", **once, state="detached")
    assert (gone["changed"], gone["path"]) == (True, "")
    assert modules("weft_attachment", **once, state="detached")["changed"] is False
    assert modules("weft_volume", name="used", state="absent")["changed"] is True


def test_the_pools_are_told_without_a_change(modules: Modules) -> None:
    told = modules("weft_pool_info", name="default")
    assert told["changed"] is False
    assert [pool["name"] for pool in told["pools"]] == ["default"]
    assert told["pools"][0]["room_bytes"] > 0
    assert modules("weft_pool_info", name="other")["pools"] == []
