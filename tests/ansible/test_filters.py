"""The collection's filters, by which the roles write weft's configuration."""

import importlib.util
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.config import ConfigFile, check_config

FILE = Path(__file__).parents[2] / "ansible_collections/weft/storage/plugins/filter/weft.py"
WHERE = {"192.0.2.1": "eth0", "2001:db8::1": "eth1"}


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("weft_filters", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FILTERS = load().FilterModule().filters()

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
scalars = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | words
)
tables = st.recursive(
    st.dictionaries(words, scalars | st.lists(scalars, max_size=3), max_size=4),
    lambda below: st.dictionaries(
        words, below | scalars | st.lists(below, min_size=1, max_size=2), max_size=3
    ),
    max_leaves=8,
)


@given(tables)
def test_what_is_written_as_toml_reads_as_it_was(table: dict[str, object]) -> None:
    assert tomllib.loads(FILTERS["toml"](table)) == table


def test_a_key_without_a_value_is_left_out() -> None:
    assert FILTERS["toml"]({"node_name": None, "log_level": "info"}) == 'log_level = "info"\n'


def test_only_a_dictionary_is_a_configuration() -> None:
    with pytest.raises(TypeError, match="takes a dictionary"):
        FILTERS["toml"](["api"])


def test_rdma_comes_first_and_only_where_there_is_a_link() -> None:
    def portals(able: list[str], transports: list[str]) -> object:
        return FILTERS["portals"](list(WHERE), WHERE, able, transports, 4420, 4421)

    assert portals(["eth1"], ["rdma", "tcp"]) == [
        "192.0.2.1:4420",
        "rdma://[2001:db8::1]:4421",
        "[2001:db8::1]:4420",
    ]
    assert portals(["eth0"], ["rdma"]) == ["rdma://192.0.2.1:4421"]
    assert portals([], ["rdma"]) == []
    assert portals([], ["tcp"]) == ["192.0.2.1:4420", "[2001:db8::1]:4420"]


def test_weft_takes_the_configuration_that_the_role_writes() -> None:
    pools = [
        {
            "name": "fast",
            "volume_group": "vg0",
            "devices": ["/dev/sdb"],
            "erase": ["/dev/sdb"],
            "over_commit": 3.0,
        },
        {
            "name": "files",
            "kind": "file",
            "path": "/srv/pool",
            "settings": {"capabilities": {"diskType": "NVMe"}},
        },
    ]
    text = FILTERS["toml"](
        {
            "node_name": None,
            "api": {"listen": FILTERS["endpoints"](list(WHERE), 50040)},
            "target": {
                "kind": "nvmet",
                "portals": FILTERS["portals"](list(WHERE), WHERE, ["eth0"], ["rdma", "tcp"], 4420, 4421),
            },
            "pools": FILTERS["pool_tables"](pools),
        }
    )
    config = check_config(msgspec.convert(tomllib.loads(text), ConfigFile))
    assert [pool.name for pool in config.pools] == ["fast", "files"]
    assert config.pools[0].over_commit == 3.0
    assert config.pools[1].capabilities == {"diskType": "NVMe"}
    assert config.api.listen == ("192.0.2.1:50040", "[2001:db8::1]:50040")


NOBODY = {"nqn": "", "id": ""}
UUIDS = [f"{digit * 8}-1111-4111-8111-111111111111" for digit in "12345"]


def of(uuid: str) -> str:
    return f"nqn.2014-08.org.nvmexpress:uuid:{uuid}"


def test_what_a_package_has_made_becomes_an_identity_of_one_piece() -> None:
    made = {"nqn": of(UUIDS[0]), "id": UUIDS[1]}
    assert FILTERS["identity"](NOBODY, made, UUIDS[4]) == {"nqn": of(UUIDS[0]), "id": UUIDS[0]}


def test_an_identity_is_random_only_where_there_is_none() -> None:
    assert FILTERS["identity"](NOBODY, NOBODY, UUIDS[4]) == {"nqn": of(UUIDS[4]), "id": UUIDS[4]}


def test_what_a_host_had_before_its_packages_is_kept() -> None:
    made = {"nqn": of(UUIDS[0]), "id": UUIDS[1]}
    both = {"nqn": of(UUIDS[2]), "id": UUIDS[3]}
    assert FILTERS["identity"](both, both, UUIDS[4]) == both
    only_nqn = {"nqn": of(UUIDS[2]), "id": ""}
    assert FILTERS["identity"](only_nqn, {**made, **only_nqn}, UUIDS[4]) == {
        "nqn": of(UUIDS[2]),
        "id": UUIDS[2],
    }
    only_id = {"nqn": "", "id": UUIDS[3]}
    assert FILTERS["identity"](only_id, made, UUIDS[4]) == {"nqn": of(UUIDS[3]), "id": UUIDS[3]}


def test_an_nqn_that_a_person_gave_takes_the_id_that_there_is() -> None:
    named = {"nqn": "nqn.2020-01.org.example:web1", "id": ""}
    assert FILTERS["identity"](named, {**named, "id": UUIDS[1]}, UUIDS[4])["id"] == UUIDS[1]
    assert FILTERS["identity"](named, named, UUIDS[4])["id"] == UUIDS[4]


DISK = "/dev/disk/by-id/nvme-EXAMPLE-1"


def test_pools_as_they_should_be_have_no_faults() -> None:
    fast = {"name": "fast", "volume_group": "vg0", "devices": [DISK], "erase": [DISK], "over_commit": 3.0}
    assert FILTERS["pool_faults"]([fast, {"name": "files", "kind": "file"}]) == []


@pytest.mark.parametrize(
    ("pools", "fault"),
    [
        ([], "there is no pool"),
        ([{"name": "a", "volume_group": "v"}, {"name": "a", "kind": "file"}], "two pools are called a"),
        ([{"name": "", "volume_group": "v"}], "it has no name"),
        ([{"name": "a"}], "needs a volume_group"),
        ([{"name": "a", "kind": "file", "devices": [DISK]}], "for pools of kind lvm"),
        ([{"name": "a", "volume_group": "v", "over_commit": 0.5}], "over_commit is less than 1"),
        (
            [{"name": "a", "volume_group": "v", "erase": [DISK]}],
            f"erase names {DISK}, which devices does not",
        ),
        (
            [{"name": "a", "volume_group": "v", "devices": ["/dev/sdb"], "erase": ["/dev/sdb"]}],
            "erase names /dev/sdb; it takes paths below /dev/disk/by-id",
        ),
        (
            [
                {"name": "a", "volume_group": "v", "devices": [DISK]},
                {"name": "b", "volume_group": "w", "devices": [DISK]},
            ],
            f"{DISK} is named twice",
        ),
    ],
)
def test_what_pools_cannot_be_is_a_sentence(pools: list[dict[str, Any]], fault: str) -> None:
    (found,) = FILTERS["pool_faults"](pools)
    assert fault in found
