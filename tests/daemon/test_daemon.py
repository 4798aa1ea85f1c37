"""The daemon's start and stop: alone, in directories of its own, and without leaving copies behind."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from embedded_host.target_process import free_port
from fakes.rows import make_snapshot, make_volume
from weft.client import Client
from weft.config import Config, ConfigFile, PoolKind, PoolSection, TargetKind, TargetSection, check_config
from weft.daemon import Drivers, serve
from weft.drivers.copying import reflink
from weft.drivers.holding import nobody_writes
from weft.embedded.target.control import TargetStatus
from weft.errors import ConflictError, PermissionDeniedError, UnavailableError, WeftError
from weft.model import GIB, Initiator, PoolId, Protocol, Provisioning
from weft.names import new_id
from weft.requests import CreateAttachmentRequest, CreateVolumeRequest, HostRequest
from weft.targets import EmbeddedTarget

_START_SECONDS = 20.0
_SECONDS = 10.0


@pytest.fixture
def configure(short_path: Path) -> Callable[..., Config]:
    """A configuration whose directories are in a folder of its own."""

    def make(
        data: str = "data", run: str = "run", pools: tuple[PoolSection, ...] = (PoolSection(),)
    ) -> Config:
        portals = (f"127.0.0.1:{free_port()}",)
        return check_config(
            ConfigFile(
                data_dir=str(short_path / data),
                runtime_dir=str(short_path / run),
                target=TargetSection(kind=TargetKind.EMBEDDED, portals=portals),
                pools=pools,
            )
        )

    return make


@contextmanager
def serving(config: Config) -> Iterator[None]:
    """weft with its target, which ends with it."""
    try:
        with daemon(config):
            yield
    finally:
        EmbeddedTarget(config).stop_target()


@contextmanager
def daemon(config: Config) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(config,), kwargs={"stop": stop})
    thread.start()
    try:
        _wait_until_it_serves(config)
        yield
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


def _wait_until_it_serves(config: Config) -> TargetStatus:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            Client.for_config(config).api_versions()
            return EmbeddedTarget(config).status()
        except WeftError:
            assert time.monotonic() < deadline, "it does not serve"
            time.sleep(0.02)


def _has_reflinks(directory: Path) -> bool:
    with tempfile.TemporaryFile(dir=directory) as one, tempfile.TemporaryFile(dir=directory) as other:
        return reflink(one.fileno(), other.fileno())


def test_pools_tell_how_they_give_out_room(configure: Callable[..., Config]) -> None:
    sections = (
        PoolSection(name="files", provisioning=Provisioning.THICK),  # of an LVM pool alone
        PoolSection(name="thin", kind=PoolKind.LVM, volume_group="weft-none"),
        PoolSection(
            name="thick", kind=PoolKind.LVM, volume_group="weft-none", provisioning=Provisioning.THICK
        ),
    )
    config = configure(pools=sections)
    with serving(config):
        found = {each.pool.name: each.pool.provisioning for each in Client.for_config(config).pools()}
    assert found == {"files": Provisioning.THIN, "thin": Provisioning.THIN, "thick": Provisioning.THICK}


@pytest.mark.parametrize("shared", ["data", "run"])
def test_a_second_daemon_is_refused_and_leaves_the_target_of_the_first_alone(
    configure: Callable[..., Config], shared: str
) -> None:
    first, second = configure(), configure(**{"data": "data2", "run": "run2", shared: shared})
    with serving(first):
        target = _wait_until_it_serves(first).pid
        with pytest.raises(ConflictError, match=f"another weft serve already runs on .*/{shared};"):
            serve(second, stop=threading.Event())
        assert EmbeddedTarget(first).status().pid == target


@pytest.mark.parametrize("goes_down", [False, True])
def test_exports_end_with_the_machine_and_not_with_weft(
    configure: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, *, goes_down: bool
) -> None:
    monkeypatch.setattr("weft.daemon.machine_is_going_down", lambda: goes_down)
    config = configure()
    with daemon(config):
        client = Client.for_config(config)
        volume = client.create_volume(CreateVolumeRequest(name="v", size=GIB), wait=_SECONDS).volume
        initiator = Initiator(port_name="nqn.2020-01.org.example:h", protocol=Protocol.NVMEOF)
        host = client.create_host(HostRequest(name="h", initiators=(initiator,)))
        client.create_attachment(CreateAttachmentRequest(volume_id=volume.id, host_id=host.id), wait=_SECONDS)
    try:
        shown = EmbeddedTarget(config).status().exports
    except UnavailableError:
        shown = 0
    finally:
        EmbeddedTarget(config).stop_target()
    assert shown == (0 if goes_down else 1)


@pytest.mark.parametrize("name", ["data", "run"])
@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_a_directory_that_others_may_write_to_is_refused(
    configure: Callable[..., Config], short_path: Path, name: str, mode: int
) -> None:
    (short_path / name).mkdir()
    (short_path / name).chmod(mode)
    with pytest.raises(PermissionDeniedError, match=f"others may write to .*/{name} .mode {mode:04o}"):
        serve(configure(), stop=threading.Event())
    assert list((short_path / name).iterdir()) == []


def test_a_lock_that_somebody_has_made_a_link_is_not_followed(
    configure: Callable[..., Config], short_path: Path
) -> None:
    (short_path / "data").mkdir(mode=0o700)
    (short_path / "data" / "serve.lock").symlink_to(short_path / "elsewhere")
    with pytest.raises(OSError, match=r"serve\.lock"):
        serve(configure(), stop=threading.Event())
    assert not (short_path / "elsewhere").exists()


def test_a_pool_whose_disks_do_not_answer_keeps_nobody_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, asked = threading.Event(), threading.Event()

    def slow_open(section: PoolSection, *_: object, **__: object) -> str:
        if section.name == "slow":
            asked.set()
            assert answered.wait(_SECONDS)
        return section.name

    monkeypatch.setattr("weft.daemon.open_driver", slow_open)
    config = check_config(ConfigFile(data_dir=str(tmp_path), runtime_dir=str(tmp_path / "run")))
    pools = {PoolId(new_id()): (PoolSection(name=name), config) for name in ("slow", "fast")}
    drivers = Drivers(pools, nobody_writes, threading.Event())
    slow, fast = pools
    with ThreadPoolExecutor() as pool:
        opening = pool.submit(lambda: drivers[slow])
        assert asked.wait(_SECONDS)
        assert pool.submit(lambda: drivers[fast]).result(_SECONDS) == "fast"  # type: ignore[comparison-overlap]
        answered.set()
        opening.result(_SECONDS)


def test_a_pool_that_takes_long_to_open_keeps_few_waiting_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, asked = threading.Event(), threading.Event()

    def slow_open(section: PoolSection, *_: object, **__: object) -> str:
        asked.set()
        assert answered.wait(_SECONDS)
        return section.name

    monkeypatch.setattr("weft.daemon.open_driver", slow_open)
    monkeypatch.setattr("weft.daemon._OPENING_SECONDS", 0.05)
    drivers, pool_id = _drivers_of(tmp_path, "slow")
    with ThreadPoolExecutor() as pool:
        opening = pool.submit(lambda: drivers[pool_id])
        assert asked.wait(_SECONDS)
        with pytest.raises(UnavailableError, match="pool slow takes longer than"):
            drivers[pool_id]
        answered.set()
        assert opening.result(_SECONDS) is drivers[pool_id]


def test_a_pool_that_is_not_there_is_looked_for_once_for_all_who_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def open_none(section: PoolSection, *_: object, **__: object) -> str:
        looks.append(section.name)
        raise UnavailableError("there is no volume group")

    monkeypatch.setattr("weft.daemon.open_driver", open_none)
    drivers, pool_id = _drivers_of(tmp_path, "late")
    for _ in range(3):
        with pytest.raises(UnavailableError, match="there is no volume group"):
            drivers[pool_id]
    assert looks == ["late"]
    monkeypatch.setattr("weft.daemon._REOPEN_SECONDS", 0.0)
    monkeypatch.setattr("weft.daemon.open_driver", lambda section, *_, **__: section.name)
    assert drivers[pool_id] == "late"  # type: ignore[comparison-overlap]


def _drivers_of(folder: Path, name: str) -> tuple[Drivers, PoolId]:
    """The drivers of a single pool."""
    config = check_config(ConfigFile(data_dir=str(folder), runtime_dir=str(folder / "run")))
    pool_id = PoolId(new_id())
    return Drivers({pool_id: (PoolSection(name=name), config)}, nobody_writes, threading.Event()), pool_id


def test_a_copy_is_broken_off_when_the_daemon_stops_and_made_when_it_runs_again(tmp_path: Path) -> None:
    config = check_config(ConfigFile(data_dir=str(tmp_path), runtime_dir=str(tmp_path / "run")))
    pool_id, stopping = PoolId(new_id()), threading.Event()
    driver = Drivers({pool_id: (PoolSection(), config)}, nobody_writes, stopping)[pool_id]
    volume = make_volume(GIB)
    if _has_reflinks(tmp_path):
        pytest.skip("this file system has reflinks, so nothing is copied")
    driver.create(volume)
    with driver.path(volume).open("r+b") as content:
        content.write(b"bytes")
    snapshot = make_snapshot(volume)
    driver.snapshot(snapshot)
    copy = make_volume(GIB)

    stopping.set()
    with pytest.raises(UnavailableError, match="weft is stopping"):
        driver.create(copy, snapshot)
    assert driver.volume(copy.id) is None
    stopping.clear()
    driver.create(copy, snapshot)
    with driver.path(copy).open("rb") as content:
        assert content.read(5) == b"bytes"
