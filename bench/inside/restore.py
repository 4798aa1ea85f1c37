"""How long weft's loop takes to bring all exports back after nvmet has forgotten them, beside a plain writer."""

import argparse
import re

from bench.inside.node import bench_node
from bench.inside.rounds import print_round, timed
from bench.inside.tree import read_tree, remove_exports, write_exports
from weft.config import PoolKind


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exports", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pool", type=PoolKind, default=PoolKind.FILE)
    options = parser.parse_args()
    with bench_node(options.pool) as node:
        volumes = node.fill(options.exports)
        exports, ports = node.plain(volumes), node.plain_ports()
        with node.running():  # once unmeasured: modules, and caches of both
            node.wait_linked(options.exports)
        made_by_weft = read_tree()
        node.forget()
        for number in range(options.rounds):
            with timed() as plain:
                write_exports(exports, ports)
            if number == 0:
                _check_same(made_by_weft, read_tree())
            remove_exports(exports, ports)
            with timed() as weft, node.running():
                node.wait_linked(options.exports)
                weft.stop()
            node.forget()
            print_round({"weft": weft.seconds, "plain": plain.seconds})


def _check_same(weft: dict[str, str], plain: dict[str, str]) -> None:
    """Raises ValueError unless both have made the same tree: a faster one that lacks something would be no faster."""
    ours, theirs = ({_without_port(path): value for path, value in each.items()} for each in (weft, plain))
    different = [path for path in {*ours, *theirs} if ours.get(path) != theirs.get(path)]
    if different:
        path = min(different)
        raise ValueError(
            f"{len(different)} paths differ, such as {path}: weft {ours.get(path)}, plain {theirs.get(path)}"
        )


def _without_port(path: str) -> str:
    """Ports have different numbers."""
    return re.sub(r"/ports/\d+", "/ports/N", path)


if __name__ == "__main__":
    main()
