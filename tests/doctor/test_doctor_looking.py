"""What doctor says when it cannot look, is not to look, or finds weft's own things wrong."""

import os
import threading
from dataclasses import replace

from doctor.machines import (
    DEFAULTS,
    NODE_CONFIG,
    MachineFiles,
    bare_container,
    finding,
    machine_of,
    one,
    report_of,
    storage_node,
)
from weft.config import check_config
from weft.doctor import Part, Verdict, examine
from weft.errors import InvalidValueError, UnavailableError


def test_an_ordinary_user_is_told_what_only_root_may_look_at(files: MachineFiles) -> None:
    machine, _ = storage_node(files)
    machine = replace(machine, user_id=1000, why_not_nvmet=lambda _: "only root can use nvmet")
    report = report_of(machine)
    assert not report.with_verdict(Verdict.MISSING)
    assert not report.fit
    assert {each.about for each in report.with_verdict(Verdict.UNKNOWN)} == {"user", "target", "LVM"}
    assert all(each.command.startswith("sudo weft doctor") for each in report.with_verdict(Verdict.UNKNOWN))


def test_a_check_that_fails_leaves_the_others_to_say_what_they_found(files: MachineFiles) -> None:
    machine, programs = storage_node(files)
    programs.answers["pvs"] = UnavailableError("pvs did not end within 10 s and was stopped")
    report = report_of(machine)
    assert (
        one(report, "pools").verdict is Verdict.UNKNOWN or one(report, "pool fast").verdict is Verdict.MISSING
    )
    assert one(report, "connector").verdict is Verdict.OK


def test_what_does_not_answer_is_not_waited_for(files: MachineFiles) -> None:
    machine, _ = storage_node(files)
    released = threading.Event()

    def hang(_: object) -> str | None:
        released.wait(60)
        return None

    try:
        report = examine(replace(machine, why_no_daemon=hang), check_config(NODE_CONFIG), seconds=0.2)
    finally:
        released.set()
    assert one(report, "daemon").verdict is Verdict.UNKNOWN
    assert one(report, "connector").verdict is Verdict.OK


def test_a_refused_configuration_is_a_finding_and_the_rest_goes_by_the_defaults(files: MachineFiles) -> None:
    error = InvalidValueError("target.portals", "'x' is not address:port")
    report = examine(bare_container(files), check_config(DEFAULTS), config_error=str(error))
    assert not report.fit
    assert str(error) in one(report, "configuration").sentence
    assert one(report, "connector").verdict is Verdict.OK


def test_directories_that_others_may_write_to_are_told_of(files: MachineFiles) -> None:
    machine = machine_of(files, user_id=os.geteuid())
    directory = files.root / "var/lib/weft"
    directory.mkdir(parents=True)
    directory.chmod(0o775)
    found = finding(machine, "data_dir", DEFAULTS)
    assert (found.verdict, found.command) == (Verdict.MISSING, "chmod go-w /var/lib/weft")
    directory.chmod(0o700)
    assert finding(machine, "data_dir", DEFAULTS).verdict is Verdict.OK
    files.write("var/lib/weft/token").chmod(0o644)
    assert finding(machine, "token", DEFAULTS).command == "chmod 600 /var/lib/weft/token"


def test_a_part_is_looked_at_alone_with_what_both_need(files: MachineFiles) -> None:
    machine, _ = storage_node(files)
    report = examine(machine, check_config(NODE_CONFIG), parts=[Part.HOST])
    assert {each.part for each in report.findings} == {Part.MACHINE, Part.HOST}


def test_a_clock_that_nothing_sets_is_a_warning(files: MachineFiles) -> None:
    machine, _ = storage_node(files)
    found = finding(replace(machine, clock_is_set=lambda: False), "clock")
    assert (found.verdict, found.command) == (
        Verdict.WARN,
        "apt-get install --yes systemd-timesyncd && timedatectl set-ntp true",
    )
