"""How long one more attachment takes, from the verb to the connection, beside few exports and beside many."""

import argparse
from typing import Final

from bench.inside.node import CALLER, BenchNode, bench_node
from bench.inside.rounds import print_round, timed, wait_until
from weft.model import VolumeId
from weft.requests import CreateAttachmentRequest, CreateVolumeRequest

_SECONDS: Final = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=10)
    parser.add_argument("--many", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with bench_node() as node:
        node.fill(options.few)
        few = _measure(node, options.few, options.rounds)
        node.fill(options.many - options.few)
        many = _measure(node, options.many, options.rounds)
    for with_few, with_many in zip(few, many, strict=True):
        print_round({"weft": with_many, "plain": with_few})


def _measure(node: BenchNode, count: int, rounds: int) -> list[float]:
    """Each time the same volume is attached, with so many exports there."""
    with node.running():
        node.wait_linked(count)
        node.wait_idle()
        wait_until(lambda: node.is_measured, seconds=_SECONDS, what="the pool's room")
        wanted = CreateVolumeRequest(name=f"one-more-than-{count}", size=1 << 30, pool_id=node.pool_id)
        volume_id = node.service.volumes.create(CALLER, wanted).volume.id
        if not node.service.wait_for_volume(CALLER, volume_id, _SECONDS):
            raise RuntimeError("the volume was not made")
        _attach(node, volume_id)
        return [_attach(node, volume_id) for _ in range(rounds)]


def _attach(node: BenchNode, volume_id: VolumeId) -> float:
    """Seconds until it can be connected to; it is gone again when this returns."""
    attachments = node.service.attachments
    with timed() as watch:
        made = attachments.create(CALLER, CreateAttachmentRequest(volume_id=volume_id, host_id=node.host.id))
        node.service.wait_for_attachment(CALLER, made.attachment.id, _SECONDS)
    if attachments.get(CALLER, made.attachment.id).connection is None:
        raise RuntimeError("the attachment has no connection")
    attachments.delete(CALLER, made.attachment.id)
    node.service.wait_for_attachment(CALLER, made.attachment.id, _SECONDS)
    return watch.seconds


if __name__ == "__main__":
    main()
