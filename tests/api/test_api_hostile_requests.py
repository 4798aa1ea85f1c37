"""Whatever is sent, the answer is JSON, never a 500, and nothing half-understood is done."""

import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.world import BASE, World, make_config, make_world
from eventually import eventually
from weft.api.app import LARGEST_BODY
from weft.errors import WeftError
from weft.model import VolumeId
from weft.ports import Row, Table
from weft.requests import DEFAULT_TENANT
from weft.store.sqlite import SqliteStore
from weft.wire.codec import decode_body
from weft.wire.profiles import ProfileBody
from weft.wire.volumes import VolumeBody

RowT = TypeVar("RowT")

SENDING = [
    ("POST", f"{BASE}/block/volumes"),
    ("PUT", f"{BASE}/block/volumes/ID"),
    ("POST", f"{BASE}/block/volumes/ID/resize"),
    ("POST", f"{BASE}/block/volumes/ID/revert"),
    ("POST", f"{BASE}/block/snapshots"),
    ("POST", f"{BASE}/block/attachments"),
    ("POST", f"{BASE}/host/hosts"),
    ("POST", f"{BASE}/profiles"),
    ("POST", f"{BASE}/profiles/PROFILE/customProperties"),
]

KEYS = st.sampled_from(
    [
        "name",
        "size",
        "newSize",
        "snapshotId",
        "volumeId",
        "hostId",
        "hostName",
        "port",
        "ip",
        "metadata",
        "initiators",
        "portName",
        "protocol",
        "availabilityZones",
        "multiAttach",
        "customProperties",
        "capabilities:x",
        "storageType",
        "provisioningProperties",
        "profileId",
        "poolId",
        "attachMode",
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, -(2**63) - 1, 10**400, 0, 1])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["nvmeof", "block", "v", "h", "<in> (", ">= x", "\x00", "é" * 300])
)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=8), inner, max_size=6)
    ),
    max_leaves=20,
)


@pytest.fixture
def known(still_world: World) -> tuple[World, VolumeId, str]:
    volume = still_world.ask("POST", f"{BASE}/block/volumes", {"name": "v", "size": 1}).json["id"]
    return still_world, VolumeId(volume), still_world.client.profiles()[0].id


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=JSON, where=st.sampled_from(SENDING))
def test_no_json_makes_a_500(
    known: tuple[World, VolumeId, str], body: object, where: tuple[str, str]
) -> None:
    world, volume, profile = known
    method, path = where
    reply = world.ask(
        method, path.replace("ID", volume).replace("PROFILE", profile), json.dumps(body).encode()
    )
    assert reply.status in {200, 202, 400, 404, 501}, reply
    assert reply.headers["content-type"].startswith("application/json")
    if reply.status >= 400:
        assert reply.json["message"]


@given(body=st.binary(max_size=64))
def test_bytes_are_read_or_refused(body: bytes) -> None:
    with suppress(WeftError):
        decode_body(body, VolumeBody).request()
    with suppress(WeftError):
        decode_body(body, ProfileBody).request()


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        (b"", "body", "is empty"),
        (b"  ", "body", "is empty"),
        (b"[]", "body", "must be an object, not a list"),
        (b'"x"', "body", "must be an object, not a string"),
        (b"{", "body", "not valid JSON"),
        (b'{"name":"\xff"}', "body", "not valid JSON"),
        (b'{"size":NaN}', "body", "not valid JSON"),
        (b'{"size":1e400}', "body", "out of range"),
        (b"[" * 100_000, "body", "nested too deeply"),
        (b'{"name":"v","size":"1"}', "size", "must be a whole number, not a string"),
        (b'{"name":"v","size":1.5}', "size", "must be a whole number"),
        (b'{"name":"v","size":1e300}', "size", "must be a whole number"),
        (b'{"name":"v","size":9223372036854775808}', "size", "must be a whole number <= 9223372036854775807"),
        (b'{"name":"v","size":9223372036854775807}', "size", "must be whole GiB between 1 and"),
        (b'{"name":"v","size":-1}', "size", "must be whole GiB between 1 and"),
        (b'{"name":"v"}', "size", "must be whole GiB between 1 and"),
        (b'{"name":"v","size":true}', "size", "must be a whole number, not true or false"),
        (b'{"name":1,"size":1}', "name", "must be a string, not a whole number"),
        (b'{"size":1}', "name", "must not be empty"),
        (b'{"name":"a/b","size":1}', "name", "may only hold"),
        (b'{"name":"v","size":1,"metadata":{"a":1}}', "metadata", "must be a string"),
        (b'{"name":"v","size":1,"metadata":[]}', "metadata", "must be an object, not a list"),
        (b'{"name":"v","size":1,"multiAttach":"yes"}', "multiAttach", "must be true or false, not a string"),
    ],
)
def test_a_refusal_names_the_field_and_the_reason(
    empty_world: World, body: bytes, field: str, says: str
) -> None:
    reply = empty_world.ask("POST", f"{BASE}/block/volumes", body)
    assert reply.status == 400
    assert reply.json["kind"] == "invalidValue"
    assert reply.json["field"] == field
    assert says in reply.json["message"]
    assert empty_world.client.volumes() == [], "nothing was made"


def test_nulls_leave_keys_open(still_world: World) -> None:
    body = {"name": "v", "size": 1, "metadata": None, "profileId": None, "multiAttach": None}
    assert still_world.ask("POST", f"{BASE}/block/volumes", body).status == 202
    assert still_world.ask("POST", f"{BASE}/block/volumes", b"null").json["field"] == "name"


def test_a_body_that_is_too_large_is_refused_without_being_kept(still_world: World) -> None:
    fitting = b'{"name":"v","size":1}' + b" " * (LARGEST_BODY - 21)
    assert still_world.ask("POST", f"{BASE}/block/volumes", fitting).status == 202
    reply = still_world.ask("POST", f"{BASE}/block/volumes", fitting + b" ")
    assert reply.status == 400
    assert "larger than 1048576 bytes" in reply.json["message"]


def test_a_refusal_quotes_no_more_than_a_person_reads(still_world: World) -> None:
    body = {"name": "v", "size": 1, "profileId": "x" * 500_000}
    reply = still_world.ask("POST", f"{BASE}/block/volumes", body)
    assert reply.status == 400
    assert reply.json["message"].startswith("profileId: get profile failed: profile xxx")
    assert reply.json["message"].endswith("xxx can't be found")
    assert len(reply.json["message"]) < 2100


@pytest.mark.parametrize(
    "path",
    [
        f"{BASE}/block/volumes/%00",
        f"{BASE}/block/volumes/%ff%fe",
        f"{BASE}/block/volumes/..%2f..%2fetc",
        f"{BASE}/block/volumes/{'x' * 5000}",
        f"{BASE}/block/volumes/'%20OR%201=1",
        f"{BASE}/block/volumes?limit=%F0%9F%92%A9&offset={'9' * 5000}&sortKey=%00&x=%ff",
        f"{BASE}/block/volumes?metadata=x&sortKey=metadata&identifier=1",
    ],
)
def test_odd_paths_and_queries_are_answered_calmly(empty_world: World, path: str) -> None:
    assert empty_world.ask("GET", path).status in {200, 404}


def test_what_is_not_http_is_told_so_and_cut_off(empty_world: World) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(10)
        raw.connect(str(empty_world.config.api_socket))
        raw.sendall(b"\x00\x01\x02 hello\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 400")
    assert empty_world.client.api_versions() == ["v1beta"]


class StoreWithABug(SqliteStore):
    def list(self, table: Table[RowT], **how: Any) -> list[Row[RowT]]:
        if table.name == "volumes":
            raise ZeroDivisionError("a bug")
        return super().list(table, **how)


def test_a_bug_answers_500_without_details_and_is_logged_with_them(
    short_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with make_world(make_config(short_path), with_node=False, store_type=StoreWithABug) as world:
        reply = world.ask("GET", f"{BASE}/block/volumes")
    assert reply.status == 500
    assert reply.json["code"] == 500
    assert "bug" not in reply.body.decode()
    assert any(record.exc_info for record in caplog.records)


def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(
    still_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(still_world.config.api_socket))
        path = f"/v1beta/{DEFAULT_TENANT}/block/volumes"
        raw.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
    eventually(lambda: "the connection ended" in caplog.text)
    assert "Traceback" not in caplog.text, "a client fills the log with what is no bug"
    assert still_world.client.volumes() == []
