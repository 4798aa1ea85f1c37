"""What the target keeps on disk, and what it makes of it when it starts again."""

import json
import stat
from pathlib import Path

from embedded_target.processes import make_volume
from embedded_target.workshop import HOST_A, nqn_of
from nvme_tcp_host import RawConnection
from weft.config import Config
from weft.names import new_id
from weft.nvme.status import StatusCode
from weft.targets import EmbeddedTarget


def test_only_its_owner_reaches_the_socket_and_the_records(
    config: Config, target: EmbeddedTarget, short_path: Path
) -> None:
    export = make_volume(short_path, HOST_A)
    target.create_export(export)
    record = config.target_dir / "exports" / f"{export.volume_id}.json"
    assert stat.S_IMODE(config.target_socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert json.loads(record.read_bytes())["generation"] == 1


def test_a_damaged_record_is_kept_aside_and_the_others_are_restored(
    config: Config, target: EmbeddedTarget, short_path: Path
) -> None:
    whole, cut = make_volume(short_path, HOST_A), make_volume(short_path, HOST_A)
    target.create_export(whole)
    target.create_export(cut)
    target.stop_target()
    records = config.target_dir / "exports"
    record = records / f"{cut.volume_id}.json"
    content = record.read_bytes()
    record.write_bytes(content[: len(content) // 2])
    leftovers = {
        f"{whole.volume_id}.json.new": content[:10],
        f"{new_id()}.json": content,
        "nonsense": b"\xff\x00",
        f"{new_id()}.json.new": b"",
    }
    for name, leftover in leftovers.items():
        (records / name).write_bytes(leftover)

    target.ensure_running().close()
    assert set(target.exports()) == {whole.volume_id}
    assert {each.name for each in records.iterdir()} == {f"{whole.volume_id}.json"}
    damaged = {name for name in leftovers if not name.endswith(".new")}  # the others were never records
    assert {each.name for each in (config.target_dir / "damaged").iterdir()} == {*damaged, record.name}
    target.create_export(cut)
    assert set(target.exports()) == {whole.volume_id, cut.volume_id}


def test_a_volume_whose_file_is_missing_stays_exported_and_hosts_may_come_again(
    config: Config, target: EmbeddedTarget, short_path: Path
) -> None:
    export = make_volume(short_path, HOST_A)
    target.create_export(export)
    target.stop_target()
    hidden = export.path.rename(short_path / "hidden")
    target.ensure_running().close()
    found = target.export(export.volume_id)
    assert found is not None
    assert not found.complete
    with RawConnection(config.portals()[0]).open() as connection:
        answer = connection.connect(nqn_of(export), HOST_A)
        assert (answer.status.code, answer.status.dnr) == (StatusCode.CONNECT_CONTROLLER_BUSY, False)
        hidden.rename(export.path)
        assert connection.connect(nqn_of(export), HOST_A).status.ok
    again = target.export(export.volume_id)
    assert again is not None
    assert again.complete
