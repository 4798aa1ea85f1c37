"""Drivers are opened by the kind of pool that the configuration names."""

from pathlib import Path

import pytest

from weft.config import ConfigFile, PoolSection, check_config
from weft.drivers import open_driver
from weft.drivers.file import FileDriver
from weft.errors import UnsupportedError


def test_a_file_pool_lies_in_the_data_directory_unless_it_says_where(tmp_path: Path) -> None:
    pools = (PoolSection(name="near"), PoolSection(name="far", path=str(tmp_path / "elsewhere")))
    config = check_config(
        ConfigFile(data_dir=str(tmp_path / "data"), runtime_dir=str(tmp_path / "run"), pools=pools)
    )
    assert [isinstance(open_driver(pool, config), FileDriver) for pool in pools] == [True, True]
    assert (tmp_path / "data" / "pools" / "near" / "volumes").is_dir()
    assert (tmp_path / "elsewhere" / "volumes").is_dir()


def test_a_kind_without_a_driver_is_refused_by_name(tmp_path: Path) -> None:
    config = check_config(ConfigFile(data_dir=str(tmp_path), runtime_dir=str(tmp_path / "run")))
    pool = PoolSection(name="odd", kind="tape")  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match=r"pool odd is of kind tape.*file"):
        open_driver(pool, config)
