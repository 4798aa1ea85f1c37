"""A hundred exports come back after weft was killed and after the node was rebooted, and no host loses a device.

A host that connects to a listening port which lacks its subsystem, or its name on the list, is told never to try again.
So beside a hundred devices that reconnect every second a program connects again and again, as the host that is let in
and as a stranger, and remembers every answer.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from lab import Lab, LabError, RemoteProcess, Vm
from lab.bulk import attach_all, export_all, make_all, stamp, stamps
from lab.io import VerifyingFio
from lab.world import Host, NodeSetup, StorageNode
from weft.connection import NvmeofConnection
from weft.model import VolumeId
from weft.names import host_nqn, new_id

EXPORTS = 100

# Connects to random ones of the subsystems until SIGTERM, then says what became of that, by identity.
HAMMER = r"""
import collections, json, random, signal, sys, time
from weft.connection import NvmeofPortal
from weft.embedded.host.exchange import Exchange
from weft.embedded.host.queue_pair import ConnectionLostError
from weft.model import Transport
from weft.nvme.fabrics import Connect, ConnectData
from weft.nvme.status import SUCCESS

class Listener:
    def completed(self, completion): pass
    def lost(self, error): pass

def connect(subsystem, host):
    try:
        exchange = Exchange(portal, Listener(), 2.0)
    except ConnectionLostError:
        return "no portal"
    try:
        data = ConnectData(hostid=bytes(16), subnqn=subsystem, hostnqn=host, cntlid=0xFFFF).encode()
        answer = exchange.execute(Connect(qid=0, sqsize=31), 10.0, data=data)
    except ConnectionLostError:
        return "connection lost"
    finally:
        exchange.queue_pair.close()
    return "let in" if answer.status == SUCCESS else answer.status.text

wanted = json.loads(sys.argv[1])
portal = NvmeofPortal(transport=Transport.TCP, address=wanted["address"], port=wanted["port"])
answers = {name: collections.Counter() for name in wanted["hosts"]}
going = True
def end(*_):
    global going
    going = False
signal.signal(signal.SIGTERM, end)
while going:
    for name, host in wanted["hosts"].items():
        answers[name][connect(random.choice(wanted["subsystems"]), host)] += 1
    time.sleep(0.02)
print(json.dumps(answers))
"""

CONTROLLERS = r"""
for each in /sys/class/nvme/nvme*; do
    [ ! -e "$each/subsysnqn" ] || echo "$(cat "$each/subsysnqn") ${each##*/} $(cat "$each/state")"
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hundred:
    """A host with a hundred devices; where their volumes' content is on the node."""

    node: StorageNode
    host: Vm
    connections: Mapping[VolumeId, NvmeofConnection]
    devices: Mapping[VolumeId, str]
    backing: Mapping[VolumeId, str]

    def controllers(self) -> dict[str, tuple[str, str]]:
        """Name and state by subsystem, as the host's kernel has them."""
        lines = self.host.run(CONTROLLERS, 120).stdout.splitlines()
        return {nqn: (name, state) for nqn, name, state in (line.split(" ", 2) for line in lines)}

    def wait_until_live(self, timeout: float = 600) -> float:
        """Seconds until every controller is live; one that is gone ends the wait at once."""
        began = time.monotonic()
        while states := {nqn: state for nqn, (_, state) in self.controllers().items() if state != "live"}:
            if time.monotonic() - began > timeout:
                raise LabError(f"{len(states)} of {EXPORTS} controllers are not live: {states}")
            time.sleep(1)
        assert len(self.controllers()) == EXPORTS
        return time.monotonic() - began

    def prove_io(self) -> None:
        """Every device takes another word, and the volume behind it has that then."""
        words = {volume_id: new_id() for volume_id in self.devices}
        stamp(self.host, {self.devices[each]: word for each, word in words.items()})
        assert stamps(self.host, list(self.devices.values())) == list(words.values())
        assert stamps(self.node.vm, [self.backing[each] for each in self.devices]) == list(words.values())

    def connection(self) -> NvmeofConnection:
        return next(iter(self.connections.values()))


@pytest.fixture(scope="module")
def hundred(lab_with_weft: Lab) -> Iterator[Hundred]:
    # Files, for a hundred logical volumes take long to make here and are restored as files are.
    node = StorageNode(lab_with_weft["node"], NodeSetup(pool="file", portals=("10.77.0.1:4420",)))
    node.start()
    host = Host(lab_with_weft["host1"])
    host_id = node.register("host1", host.make_identity())
    volumes = {made.volume.id: made.path for made in make_all(node, [f"v{n}" for n in range(EXPORTS)])}
    connections = export_all(node, list(volumes), host_id)
    devices = attach_all(host.vm, connections)
    assert len(set(devices.values())) == EXPORTS
    yield Hundred(node=node, host=host.vm, connections=connections, devices=devices, backing=volumes)
    node.close()


@contextmanager
def hammering(vm: Vm, hundred: Hundred) -> Iterator[RemoteProcess]:
    connection = hundred.connection()
    portal = connection.portals[0]
    wanted = {
        "address": portal.address,
        "port": portal.port,
        "hosts": {"admitted": connection.host_nqn, "stranger": host_nqn(new_id())},
        "subsystems": [each.nqn for each in hundred.connections.values()],
    }
    with vm.spawn(["/opt/weft/bin/python", "-c", HAMMER, json.dumps(wanted)]) as hammer:
        yield hammer


def answers(hammer: RemoteProcess) -> Any:
    hammer.signal("TERM")
    return json.loads(hammer.wait(60).stdout)


def assert_none_was_turned_away(said: Any) -> None:
    assert set(said["admitted"]) <= {"let in", "no portal", "connection lost"}, said
    assert said["admitted"]["let in"] > 0
    assert "let in" not in said["stranger"]


@pytest.mark.lab_full
@pytest.mark.timeout(3600)
def test_no_device_is_lost_when_weft_is_killed(
    hundred: Hundred, host2: Vm, record_property: Callable[[str, object], None]
) -> None:
    before = hundred.controllers()
    busy = next(iter(hundred.devices.values()))
    with hammering(host2, hundred) as hammer, VerifyingFio(hundred.host, busy, offset_mib=8, iops=50) as fio:
        fio.wait_for_progress()
        hundred.node.kill()
        time.sleep(3)
        hundred.node.wait()
        fio.wait_for_progress()
        said, report = answers(hammer), fio.finish()
    record_property("connects", said)
    assert_none_was_turned_away(said)
    assert report.error == 0, report.output
    assert hundred.controllers() == before
    hundred.prove_io()


@pytest.mark.lab_full
@pytest.mark.timeout(3600)
def test_no_device_is_lost_when_the_node_is_rebooted(
    hundred: Hundred, host2: Vm, record_property: Callable[[str, object], None]
) -> None:
    before = hundred.controllers()
    with hammering(host2, hundred) as hammer:
        hundred.node.vm.reboot()
        record_property("reboot to all live, s", round(hundred.wait_until_live(), 1))
        hundred.node.wait()
        said = answers(hammer)
    record_property("connects", said)
    assert_none_was_turned_away(said)
    assert hundred.controllers() == before
    hundred.prove_io()


@pytest.mark.lab_full
@pytest.mark.timeout(3600)
def test_no_device_is_lost_when_weft_is_killed_while_it_restores(
    hundred: Hundred, host2: Vm, record_property: Callable[[str, object], None]
) -> None:
    before = hundred.controllers()
    with hammering(host2, hundred) as hammer:
        hundred.node.vm.reboot()
        kills = hundred.node.vm.run(KILL_WHILE_RESTORING, 600).stdout.split()
        hundred.wait_until_live()
        hundred.node.wait()
        said = answers(hammer)
    record_property("exports at each kill", kills)
    record_property("connects", said)
    assert_none_was_turned_away(said)
    assert hundred.controllers() == before
    hundred.prove_io()


# Whenever some more exports are there, until all of them are and the port has them.
KILL_WHILE_RESTORING = rf"""
exports() {{ ls /sys/kernel/config/nvmet/subsystems 2>/dev/null | wc -l; }}
for wanted in 1 20 50 80 {EXPORTS}; do
    until [ "$(exports)" -ge $wanted ]; do sleep 0.05; done
    exports
    until systemctl kill --kill-who=main --signal=KILL weft 2>/dev/null; do sleep 0.05; done
done
"""
