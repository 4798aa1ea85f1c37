"""`weft volume` against a control plane whose driver and target are fakes."""

import pytest

from api.world import World
from cli.runner import Cli
from eventually import eventually
from weft.cli.exits import ExitCode
from weft.errors import NoSpaceError, UnavailableError
from weft.model import GIB, Status
from weft.names import new_id
from weft.requests import CreateVolumeRequest


def test_a_volume_is_made_listed_shown_grown_renamed_and_deleted(world: World, cli: Cli) -> None:
    made = cli.ok("volume", "create", "data", "--size", "10GiB", "--json").json
    assert (made["name"], made["status"], made["size_bytes"]) == ("data", "available", 10 * GIB)
    assert cli.ok("volume", "list", "--json").json == [made]
    assert cli.ok("volume", "show", "data", "--json").json == made
    assert cli.ok("volume", "show", made["id"], "--json").json == made
    assert cli.ok("volume", "extend", "data", "--size", "12", "--json").json["size_bytes"] == 12 * GIB
    assert cli.ok("volume", "rename", "data", "archive", "--json").json["name"] == "archive"
    assert cli.ok("volume", "delete", "archive", "--json").json == [
        {"id": made["id"], "name": "archive", "deleted": True}
    ]
    assert world.client.volumes() == []


def test_the_json_of_a_volume_has_these_keys(world: World, cli: Cli) -> None:
    world.volume("data")
    (listed,) = cli.ok("volume", "list", "--json").json
    assert list(listed) == [
        "id",
        "name",
        "status",
        "reason",
        "size_bytes",
        "pool_id",
        "profile_id",
        "availability_zone",
        "multi_attach",
        "source_snapshot_id",
        "source_volume_id",
        "description",
        "metadata",
        "path",
        "created_at",
        "updated_at",
    ]


def test_a_list_is_a_table_whose_lines_are_whole_and_without_colours_when_piped(
    world: World, cli: Cli
) -> None:
    name = "n" * 200
    world.volume(name, 3 * GIB)
    world.volume("small")
    header, first, second = cli.ok("volume", "list").stdout.splitlines()
    assert header.split() == ["NAME", "ID", "SIZE", "STATUS", "POOL"]
    assert first.split() == [name, first.split()[1], "3", "GiB", "available", "default"]
    assert second.split()[0] == "small"
    assert first.index("GiB") == second.index("GiB")
    assert "\x1b" not in header + first + second


def test_lists_can_be_narrowed(world: World, cli: Cli) -> None:
    world.volume("one")
    other = world.volume("two").volume.id
    assert cli.ok("volume", "list", "--name", "two", "-q").stdout == f"{other}\n"
    assert cli.ok("volume", "list", "--status", "error", "-q").stdout == ""
    assert len(cli.ok("volume", "list", "--pool", "default", "--json").json) == 2
    assert len(cli.ok("volume", "list", "--profile", "default_block", "--json").json) == 2
    assert cli("volume", "list", "--pool", "nope").exit_code == ExitCode.NOT_FOUND


def test_an_ambiguous_name_is_refused_with_the_ids(world: World, cli: Cli) -> None:
    ids = sorted(world.volume("twin").volume.id for _ in range(2))
    ran = cli("volume", "delete", "twin", "--json")
    assert (ran.exit_code, ran.error["kind"]) == (ExitCode.INVALID_VALUE, "invalid_value")
    assert ", ".join(ids) in ran.error["message"]
    assert len(world.client.volumes()) == 2
    cli.ok("volume", "delete", *ids)


def test_a_name_that_looks_like_an_id_is_found_too(world: World, cli: Cli) -> None:
    name = new_id()
    volume_id = world.volume(name).volume.id
    assert cli.ok("volume", "show", name, "--json").json["id"] == volume_id


def test_an_id_comes_before_a_name_that_is_spelled_the_same(world: World, cli: Cli) -> None:
    meant = world.volume("meant").volume.id
    world.volume(meant)
    assert cli.ok("volume", "show", meant, "--json").json["name"] == "meant"


def test_a_taken_name_is_refused_unless_the_same_volume_will_do(world: World, cli: Cli) -> None:
    volume_id = world.volume("data").volume.id
    create = ("volume", "create", "data", "--size")
    assert cli(*create, "1GiB").exit_code == ExitCode.CONFLICT
    assert cli(*create, "2GiB", "--exist-ok").exit_code == ExitCode.CONFLICT
    assert cli.ok(*create, "1GiB", "--exist-ok", "--json").json["id"] == volume_id
    world.volume("other")
    assert cli("volume", "rename", "other", "data").exit_code == ExitCode.CONFLICT
    assert len(world.client.volumes()) == 2


def test_extending_twice_is_extending_once_and_shrinking_is_refused(world: World, cli: Cli) -> None:
    world.volume("data")
    for _ in range(2):
        grown = cli.ok("volume", "extend", "data", "--size", "3GiB", "--json").json
        assert grown["size_bytes"] == 3 * GIB
    ran = cli("volume", "extend", "data", "--size", "2GiB")
    assert (ran.exit_code, ran.stdout) == (ExitCode.INVALID_VALUE, "")


def test_a_growth_that_the_pool_refuses_is_an_error_with_its_reason(world: World, cli: Cli) -> None:
    world.volume("data")
    world.plan.fail("driver.extend", NoSpaceError("the disk is full"))
    ran = cli("volume", "extend", "data", "--size", "3GiB")
    assert ran.exit_code == ExitCode.FAILED
    assert "has 1 GiB as before" in ran.stderr
    assert "the disk is full" in ran.stderr


def test_what_the_node_could_not_make_is_an_error_with_its_reason(world: World, cli: Cli) -> None:
    world.plan.fail("driver.create", NoSpaceError("the disk is full"))
    ran = cli("volume", "create", "data", "--size", "1GiB", "--json")
    assert ran.exit_code == ExitCode.FAILED
    assert "the disk is full" in ran.error["message"]


def test_what_is_not_done_in_time_is_told_with_its_reason_and_goes_on(world: World, cli: Cli) -> None:
    world.plan.fail("driver.create", UnavailableError("the disk sleeps"), times=1000)
    ran = cli("volume", "create", "data", "--size", "1GiB", "--wait", "1")
    assert ran.exit_code == ExitCode.NOT_SETTLED
    assert "still creating after 1 s" in ran.stderr
    assert "the disk sleeps" in ran.stderr
    world.plan.clear()
    again = cli.ok("volume", "create", "data", "--size", "1GiB", "--exist-ok", "--json").json
    assert again["status"] == "available"


def test_without_waiting_the_volume_is_shown_as_it_is(still_world: World, cli: Cli) -> None:
    made = cli.ok("volume", "create", "data", "--size", "1GiB", "--wait", "0", "--json").json
    assert made["status"] == "creating"
    assert [view.volume.id for view in still_world.client.volumes()] == [made["id"]]


def test_a_deletion_that_is_not_waited_for_says_so(world: World, cli: Cli) -> None:
    volume_id = world.volume("data").volume.id
    world.plan.fail("driver.delete", UnavailableError("the disk sleeps"), times=1000)
    assert cli.ok("volume", "delete", "data", "--wait", "0", "--json").json == [
        {"id": volume_id, "name": "data", "deleted": False}
    ]
    assert cli.ok("volume", "create", "data", "--size", "1GiB", "--json").json["id"] != volume_id
    ran = cli("volume", "delete", volume_id, "--wait", "0.3")
    assert (ran.exit_code, ran.stdout) == (ExitCode.NOT_SETTLED, "")
    world.plan.clear()
    eventually(lambda: len(world.client.volumes()) == 1)


def test_nothing_is_deleted_when_one_of_several_names_is_wrong(world: World, cli: Cli) -> None:
    world.volume("one")
    assert cli("volume", "delete", "one", "nope").exit_code == ExitCode.NOT_FOUND
    assert world.client.volumes()[0].status is Status.AVAILABLE


def test_when_a_deletion_is_refused_what_was_deleted_before_it_is_told(world: World, cli: Cli) -> None:
    world.volume("one")
    world.snapshot(world.volume("two").volume.id)
    ran = cli("volume", "delete", "one", "two")
    assert (ran.exit_code, ran.stdout) == (ExitCode.CONFLICT, "deleted one\n")
    assert "still has snapshots" in ran.stderr


def test_a_volume_is_made_of_a_snapshot_and_reverted_to_one(world: World, cli: Cli) -> None:
    volume_id = world.volume("data").volume.id
    world.driver.write(volume_id, 0, b"a" * 4096)
    assert cli.ok("snapshot", "create", "data", "before", "--json").json["volume_id"] == volume_id
    world.driver.write(volume_id, 0, b"b" * 4096)
    copy = cli.ok("volume", "create", "copy", "--size", "2GiB", "--from-snapshot", "before", "--json").json
    assert world.driver.read(copy["id"], 0, 4096) == b"a" * 4096
    cli.ok("volume", "revert", "data", "--to", "before")
    assert world.driver.read(volume_id, 0, 4096) == b"a" * 4096


def test_a_revert_only_takes_snapshots_of_that_volume(world: World, cli: Cli) -> None:
    world.volume("data")
    other = world.snapshot(world.volume("other").volume.id, "before").snapshot.id
    for snapshot in ("before", other):
        ran = cli("volume", "revert", "data", "--to", snapshot)
        assert ran.exit_code == ExitCode.NOT_FOUND
        assert "data" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("volume", "show", "nope"), ExitCode.NOT_FOUND),
        (("volume", "show", new_id()), ExitCode.NOT_FOUND),
        (("volume", "create", "a/b", "--size", "1"), ExitCode.INVALID_VALUE),
        (("volume", "create", "a", "--size", "1.5"), ExitCode.USAGE),
        (("volume", "create", "a"), ExitCode.USAGE),
        (("volume", "create", "a", "--size", "4000000"), ExitCode.USAGE),
        (("volume", "create", "a", "--size", "500T"), ExitCode.NO_SPACE),
        (("volume", "create", "a", "--size", "1", "--zone", "elsewhere"), ExitCode.INVALID_VALUE),
        (("volume", "list", "--status", "good"), ExitCode.USAGE),
        (("volume", "delete"), ExitCode.USAGE),
        (("volume", "bogus"), ExitCode.USAGE),
        (("volume", "list", "--bogus"), ExitCode.USAGE),
    ],
)
def test_bad_input_is_one_sentence_an_exit_code_and_no_change(
    untouched: tuple[World, Cli], arguments: tuple[str, ...], code: ExitCode
) -> None:
    world, cli = untouched
    ran = cli(*arguments)
    assert (ran.exit_code, ran.stdout) == (code, "")
    assert ran.stderr.startswith("weft: ")
    assert "Traceback" not in ran.stderr
    as_json = cli(*arguments, "--json")
    assert (as_json.exit_code, as_json.stdout) == (code, "")
    assert as_json.error["exit_code"] == code
    assert as_json.error["message"]
    assert world.client.volumes() == []


def test_a_repeated_extend_waits_for_the_one_that_is_under_way(world: World, cli: Cli) -> None:
    view = world.client.create_volume(CreateVolumeRequest(name="data", size=GIB), wait=20)
    world.plan.fail("driver.extend", UnavailableError("the disk sleeps"), times=2)
    world.client.extend_volume(view.volume.id, 2 * GIB)
    assert cli.ok("volume", "extend", "data", "--size", "2GiB", "--json").json["size_bytes"] == 2 * GIB
