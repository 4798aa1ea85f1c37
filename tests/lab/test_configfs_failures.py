"""Whichever write to the kernel's configfs fails, and wherever weft is killed, the next try makes the tree exactly right.

tests/targets says the same of a kernel in memory, with more errnos.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import Lab, Vm

FAILURES = Path(__file__).with_name("configfs_failures.py")
SECONDS = 1700


@pytest.fixture(scope="module")
def node(lab_with_weft: Lab) -> Vm:
    node = lab_with_weft["node"]
    node.put(FAILURES, "/root/configfs_failures.py")
    return node


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize(
    ("way", "stride"),
    [
        pytest.param("before", 12, id="killed before some"),
        pytest.param("before", 1, marks=pytest.mark.lab_full, id="killed before each"),
        pytest.param("after", 1, marks=pytest.mark.lab_full, id="killed after each"),
        pytest.param("ENOMEM", 1, marks=pytest.mark.lab_full, id="each refused with ENOMEM"),
        pytest.param("EBUSY", 1, marks=pytest.mark.lab_full, id="each refused with EBUSY"),
    ],
)
def test_the_tree_is_exactly_right_after_trouble_at_a_change(
    node: Vm, way: str, stride: int, record_property: Callable[[str, object], None]
) -> None:
    asked = {
        "portals": [f"{node.address()}:4420", "loop"],
        "path": "/root/configfs-failures",
        "way": way,
        "stride": stride,
    }
    python = ["/opt/weft/bin/python", "/root/configfs_failures.py"]
    told = json.loads(node.run(python, stdin=json.dumps(asked), timeout=SECONDS).stdout)
    record_property("changes in a life", told["changes"])
    assert told["wrong"] == {}
    assert told["tried"] * stride >= told["changes"] > 50
