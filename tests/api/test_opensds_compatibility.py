"""OpenSDS v1beta as its clients know it: paths, statuses, and the keys of every object, literally."""

import re
from typing import Any

import pytest

from api.world import BASE, POOL_ID, World
from weft.errors import DataError, UnavailableError
from weft.model import GIB, Status
from weft.requests import DEFAULT_TENANT

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

ALWAYS = {"id", "createdAt", "updatedAt"}

# What the Go client sends: every key of its structs that is not empty, AttachStatus among them.
GO_VOLUME = (
    b'{"name":"vol-1","size":1,"description":"d","AttachStatus":"","updatedAt":"","id":"","createdAt":""}'
)


def check_base(resource: dict[str, Any]) -> None:
    assert resource.keys() >= ALWAYS
    assert UUID4.fullmatch(resource["id"])
    assert TIME.fullmatch(resource["createdAt"])


def test_the_root_lists_versions(empty_world: World) -> None:
    current = {
        "name": "v1beta",
        "description": "v1beta version",
        "status": "CURRENT",
        "updatedAt": "2017-07-10T14:36:58.014Z",
    }
    assert empty_world.ask("GET", "/").json == [current]
    assert empty_world.ask("GET", "/v1beta").json == current
    missing = empty_world.ask("GET", "/v7")
    assert missing.status == 404
    assert missing.json["message"] == "can't find the version: v7"


def test_a_volume_is_accepted_with_202_and_has_the_keys_of_opensds(still_world: World) -> None:
    reply = still_world.ask("POST", f"{BASE}/block/volumes", GO_VOLUME)
    assert reply.status == 202
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    volume = reply.json
    check_base(volume)
    assert volume["updatedAt"] == ""
    assert volume["AttachStatus"] == ""
    assert volume["status"] == "creating"
    assert volume["size"] == 1
    assert volume["tenantId"] == DEFAULT_TENANT
    assert volume["poolId"] == POOL_ID
    assert set(volume) == ALWAYS | {
        "AttachStatus",
        "tenantId",
        "name",
        "description",
        "size",
        "status",
        "availabilityZone",
        "poolId",
        "profileId",
    }, "empty fields are left out"


def test_a_made_volume_tells_its_path_and_durable_name(world: World) -> None:
    volume = world.volume("vol-1")
    answered = world.ask("GET", f"{BASE}/block/volumes/{volume.volume.id}").json
    assert answered["status"] == "available"
    assert answered["metadata"]["lvPath"] == volume.path
    digits = volume.volume.id.replace("-", "")
    assert answered["identifier"] == {"durableName": "6" + digits[1:], "durableNameFormat": "NAA"}


def test_the_life_of_a_volume_has_the_statuses_of_opensds(world: World) -> None:
    volumes = f"{BASE}/block/volumes"
    volume_id = world.volume("vol-1").volume.id
    one = f"{volumes}/{volume_id}"
    assert world.ask("GET", volumes).status == 200
    assert world.ask("GET", one).status == 200
    renamed = world.ask("PUT", one, {"name": "vol-2"})
    assert (renamed.status, renamed.json["name"]) == (200, "vol-2")
    assert TIME.fullmatch(renamed.json["updatedAt"])
    assert world.ask("POST", f"{one}/resize", {"newSize": 2}, {"Prefer": "wait=10"}).status == 202
    assert world.ask("GET", one).json["size"] == 2
    too_small = world.ask("POST", f"{one}/resize", {"newSize": 2})
    assert too_small.status == 400
    assert (
        "new size for extend must be greater than current size.(current: 2 GB, extended: 2 GB)."
        in too_small.json["message"]
    )
    deleted = world.ask("DELETE", one, b"null", {"Prefer": "wait=10"})
    assert (deleted.status, deleted.body) == (202, b"")
    gone = world.ask("GET", one)
    assert gone.status == 404
    assert set(gone.json) >= {"code", "message"}
    assert gone.json["code"] == 404


def test_a_deletion_without_waiting_has_an_empty_body_and_the_volume_goes_on_deleting(
    still_world: World,
) -> None:
    volume_id = still_world.ask("POST", f"{BASE}/block/volumes", GO_VOLUME).json["id"]
    one = f"{BASE}/block/volumes/{volume_id}"
    accepted = still_world.ask("DELETE", one)
    assert (accepted.status, accepted.body) == (202, b"")
    assert still_world.ask("GET", one).json["status"] == "deleting"


def test_a_snapshot_has_the_keys_of_opensds(world: World) -> None:
    volume = world.volume()
    body = {"name": "snap", "volumeId": volume.volume.id, "metadata": None}
    reply = world.ask("POST", f"{BASE}/block/snapshots", body, {"Prefer": "wait=10"})
    assert reply.status == 202
    snapshot = reply.json
    check_base(snapshot)
    assert set(snapshot) == ALWAYS | {
        "tenantId",
        "name",
        "profileId",
        "size",
        "status",
        "volumeId",
        "metadata",
    }
    assert snapshot["metadata"].keys() == {"lvsPath"}
    assert (snapshot["status"], snapshot["size"]) == ("available", 1)
    one = f"{BASE}/block/snapshots/{snapshot['id']}"
    assert world.ask("PUT", one, {"description": "d"}).json["description"] == "d"
    assert world.ask("DELETE", f"{BASE}/block/volumes/{volume.volume.id}").status == 400
    assert world.ask("DELETE", one, b"").status == 202


def test_an_attachment_tells_the_connection_once_it_is_there(world: World) -> None:
    volume_id = world.volume().volume.id
    host_id = world.host()
    body = {
        "volumeId": volume_id,
        "hostId": host_id,
        "attachMode": "",
        "connectionInfo": {},
        "AttachStatus": "",
    }
    world.plan.fail("target.bind", UnavailableError("the address is not there yet"), times=3)
    reply = world.ask("POST", f"{BASE}/block/attachments", body)
    assert reply.status == 202
    assert reply.json["status"] == "creating"
    assert reply.json["connectionInfo"] == {}
    one = f"{BASE}/block/attachments/{reply.json['id']}"
    ready = world.ask("GET", one, headers={"Prefer": "wait=20"}).json
    check_base(ready)
    assert ready["status"] == "available"
    assert ready["attachMode"] == "rw"
    assert ready["accessProtocol"] == "nvmeof"
    info = ready["connectionInfo"]
    assert info["driverVolumeType"] == "nvmeof"
    nqn = f"nqn.2019-01.com.opensds:nvme:{volume_id}"
    expected = {
        "targetDiscovered": True,
        "targetNQN": nqn,
        "targetIP": "192.0.2.1",
        "targetPort": "4420",
        "transporType": "tcp",
        "discard": False,
        "targetNqn": nqn,
        "targetPortal": "192.0.2.1:4420",
        "volumeId": volume_id,
    }
    assert {key: info["data"][key] for key in expected} == expected
    assert info["data"]["hostNqn"].startswith("nqn.")
    assert world.ask("GET", f"{BASE}/block/volumes/{volume_id}").json["status"] == "inUse"
    assert world.ask("PUT", one, {"mountpoint": "/mnt"}).json["mountpoint"] == "/mnt"
    assert world.ask("DELETE", one, headers={"Prefer": "wait=10"}).status == 202
    assert world.ask("GET", one).status == 404


def test_a_host_answers_200_and_has_its_lists_always(world: World) -> None:
    body = {
        "hostName": "h1",
        "osType": "linux",
        "accessMode": "agentless",
        "ip": "192.0.2.9",
        "port": 22,
        "username": "u",
        "password": "secret",
        "availabilityZones": None,
        "initiators": None,
    }
    reply = world.ask("POST", f"{BASE}/host/hosts", body)
    assert reply.status == 200
    check_base(reply.json)
    assert reply.json["initiators"] == []
    assert reply.json["availabilityZones"] == ["default"]
    assert "password" not in reply.json
    assert b"secret" not in reply.body
    again = world.ask("POST", f"{BASE}/host/hosts", body)
    assert again.status == 400
    assert again.json["message"] == "the host with name h1 already exists in the system"
    one = f"{BASE}/host/hosts/{reply.json['id']}"
    initiators = [{"portName": "nqn.2014-08.org.nvmexpress:uuid:x", "protocol": "nvmeof"}]
    assert world.ask("PUT", one, {"initiators": initiators}).json["initiators"] == initiators
    deleted = world.ask("DELETE", one)
    assert (deleted.status, deleted.body) == (200, b"")
    assert world.ask("GET", one).status == 404
    assert world.ask("DELETE", one).status == 404


def test_a_pool_has_the_keys_of_opensds(world: World) -> None:
    world.volume(size=3 * GIB)
    (pool,) = world.ask("GET", f"{BASE}/pools").json
    assert world.ask("GET", f"{BASE}/pools/{POOL_ID}").json == pool
    assert pool["status"] == "available"
    assert pool["totalCapacity"] == 1024
    assert pool["freeCapacity"] == 1021
    assert pool["consumedCapacity"] == 3
    assert pool["multiAttach"] is True
    assert pool["storageType"] == "block"
    assert pool["dockId"] == "node"
    assert pool["extras"] == {
        "dataStorage": {"provisioningPolicy": "Thin", "compression": False, "deduplication": False},
        "ioConnectivity": {"accessProtocol": "nvmeof"},
        "dataProtection": {"isIsolated": False},
        "advanced": {"diskType": "SSD"},
    }
    assert world.ask("GET", f"{BASE}/availabilityZones").json == ["default"]


def test_a_profile_as_the_go_client_sends_it_is_accepted(world: World) -> None:
    body = {
        "name": "fast",
        "storageType": "block",
        "provisioningProperties": {
            "dataStorage": {"compression": False, "deduplication": False},
            "ioConnectivity": {"accessProtocol": "nvmeof"},
        },
        "replicationProperties": {"dataProtection": {"isIsolated": False}, "replicaInfos": {}},
        "snapshotProperties": {"schedule": {}, "retention": {}, "topology": {}},
        "dataProtectionProperties": {"dataProtection": {"isIsolated": False}},
        "customProperties": {"capabilities:diskType": "SSD"},
    }
    reply = world.ask("POST", f"{BASE}/profiles", body)
    assert reply.status == 200
    check_base(reply.json)
    always = {
        "provisioningProperties",
        "replicationProperties",
        "snapshotProperties",
        "dataProtectionProperties",
    }
    assert reply.json.keys() >= always
    assert reply.json["provisioningProperties"]["ioConnectivity"] == {"accessProtocol": "nvmeof"}
    again = world.ask("POST", f"{BASE}/profiles", body)
    assert (again.status, again.json["message"]) == (400, "the profile name 'fast' already exists")


def test_custom_properties_are_merged_and_removed(world: World) -> None:
    profile = world.ask("POST", f"{BASE}/profiles", {"name": "p", "storageType": "block"}).json["id"]
    properties = f"{BASE}/profiles/{profile}/customProperties"
    assert world.ask("POST", properties, {"a": "1"}).json == {"a": "1"}
    merged = world.ask("POST", properties, {"b": True})
    assert (merged.status, merged.json) == (200, {"a": "1", "b": "true"})
    assert world.ask("DELETE", f"{properties}/a").status == 200
    assert world.ask("GET", properties).json == {"b": "true"}
    assert world.ask("DELETE", f"{properties}/a").status == 404


def test_a_profile_that_asks_for_what_weft_cannot_promise_is_refused(empty_world: World) -> None:
    body = {
        "name": "p",
        "storageType": "block",
        "provisioningProperties": {"ioConnectivity": {"maxIOPS": 9000}},
    }
    reply = empty_world.ask("POST", f"{BASE}/profiles", body)
    assert reply.status == 501
    assert "provisioningProperties.ioConnectivity.maxIOPS" in reply.json["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{BASE}/nothing"),
        ("GET", f"{BASE}/block/volumes/"),
        ("GET", "/v1beta/"),
        ("GET", "/v1beta/t/block"),
        ("POST", "/x/y/z"),
    ],
)
def test_what_there_is_not_is_a_404_in_json(empty_world: World, method: str, path: str) -> None:
    reply = empty_world.ask(method, path)
    assert (reply.status, reply.json["code"]) == (404, 404)
    assert reply.headers["content-type"].startswith("application/json")


def test_a_method_that_a_path_does_not_know_is_a_405_in_json(empty_world: World) -> None:
    reply = empty_world.ask("PATCH", f"{BASE}/block/volumes/x")
    assert (reply.status, reply.json["code"]) == (405, 405)
    assert set(reply.headers["allow"].split(", ")) == {"GET", "HEAD", "PUT", "DELETE"}


def test_keys_are_matched_without_regard_to_case(world: World) -> None:
    reply = world.ask("POST", f"{BASE}/block/volumes", {"NAME": "v", "Size": 1, "MultiAttach": True})
    assert reply.status == 202
    assert (reply.json["name"], reply.json["multiAttach"]) == ("v", True)


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "a\x7fb"])
def test_any_content_type_is_read_as_json(world: World, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    assert world.ask("POST", f"{BASE}/block/volumes", GO_VOLUME, headers).status in {202, 400}
    if content_type != "a\x7fb":
        assert world.client.volumes()


def test_ids_statuses_pools_and_times_that_a_client_writes_are_ignored(world: World) -> None:
    body = {
        "name": "v",
        "size": 1,
        "id": "../../x",
        "status": "available",
        "createdAt": "1999-01-01T00:00:00",
        "tenantId": "other",
        "metadata": {"lvPath": "/dev/sda", "LVPATH": "/dev/sdb", "note": "mine"},
    }
    volume = world.ask("POST", f"{BASE}/block/volumes", body, {"Prefer": "wait=10"}).json
    assert UUID4.fullmatch(volume["id"])
    assert volume["createdAt"] > "2020"
    assert volume["tenantId"] == DEFAULT_TENANT
    one = f"{BASE}/block/volumes/{volume['id']}"
    overwritten = {"size": 99, "status": "error", "poolId": "x", "metadata": {"lvPath": "/dev/sda"}}
    after = world.ask("PUT", one, overwritten).json
    for key in ("size", "status", "poolId"):
        assert after[key] == volume[key]
    assert after["metadata"] == {"note": "mine", "lvPath": volume["metadata"]["lvPath"]}
    assert after["metadata"]["lvPath"].endswith(f"{volume['id']}.img")


def test_a_tenant_sees_its_own_and_the_default_tenant_everything(world: World) -> None:
    mine = world.ask("POST", "/v1beta/tenant-a/block/volumes", GO_VOLUME).json["id"]
    assert world.ask("GET", f"/v1beta/tenant-a/block/volumes/{mine}").status == 200
    assert world.ask("GET", f"/v1beta/tenant-b/block/volumes/{mine}").status == 404
    assert world.ask("DELETE", f"/v1beta/tenant-b/block/volumes/{mine}").status == 404
    assert world.ask("GET", "/v1beta/tenant-b/block/volumes").json == []
    assert [each["id"] for each in world.ask("GET", f"{BASE}/block/volumes").json] == [mine]
    assert world.ask("GET", "/v1beta/a%20b/block/volumes").status == 400


def test_a_failure_is_told_in_a_key_of_its_own(world: World) -> None:
    world.plan.fail("driver.create", DataError("the disk is broken"))
    volume = world.ask("POST", f"{BASE}/block/volumes", GO_VOLUME, {"Prefer": "wait=10"}).json
    assert volume["status"] == Status.ERROR
    assert "the disk is broken" in volume["statusReason"]
