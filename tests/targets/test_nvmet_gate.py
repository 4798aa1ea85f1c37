"""The gate before portals that open, by an nft that can be made to fail."""

import os
from pathlib import Path

import pytest

from weft.connection import LOOP_PORTAL, NvmeofPortal
from weft.errors import UnavailableError
from weft.model import Transport
from weft.targets.nvmet_gate import KeptGate, NftGate

PORTAL = NvmeofPortal(transport=Transport.TCP, address="192.0.2.1", port=4420)

_NFT = """#!/bin/sh
cd "${0%/*}" || exit
if [ "$1" = list ] && [ ! -e blind ]; then
    [ ! -e table ] || echo "table inet weft_gate"
elif [ -e broken ]; then
    echo "Error: Could not process rule: Operation not supported" >&2
    exit 1
else
    while read -r verb what rest; do
        case "$verb $what" in
        "add table") : >table ;;
        "delete table") rm table ;;
        esac
    done
fi
"""


class Nft:
    """A program of that name; its one table is a file."""

    def __init__(self, folder: Path) -> None:
        self._program, self._table = folder / "nft", folder / "table"
        self._broken, self._blind = folder / "broken", folder / "blind"
        self._program.write_text(_NFT)
        self._program.chmod(0o700)

    def has_table(self) -> bool:
        return self._table.exists()

    def make_table(self) -> None:
        self._table.touch()

    def refuse_changes(self) -> None:
        self._broken.touch()

    def refuse(self) -> None:
        """Whatever it is asked for, as without the right to use nftables."""
        self._broken.touch()
        self._blind.touch()

    def mend(self) -> None:
        self._broken.unlink()
        self._blind.unlink()

    def uninstall(self) -> None:
        self._program.unlink()


@pytest.fixture
def nft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nft:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Nft(tmp_path)


@pytest.fixture
def gate() -> KeptGate:
    return KeptGate(NftGate())


def test_a_gate_is_closed_until_it_is_opened(nft: Nft, gate: KeptGate) -> None:
    gate.close(PORTAL)
    assert nft.has_table()
    gate.open_again()
    assert not nft.has_table()
    assert gate.notes() == []


def test_a_loop_portal_has_no_gate(nft: Nft, gate: KeptGate) -> None:
    gate.close(LOOP_PORTAL)
    assert not nft.has_table()
    nft.make_table()
    gate.open_again()
    assert nft.has_table()


@pytest.mark.parametrize("portal", [PORTAL, LOOP_PORTAL], ids=str)
def test_where_nft_does_not_work_nothing_is_said_to_hold_hosts_off(
    nft: Nft, gate: KeptGate, portal: NvmeofPortal
) -> None:
    nft.refuse()
    gate.close(portal)
    gate.open_again()
    gate.open()
    assert gate.notes() == []


def test_what_was_closed_and_cannot_be_opened_is_told_and_tried_again(nft: Nft, gate: KeptGate) -> None:
    gate.close(PORTAL)
    nft.refuse()
    gate.open_again()
    assert "no host can connect" in gate.notes()[0]
    with pytest.raises(UnavailableError, match="Operation not supported"):
        gate.open()
    nft.mend()
    gate.open_again()
    assert not nft.has_table()
    assert gate.notes() == []


def test_what_a_crash_has_left_closed_and_cannot_be_opened_is_told(nft: Nft, gate: KeptGate) -> None:
    nft.make_table()
    nft.refuse_changes()
    with pytest.raises(UnavailableError, match="Operation not supported"):
        gate.open()


def test_without_nft_nothing_holds_hosts_off(
    nft: Nft, gate: KeptGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    nft.uninstall()
    monkeypatch.setenv("PATH", "/nonexistent")
    gate.close(PORTAL)
    gate.open()
    gate.open_again()
    assert gate.notes() == []
