"""Which target serves."""

import os
from pathlib import Path

import pytest

from fakes.nvmet import nvmet_config
from weft.config import Config, ConfigFile, TargetKind, TargetSection, check_config
from weft.errors import InvalidValueError, UnsupportedError
from weft.model import Protocol
from weft.targets import EmbeddedTarget, NvmetTarget, open_target, why_not_nvmet

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root is told more than that it must be root")


def config(folder: Path, kind: TargetKind, *portals: str) -> Config:
    target = TargetSection(kind=kind, portals=portals or ("127.0.0.1:4420",))
    return check_config(ConfigFile(data_dir=str(folder / "data"), target=target))


def machine(folder: Path, *modules: str) -> Path:
    """The root of a machine whose kernel has these modules."""
    for each in modules:
        (folder / "sys/module" / each).mkdir(parents=True)
    return folder


def test_the_one_that_is_named_serves(tmp_path: Path) -> None:
    assert isinstance(open_target(Protocol.NVMEOF, nvmet_config(tmp_path)), NvmetTarget)
    embedded = open_target(Protocol.NVMEOF, config(tmp_path, TargetKind.EMBEDDED))
    assert isinstance(embedded, EmbeddedTarget)
    with pytest.raises(UnsupportedError, match="no target serves iscsi"):
        open_target(Protocol.ISCSI, nvmet_config(tmp_path))


@root_only
def test_left_open_the_kernels_serves_where_it_is(tmp_path: Path) -> None:
    asked = config(tmp_path, TargetKind.AUTO)
    assert why_not_nvmet(asked, machine(tmp_path, "nvmet", "nvmet_tcp")) is None
    assert "no module nvmet" in str(why_not_nvmet(asked, machine(tmp_path / "other")))


@root_only
def test_left_open_the_embedded_one_keeps_the_volumes_that_it_serves(tmp_path: Path) -> None:
    asked, kernel = config(tmp_path, TargetKind.AUTO), machine(tmp_path, "nvmet", "nvmet_tcp")
    exports = asked.target_dir / "exports"
    exports.mkdir(parents=True)
    assert why_not_nvmet(asked, kernel) is None
    (exports / "11111111-aaaa-4aaa-8aaa-111111111111.json").touch()
    assert "embedded target serves volumes already" in str(why_not_nvmet(asked, kernel))


@root_only
def test_one_transport_that_the_kernel_has_is_enough(tmp_path: Path) -> None:
    asked = config(tmp_path, TargetKind.AUTO, "rdma://192.0.2.1", "192.0.2.1")
    assert why_not_nvmet(asked, machine(tmp_path, "nvmet", "nvmet_tcp")) is None
    assert why_not_nvmet(asked, machine(tmp_path / "other", "nvmet")) is not None


def test_portals_that_only_the_kernel_has_are_refused_where_it_does_not_serve(tmp_path: Path) -> None:
    asked = config(tmp_path, TargetKind.AUTO, "rdma://192.0.2.1")
    exports = asked.target_dir / "exports"
    exports.mkdir(parents=True)
    (exports / "11111111-aaaa-4aaa-8aaa-111111111111.json").touch()
    with pytest.raises(InvalidValueError, match="serves tcp alone"):
        open_target(Protocol.NVMEOF, asked)
