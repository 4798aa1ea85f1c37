"""Snapshots, attachments, hosts, pools and profiles on the command line."""

from api.world import World
from cli.runner import Cli
from weft.cli.exits import ExitCode
from weft.cli.this_host import host_name, register_this_host
from weft.errors import UnavailableError
from weft.model import GIB, Initiator, Protocol
from weft.names import check_host_name, host_nqn, new_id


def test_snapshots_are_listed_shown_and_deleted(world: World, cli: Cli) -> None:
    for name in ("data", "other"):
        world.volume(name)
        cli.ok("snapshot", "create", name, "before")
    ran = cli("snapshot", "show", "before")
    assert ran.exit_code == ExitCode.INVALID_VALUE
    shown = cli.ok("snapshot", "show", "before", "--volume", "data", "--json").json
    assert (shown["name"], shown["size_bytes"], shown["status"]) == ("before", GIB, "available")
    assert cli.ok("snapshot", "list", "--volume", "data", "--json").json == [shown]
    assert len(cli.ok("snapshot", "list", "--name", "before", "--json").json) == 2
    assert cli("snapshot", "create", "data", "before").exit_code == ExitCode.CONFLICT
    assert cli.ok("snapshot", "create", "data", "before", "--exist-ok", "--json").json == shown
    assert cli.ok("snapshot", "delete", "before", "--volume", "data").stdout == "deleted before\n"
    assert cli.ok("snapshot", "list", "--volume", "data", "-q").stdout == ""
    assert cli("snapshot", "delete", shown["id"]).exit_code == ExitCode.NOT_FOUND


def test_attachments_are_listed_and_shown_by_volume_and_host(world: World, cli: Cli) -> None:
    volume_id = world.volume("data", multi_attach=True).volume.id
    made = [world.attachment(volume_id, world.host(name)) for name in ("h1", "h2")]
    header, first, second = cli.ok("attachment", "list").stdout.splitlines()
    assert header.split() == ["VOLUME", "HOST", "ID", "STATUS", "PORTALS"]
    assert {first.split()[1], second.split()[1]} == {"h1", "h2"}
    (of_h2,) = cli.ok("attachment", "list", "--host", "h2", "--json").json
    assert of_h2["id"] == made[1].attachment.id
    assert of_h2["connection"]["portals"] == [{"transport": "tcp", "address": "192.0.2.1", "port": 4420}]
    assert cli.ok("attachment", "show", "data", "--host", "h2", "--json").json == of_h2
    assert cli.ok("attachment", "show", of_h2["id"], "--json").json == of_h2
    assert cli("attachment", "show", "data").exit_code == ExitCode.USAGE
    assert cli.ok("attachment", "list", "--status", "deleting", "-q").stdout == ""


def test_a_host_that_is_named_is_cut_off_and_the_others_keep_the_volume(world: World, cli: Cli) -> None:
    volume_id = world.volume("data", multi_attach=True).volume.id
    _, second = (world.attachment(volume_id, world.host(name)).attachment for name in ("h1", "h2"))
    for unclear in ("data", volume_id):
        assert cli("attachment", "delete", unclear, "--yes").exit_code == ExitCode.USAGE
    ran = cli.ok("attachment", "delete", "data", "--host", "h1")
    assert ran.stdout.startswith(
        "host h1 is cut off from volume data; if it still uses it, its I/O fails or waits"
    )
    for unclear in ("data", volume_id):
        assert "--host" in cli("attachment", "delete", unclear, "--yes").stderr
    assert cli.ok("attachment", "list", "-q").stdout == f"{second.id}\n"
    assert cli("attachment", "delete", "data", "--host", "h1").exit_code == ExitCode.NOT_FOUND
    assert cli.ok("attachment", "delete", second.id, "--json").json == {
        "attachment_id": second.id,
        "volume_id": volume_id,
        "host_id": second.host_id,
        "deleted": True,
    }
    assert cli.ok("volume", "delete", "data").stdout == "deleted data\n"


def test_a_host_counts_as_cut_off_only_once_the_node_has_done_it(world: World, cli: Cli) -> None:
    world.attachment(world.volume("data").volume.id, world.host("h1"))
    delete = ("attachment", "delete", "data", "--host", "h1")
    world.target.plan.fail("target.unbind", UnavailableError("the target does not answer"), times=1000)
    waited = cli(*delete, "--wait", "0.5")
    assert (waited.exit_code, waited.stdout) == (ExitCode.NOT_SETTLED, "")
    assert "the target does not answer" in waited.stderr
    assert cli.ok(*delete, "--wait", "0").stdout.startswith("host h1 is being cut off from volume data")
    assert cli.ok(*delete, "--wait", "0", "--json").json["deleted"] is False
    world.target.plan.clear()
    assert cli.ok(*delete, "--json").json["deleted"] is True


def test_a_host_is_registered_listed_and_forgotten(world: World, cli: Cli) -> None:
    nqn = host_nqn(new_id())
    made = cli.ok("host", "register", "web1", "--nqn", nqn, "--ip", "192.0.2.7", "--json").json
    assert made["initiators"] == [{"protocol": "nvmeof", "port_name": nqn}]
    assert cli.ok("host", "list", "--nqn", nqn, "-q").stdout == f"{made['id']}\n"
    again = cli("host", "register", "web2", "--nqn", nqn, "--json")
    assert (again.exit_code, again.error["kind"]) == (ExitCode.CONFLICT, "conflict")
    assert "cloned image" in again.error["message"]
    assert cli("host", "register", "--nqn", nqn).exit_code == ExitCode.USAGE
    assert cli("host", "register", "bad name", "--nqn", nqn).exit_code == ExitCode.INVALID_VALUE
    assert cli.ok("host", "delete", "web1").stdout == "deleted web1\n"
    assert world.client.hosts() == []


def test_a_host_with_a_volume_is_not_forgotten(world: World, cli: Cli) -> None:
    world.attachment(world.volume("data").volume.id, world.host("web1"))
    assert cli("host", "delete", "web1").exit_code == ExitCode.CONFLICT


def test_registering_this_host_twice_changes_nothing(world: World, cli: Cli) -> None:
    first, second = (cli.ok("host", "register", "--json").json for _ in range(2))
    assert first == second
    assert len(world.client.hosts()) == 1


def test_two_users_of_one_machine_are_two_hosts(world: World) -> None:
    hosts = [
        register_this_host(world.client, Initiator(port_name=host_nqn(new_id()), protocol=Protocol.NVMEOF))
        for _ in range(2)
    ]
    assert hosts[1].name == f"{hosts[0].name}-{hosts[1].initiators[0].port_name[-8:]}"


def test_any_machines_name_becomes_a_host_name() -> None:
    for nodename in ("web1.example.org", "my_laptop", "-x-", "", "ä", "." * 70, "a" * 63 + "." + "b" * 9):
        assert check_host_name("hostName", host_name(nodename))
    assert host_name("web1.example.org") == "web1.example.org"
    assert host_name("my_laptop") == "my-laptop"


def test_pools_tell_how_much_can_still_be_promised(world: World, cli: Cli) -> None:
    world.volume("data", 4 * GIB)
    (listed,) = cli.ok("pool", "list", "--json").json
    assert (listed["name"], listed["booked_bytes"]) == ("default", 4 * GIB)
    assert listed["room_bytes"] == listed["total_bytes"] - 4 * GIB
    assert cli.ok("pool", "show", "default", "--json").json == listed
    assert cli.ok("pool", "list", "--status", "error", "-q").stdout == ""
    assert "1024 GiB" in cli.ok("pool", "list").stdout


def test_a_profile_is_made_used_and_deleted(world: World, cli: Cli) -> None:
    made = cli.ok(
        "profile",
        "create",
        "fast",
        "--property",
        "capabilities:diskType=SSD",
        "--protocol",
        "nvmeof",
        "--json",
    ).json
    assert made["custom_properties"] == {"capabilities:diskType": "SSD"}
    assert cli.ok("profile", "show", "fast", "--json").json == made
    cli.ok("volume", "create", "data", "--size", "1", "--profile", "fast")
    assert cli("profile", "delete", "fast").exit_code == ExitCode.CONFLICT
    cli.ok("volume", "delete", "data")
    cli.ok("profile", "delete", "fast")
    assert [each.name for each in world.client.profiles()] == ["default_block"]
    assert cli("profile", "create", "x", "--property", "novalue").exit_code == ExitCode.USAGE
