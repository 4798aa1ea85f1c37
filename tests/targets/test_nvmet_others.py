"""What others have in nvmet stays as it is."""

import pytest

from eventually import eventually
from fakes.configfs import ROOT
from targets.nvmet_node import HOST_A, HOST_B, Node, keys, somebody_else_exports, without
from weft.errors import ConflictError, UnavailableError
from weft.names import subsystem_nqn


@pytest.mark.parametrize("address", ["192.0.2.9", "192.0.2.1"], ids=["beside", "on the same portal"])
def test_what_others_have_in_nvmet_stays_as_it_is(node: Node, address: str) -> None:
    somebody_else_exports(node.kernel, "nqn.2024-01.org.example:theirs", node.export().path, address)
    before = node.kernel.tree()
    export, target = node.export(HOST_A, HOST_B), node.start()
    target.create_export(export)
    node.connect(export, HOST_B)
    target.create_export(without(export, HOST_B))
    assert set(target.exports()) == {export.volume_id}
    target.remove_export(export.volume_id)
    node.start()
    assert node.kernel.tree() == before


def test_a_subsystem_of_somebody_elses_by_the_same_name_is_not_touched(node: Node) -> None:
    export, target = node.export(HOST_A), node.start()
    somebody_else_exports(node.kernel, subsystem_nqn(export.volume_id), node.export().path)
    before = node.kernel.tree()
    with pytest.raises(ConflictError, match="was not made by weft"):
        target.create_export(export)
    target.remove_export(export.volume_id)
    assert target.export(export.volume_id) is None
    assert not target.exports()
    assert node.kernel.tree() == before


def test_the_keys_that_somebody_else_gave_a_host_are_not_changed(node: Node) -> None:
    somebody_else_exports(node.kernel, "nqn.2024-01.org.example:theirs", node.export().path)
    theirs = keys()
    node.kernel.write(f"{ROOT}/hosts/{HOST_B}/dhchap_key", theirs.host_key.encode())
    target = node.start()
    with pytest.raises(ConflictError, match="made by someone else"):
        target.create_export(node.export(HOST_B, secrets=keys()))
    target.create_export(node.export(HOST_B, secrets=theirs))


def test_exports_under_another_prefix_are_told_of_and_nothing_is_made_beside_them(node: Node) -> None:
    """Else weft would call hosts detached that go on using them."""
    export, other = node.export(HOST_A), "nqn.2024-01.org.example:storage:"
    node.start(nqn_prefix=other).create_export(export)
    before = node.kernel.tree()
    target = node.start()
    assert f"{other}{export.volume_id}" in target.troubles()[0]
    with pytest.raises(UnavailableError, match="put that prefix back"):
        target.remove_export(export.volume_id)
    with pytest.raises(UnavailableError, match="put that prefix back"):
        target.create_export(export)
    assert node.kernel.tree() == before
    target.stop_target()
    eventually(lambda: not target.troubles())
    target.create_export(export)
    node.connect(export, HOST_A)
