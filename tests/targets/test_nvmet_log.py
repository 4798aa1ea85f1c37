"""What the kernel's log tells of nvmet; the lines are as Linux 6.12 wrote them in the lab."""

import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from weft.model import RefusalReason, VolumeId
from weft.names import DEFAULT_NQN_PREFIX, subsystem_nqn
from weft.targets.nvmet_log import Controller, Findings, KernelLog

VOLUME = VolumeId("11111111-aaaa-4aaa-8aaa-111111111111")
NQN = subsystem_nqn(VOLUME)
HOST = "nqn.2014-08.org.nvmexpress:uuid:aaaaaaaa-2222-4333-8444-555555555555"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CREATED = f"nvmet: creating nvm controller 25 for subsystem {NQN} for NQN {HOST}."
CREATED_WITH_KEY = f"nvmet: creating nvm controller 25 for subsystem {NQN} for NQN {HOST} with DH-HMAC-CHAP."
NOT_ALLOWED = f"nvmet: connect by host {HOST} for subsystem {NQN} not allowed"
PROVED = "nvmet: nvmet_auth_reply: ctrl 25 qid 0 host authenticated"
MISMATCH = "nvmet: ctrl 25 qid 0 host response mismatch"


@pytest.fixture
def findings() -> Findings:
    findings = Findings(DEFAULT_NQN_PREFIX)
    findings.keys_shown_since = NOW - timedelta(days=1)
    return findings


def reasons(findings: Findings, *, after: float = 60) -> list[tuple[str, RefusalReason]]:
    found = findings.refusals(VOLUME, NOW + timedelta(seconds=after))
    return [(each.initiator, each.reason) for each in found]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([NOT_ALLOWED], RefusalReason.NOT_LISTED),
        ([CREATED_WITH_KEY, MISMATCH], RefusalReason.WRONG_KEY),
        ([CREATED_WITH_KEY], RefusalReason.NO_KEY),
    ],
)
def test_each_way_of_being_turned_away_is_told_apart(
    findings: Findings, lines: list[str], reason: RefusalReason
) -> None:
    for line in lines:
        findings.take(line, NOW)
    assert reasons(findings) == [(HOST, reason)]


@pytest.mark.parametrize("lines", [[CREATED], [CREATED_WITH_KEY, PROVED]])
def test_a_host_that_was_let_in_is_not_among_them(findings: Findings, lines: list[str]) -> None:
    for line in lines:
        findings.take(line, NOW)
    assert reasons(findings) == []


def test_a_host_is_given_the_time_to_show_its_key(findings: Findings) -> None:
    findings.take(CREATED_WITH_KEY, NOW)
    assert reasons(findings, after=1) == []


def test_the_last_try_of_a_host_decides_what_is_told_of_it(findings: Findings) -> None:
    findings.take(NOT_ALLOWED, NOW)
    assert reasons(findings, after=9) == [(HOST, RefusalReason.NOT_LISTED)]
    findings.take(CREATED_WITH_KEY, NOW + timedelta(seconds=10))
    assert reasons(findings, after=11) == [], "nobody knows yet whether it has a key"
    assert reasons(findings, after=14) == [(HOST, RefusalReason.NO_KEY)]


def test_a_try_without_a_key_is_not_told_of_once_the_host_was_refused_for_another_reason(
    findings: Findings,
) -> None:
    findings.take(CREATED_WITH_KEY, NOW)
    findings.take(NOT_ALLOWED, NOW + timedelta(seconds=1))
    assert reasons(findings) == [(HOST, RefusalReason.NOT_LISTED)]


def test_nobody_is_said_to_have_no_key_while_the_log_does_not_say_who_has_one(findings: Findings) -> None:
    findings.keys_shown_since = None
    findings.take(CREATED_WITH_KEY, NOW)
    assert reasons(findings) == []


def test_a_controller_that_was_found_ended_counts_again_only_when_its_id_was_given_anew(
    findings: Findings,
) -> None:
    findings.take(CREATED, NOW)
    (before,) = findings.controllers(NQN)
    findings.ended([before])
    assert findings.controllers(NQN) == []
    findings.take(CREATED, NOW)
    findings.ended([before])  # found out before that
    assert findings.controllers(NQN) == [before]


def test_a_controller_whose_id_was_given_anew_has_ended(findings: Findings) -> None:
    findings.take(CREATED, NOW)
    assert findings.controllers(NQN) == [Controller(25, NQN, HOST)]
    findings.take(CREATED.replace("nvm controller", "discovery controller").replace(NQN, "nqn.other"), NOW)
    assert findings.controllers(NQN) == []


@pytest.mark.parametrize(
    "line",
    [
        f"nvmet: connect by host {HOST} for subsystem {NQN} not allowed for subsystem x not allowed",
        f"nvmet: connect by host a b for subsystem {NQN} not allowed",
        f"other: connect by host {HOST} for subsystem {NQN} not allowed",
        f"nvmet: connect by host {'a' * 300} for subsystem {NQN} not allowed",
        NOT_ALLOWED.replace(NQN, "nqn.2024-01.org.example:theirs"),
        "nvmet: ctrl 999999 qid 0 host response mismatch",
    ],
)
def test_what_a_host_can_make_the_log_say_is_not_believed(findings: Findings, line: str) -> None:
    findings.take(line, NOW)
    assert reasons(findings) == []


def test_hosts_that_are_turned_away_again_and_again_take_no_more_room(findings: Findings) -> None:
    for number in range(3000):
        findings.take(NOT_ALLOWED.replace(HOST, f"nqn.2024-01.org.example:{number}"), NOW)
    assert len(reasons(findings)) == 1024


@pytest.fixture
def kmsg(tmp_path: Path) -> Iterator[Path]:
    """Stands in for /dev/kmsg; one read of the real one gives one record, so each test writes only one at a time."""
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    keeper = os.open(path, os.O_RDWR)
    yield path
    os.close(keeper)


def say(kmsg: Path, log: KernelLog, number: int, line: str, *, facility: int = 0) -> None:
    with kmsg.open("w") as file:
        file.write(f"{facility << 3 | 6},{number},1000,-;{line}\n SUBSYSTEM=x\n")
    log.controllers(NQN)  # has it read


def test_a_log_that_was_read_from_its_first_line_knows_every_controller(kmsg: Path) -> None:
    log = KernelLog(DEFAULT_NQN_PREFIX, kmsg)
    log.start()
    try:
        assert log.controllers(NQN) is None
        say(kmsg, log, 0, "Linux version 6.12")
        say(kmsg, log, 1, CREATED)
        assert log.controllers(NQN) == [Controller(25, NQN, HOST)]
        say(kmsg, log, 2, CREATED.replace("25", "26"), facility=1)
        assert log.controllers(NQN) == [Controller(25, NQN, HOST)], "a process wrote that"
        say(kmsg, log, 9, "some lines were lost before this one")
        assert log.controllers(NQN) is None
    finally:
        log.stop()


def test_a_log_that_never_told_of_a_controller_proves_no_hosts_absence(kmsg: Path) -> None:
    log = KernelLog(DEFAULT_NQN_PREFIX, kmsg)
    log.start()
    try:
        say(kmsg, log, 0, "Linux version 7.0")
        assert log.controllers(NQN) is None
        say(kmsg, log, 1, CREATED)
        assert log.controllers(NQN) is not None
    finally:
        log.stop()


@pytest.mark.parametrize(
    ("line", "is_understood"),
    [
        (CREATED.replace(".", ", TLS.") + " of another kernel", False),
        (CREATED.replace(HOST, "a host with blanks"), False),
        (CREATED.replace("nvm controller", "discovery controller").replace(HOST, "anybody at all"), True),
        (NOT_ALLOWED, True),
    ],
)
def test_a_controller_that_is_told_of_in_other_words_makes_the_log_worthless(
    findings: Findings,
    line: str,
    is_understood: bool,  # noqa: FBT001
) -> None:
    findings.take(CREATED, NOW)
    findings.take(line, NOW)
    assert findings.is_understood() == is_understood


def test_a_log_is_not_closed_under_someone_who_reads_it(kmsg: Path) -> None:
    reading, finished = threading.Event(), threading.Event()

    def now() -> datetime:
        reading.set()
        assert finished.wait(10)
        return NOW

    log = KernelLog(DEFAULT_NQN_PREFIX, kmsg, now=now)
    log.start()
    reader, stopper = threading.Thread(target=log.refusals, args=(VOLUME,)), threading.Thread(target=log.stop)
    reader.start()
    assert reading.wait(10)
    stopper.start()
    stopper.join(0.2)
    stopped_meanwhile = not stopper.is_alive()
    finished.set()
    reader.join()
    stopper.join()
    assert not stopped_meanwhile


def test_a_machine_without_a_log_serves_all_the_same(tmp_path: Path) -> None:
    log = KernelLog(DEFAULT_NQN_PREFIX, tmp_path / "none")
    log.start()
    assert log.controllers(NQN) is None
    assert log.refusals(VOLUME) == []
    log.stop()
