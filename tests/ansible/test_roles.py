"""The collection's roles, task file by task file: what they refuse, keep and repeat."""

import hashlib
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from fakes.played import ROLES, Machine, Played, part

needs_ip = pytest.mark.skipif(shutil.which("ip") is None, reason="no ip here")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


NODE: dict[str, Any] = {
    "host_node": "localhost",
    "host_url": "https://192.0.2.1:50040",
    "host_fingerprint": "sha256:none",
    "host_name": "web1",
}


def test_check_mode_logs_a_bare_host_in_nowhere_and_does_not_fail(machine: Machine) -> None:
    played = machine.play([part("host", "new_login")], check=True, **NODE)
    assert played.well, played.output
    assert machine.called == []


@needs_ip
def test_a_host_takes_a_token_and_a_url_in_the_place_of_a_node_in_the_inventory(machine: Machine) -> None:
    given = {"host_url": NODE["host_url"], "host_token": "a token"}
    played = machine.play([part("host", "check")], facts=True, host_node="", **given)
    assert played.well, played.output
    refused = machine.play([part("host", "check")], facts=True, host_node="elsewhere")
    assert refused.says("host_node: elsewhere is not in the inventory"), refused.output


def test_an_identity_is_thought_of_on_a_bare_machine_in_check_mode(machine: Machine) -> None:
    bare = {"identity": {"nqn": "", "id": ""}, "modules": []}
    played = machine.play([part("host", "identity")], check=True, __host_machine=bare)
    assert played.well, played.output


SYSTEMCTL = """#!/bin/sh
case "$*" in
    *--timestamp=unix*) printf '@' && cat {started} ;;
    *is-enabled*) echo enabled ;;
    *show*) printf 'LoadState=loaded\\nActiveState=%s\\n' {state} ;;
    *) printf '%s\\n' "$*" >>{log} ;;
esac
case "$*" in *restart*) date +%s >{started} ;; esac
"""


def test_weft_is_restarted_once_after_what_it_runs_by_has_changed(machine: Machine) -> None:
    status = {"daemon": {"fingerprint": "sha256:none"}}
    machine.answer(pool=(0, [{"status": "available"}]), status=(0, status))
    started, log = machine.folder / "started", machine.folder / "systemctl.log"
    machine.program("systemctl", SYSTEMCTL.format(started=started, log=log, state="active"))

    def served() -> tuple[int, list[str]]:
        log.write_text("")
        played = machine.play(
            [part("storage_node", "service")],
            install_directory=str(machine.folder),
            __install_version="none",
            storage_node_addresses=["192.0.2.1"],
            storage_node_pools=[{"name": "fast", "volume_group": "vg0"}],
        )
        assert played.well, played.output
        return played.changed["localhost"], log.read_text().splitlines()

    started.write_text(f"{int(time.time()) - 60}\n")
    changed, done = served()
    assert changed == 1
    assert done == ["daemon-reload", "restart weft.service"]
    os.utime(machine.link, (time.time() - 30, time.time() - 30))
    assert served() == (0, [])


@pytest.fixture
def node(machine: Machine) -> Machine:
    """One that has the unit of a storage node."""
    units = machine.folder / "units"
    units.mkdir()
    (units / "weft.service").touch()
    return machine


def removed(node: Machine, **variables: Any) -> Played:
    """Only told, for it would take weft from the machine that runs this."""
    places: dict[str, Any] = {
        "remove_link": str(node.link),
        "__remove_units_directory": str(node.folder / "units"),
    }
    return node.play([part("remove", "main")], check=True, **places, **variables)


def told(code: int, attachments: int | None = 0, **more: object) -> tuple[int, object]:
    """What status tells of a storage node; attachments: None when its daemon does not answer."""
    total = {"total": attachments} if attachments is not None else None
    return code, {"daemon": {"url": None}, "attached": [], "attachments": total, **more}


def test_weft_is_not_taken_away_under_hosts_that_use_its_volumes(node: Machine) -> None:
    node.answer(status=told(0, 2))
    refused = removed(node)
    assert refused.says("Hosts have volumes of localhost attached"), refused.output
    assert refused.changed == {"localhost": 0}
    assert removed(node, remove_cut_off_hosts=True).well


def test_weft_is_not_taken_away_where_it_cannot_tell_what_is_attached(node: Machine) -> None:
    node.answer(status=told(9, None))
    refused = removed(node)
    assert refused.says("what is attached and exported there cannot be told"), refused.output
    assert refused.changed == {"localhost": 0}
    node.program("weft", "#!/bin/sh\necho Traceback\nexit 1\n")
    (node.folder / "units/weft.service").unlink()
    assert removed(node).says("what is attached and exported there cannot be told")
    assert removed(node, remove_unseen=True).well


def test_weft_is_taken_away_where_nothing_is_attached(node: Machine) -> None:
    node.answer(status=told(0))
    assert removed(node).well
    node.answer(status=told(1, attached=[{"volume_id": "5fd8be8a"}]))
    assert removed(node).says("localhost has volumes attached (5fd8be8a)")


def test_a_host_goes_without_its_node(node: Machine) -> None:
    node.answer(status=told(9, None, daemon={"url": "https://192.0.2.1:50040"}))
    assert removed(node).well


@needs_ip
def test_a_required_link_that_is_not_active_is_refused_before_anything_is_changed(machine: Machine) -> None:
    found = {"interfaces": ["eth0"], "rdma": [{"interface": "eth0", "state": "DOWN"}]}
    wanted: dict[str, Any] = {"__rdma_machine": found, "rdma_required": True, "rdma_interfaces": ["eth0"]}
    refused = machine.play([part("rdma", "check")], **wanted)
    assert refused.says("The RDMA link on eth0 of localhost is not active"), refused.output
    found["rdma"] = []
    tell = {"ansible.builtin.debug": {"msg": "It takes {{ rdma_soft_modules | join(' ') }}."}}
    made = machine.play([part("rdma", "check"), tell], rdma_soft_links=[{"interface": "eth0"}], **wanted)
    assert made.well, made.output
    assert made.says("It takes rdma_rxe.")


@needs_ip
@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            {"storage_node_pools": [{"name": "fast"}]},
            "storage_node_pools: pool fast: a pool of kind lvm needs a",
        ),
        (
            {"storage_node_rdma_required": True, "storage_node_transports": ["tcp"]},
            "storage_node_rdma_required is true, and storage_node_transports does not name rdma",
        ),
        (
            {"storage_node_soft_rdma": [{"interface": "wire7"}], "storage_node_transports": ["tcp"]},
            "localhost has no network interface wire7, which rdma_soft_links",
        ),
    ],
)
def test_a_variable_of_a_storage_node_that_cannot_be_is_named(
    machine: Machine, wrong: dict[str, Any], sentence: str
) -> None:
    right = {"storage_node_addresses": ["127.0.0.1"], "storage_node_pools": [{"name": "f", "kind": "file"}]}
    refused = machine.play([part("storage_node", "check")], facts=True, **{**right, **wrong})
    assert refused.says(sentence), refused.output
    assert refused.changed == {"localhost": 0}


def test_a_physical_volume_is_refused_though_it_is_named_to_be_erased(machine: Machine) -> None:
    disk = "/dev/disk/by-id/nvme-EXAMPLE-1"
    pool = {"name": "fast", "volume_group": "vg0", "devices": [disk], "erase": [disk]}

    def looked_at(holds: str, group: str = "") -> Played:
        device = {"path": disk, "problem": "", "holds": [holds], "volume_group": group, "mounted": []}
        found: dict[str, Any] = {
            "__storage_node_item": [pool, disk],
            "__storage_node_machine": {"devices": [device]},
        }
        return machine.play(
            [part("storage_node", "check_device")],
            storage_node_addresses=[],
            storage_node_pools=[pool],
            **found,
        )

    assert looked_at("LVM2_member").says("is a physical volume of LVM, which is never erased")
    assert looked_at("LVM2_member", "vg0").well
    assert looked_at("ext4").well


@pytest.fixture
def api() -> Iterator[str]:
    """The URL of something that listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


def logged_in(machine: Machine, url: str, daemon: Mapping[str, object]) -> Played:
    """The role's login on a host with such a daemon in its status, already registered."""
    nqn = "nqn.2020-01.org.example:web1"
    host = {"id": "1", "name": "web1", "initiators": [{"port_name": nqn}]}
    machine.answer(status=(9, {"daemon": daemon}), host=(0, [host]), token=(0, {"token": "t"}))
    given = {"install_is_runnable": True, "__host_is_node": {"rc": 1}, "host_nqn": nqn}
    return machine.play([part("host", "login")], **{**NODE, **given, "host_url": url})


def test_a_host_keeps_its_token_while_its_node_does_not_answer(machine: Machine, api: str) -> None:
    away = {"running": False, "url": api, "error": "unavailable", "reason": "nobody answers there"}
    refused = logged_in(machine, api, away)
    assert refused.says("localhost cannot use its node: nobody answers there"), refused.output
    assert machine.called == ["status --json"]


def test_a_host_that_is_not_let_in_any_more_gets_a_new_token(machine: Machine, api: str) -> None:
    revoked = {"running": False, "url": api, "error": "not_permitted", "reason": "revoked"}
    played = logged_in(machine, api, revoked)
    assert played.well, played.output
    assert [each.split()[0] for each in machine.called] == ["status", "token", "token", "login", "host"]


def test_a_token_stays_where_the_node_cannot_be_reached_from_the_host(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"https://127.0.0.1:{closed.getsockname()[1]}"
    played = machine.play([part("host", "new_login")], **{**NODE, "host_url": url}, __host_reach_seconds=1)
    assert played.says(f"host_url: localhost cannot connect to {url}"), played.output
    assert machine.called == []


def test_two_hosts_are_not_called_alike(machine: Machine) -> None:
    names = ["web1.north", "web1.south"]
    refused = machine.play([part("host", "check")], names=names, host_node=names[0])
    assert refused.says("host_name: web1.south is called web1, and so is another host"), refused.output
    assert refused.failed == {"web1.north": 1, "web1.south": 1}


@needs_ip
def test_an_interface_may_have_a_dash_in_its_name(machine: Machine) -> None:
    log = machine.folder / "systemctl.log"
    machine.program("systemctl", SYSTEMCTL.format(started="/dev/null", log=log, state="inactive"))
    links = [{"interface": "wire-a"}, {"interface": "eth1", "kind": "siw"}]
    played = machine.play([part("rdma", "main")], rdma_soft_links=links)
    assert played.well, played.output
    assert log.read_text().splitlines() == [
        r"start weft-rxe@wire\x2da.service",
        "start weft-siw@eth1.service",
    ]


@pytest.mark.parametrize(
    ("lacking", "distribution", "extra"),
    [
        (1, "Ubuntu", ["linux-modules-extra-6.8.0-31-generic"]),
        (0, "Ubuntu", []),
        (1, "Debian", []),
        (1, "RedHat", ["kernel-modules-6.8.0-31-generic", "kernel-modules-extra-6.8.0-31-generic"]),
    ],
)
def test_a_kernel_that_lacks_modules_gets_the_package_that_has_them(
    machine: Machine, lacking: int, distribution: str, extra: list[str]
) -> None:
    machine.program("modprobe", f"#!/bin/sh\nexit {lacking}\n")
    family = "redhat" if distribution == "RedHat" else "debian"
    played = machine.play(
        [
            {"ansible.builtin.include_vars": {"file": str(ROLES / "install" / "vars" / f"{family}.yml")}},
            part("install", "install"),
            {
                "ansible.builtin.debug": {
                    "msg": "extra {{ __install_wanted | select('search', '6.8.0') | join(' ') }}!"
                }
            },
        ],
        check=True,
        install_for=["storage_node"],
        install_kernel_modules=["nvmet"],
        install_packages=False,
        ansible_facts={"distribution": distribution, "os_family": family, "kernel": "6.8.0-31-generic"},
        __install_version="none",
        __install_is_whole=True,
    )
    assert played.says(f"extra {' '.join(extra)}!"), played.output


def installed(machine: Machine, **codes: int) -> Played:
    """What the role would do about an environment whose weft ends with these exit codes, by its first argument."""
    environment = machine.folder / VERSION / "bin"
    environment.mkdir(parents=True, exist_ok=True)
    (environment.parent / "complete").touch()
    cases = "".join(f"{word.replace('_', '-')}) exit {code} ;; " for word, code in codes.items())
    program = f"#!/bin/sh\ncase $1 in {cases}esac\n"
    machine.program(f"{VERSION}/bin/weft", program)
    return machine.play(
        [part("install", "check"), part("install", "environment")],
        check=True,
        facts=True,
        install_source="weft==0.1.0",
        install_directory=str(machine.folder),
    )


VERSION = hashlib.sha256(b"weft==0.1.0").hexdigest()[:12]


def test_a_version_that_does_not_know_the_database_is_refused_before_it_counts(machine: Machine) -> None:
    refused = installed(machine, serve=10)
    assert refused.changed == {"localhost": 0}
    assert refused.failed == {"localhost": 1}
    assert not refused.says("Have the command lead to this version")
    assert installed(machine, serve=3).well


def test_an_environment_that_does_not_run_any_more_is_made_anew(machine: Machine) -> None:
    runs = installed(machine)
    assert runs.well, runs.output
    broken = installed(machine, __version=127)
    assert broken.well, broken.output
    assert broken.changed["localhost"] > runs.changed["localhost"]
