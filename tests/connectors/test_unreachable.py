"""A dead node is called unreachable to the kernel's RDMA, for as long as its volumes are being given up."""

import os
from itertools import pairwise
from pathlib import Path

import pytest

from eventually import eventually
from weft.connectors import unreachable
from weft.connectors.unreachable import called_unreachable

IP = """#!/bin/sh
case "$*" in
    *"route get 192.0.2.1") echo '[{{"dst":"192.0.2.1","dev":"eth0","prefsrc":"192.0.2.9","flags":[]}}]' ;;
    *"route get 198.51.100.1") echo '[{{"dst":"198.51.100.1","gateway":"192.0.2.254","dev":"eth0"}}]' ;;
    *"route get"*) exit 2 ;;
    *) echo "$*" >>{log} ;;
esac
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `ip` was told."""
    log, program = tmp_path / "log", tmp_path / "ip"
    log.touch()
    program.write_text(IP.format(log=log))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(unreachable, "_AGAIN_SECONDS", 0.01)
    return log


def test_a_neighbour_changes_its_link_address_again_and_again_and_is_forgotten_at_the_end(told: Path) -> None:
    with called_unreachable({"192.0.2.1"}):
        eventually(lambda: len(told.read_text().splitlines()) >= 3)
    *changes, last = told.read_text().splitlines()
    assert all(each.startswith("neigh replace 192.0.2.1 lladdr 02:") for each in changes)
    assert all(one != other for one, other in pairwise(changes)), "only a change is told on"
    assert last == "neigh delete 192.0.2.1 dev eth0"


@pytest.mark.parametrize("address", ["198.51.100.1", "203.0.113.1"], ids=["behind a router", "nowhere"])
def test_what_is_no_neighbour_is_left_as_it_is(told: Path, address: str) -> None:
    with called_unreachable({address}):
        pass
    assert told.read_text() == ""
