"""Deleting several things, one after another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from weft.cli.options import confirm
from weft.cli.output import Deleted, Output


@dataclass(frozen=True, slots=True)
class Deletable:
    """delete takes it away and returns whether it is gone, or only will be."""

    id: str
    name: str
    delete: Callable[[], bool]


def delete_all(output: Output, noun: str, things: Sequence[Deletable], *, yes: bool) -> None:
    """Ask, delete each, and print what became of them; the first that cannot be deleted ends it.

    Raises what a deletion raises, after what was done is printed.
    """
    confirm(f"Delete {noun} {', '.join(each.name for each in things)}?", yes=yes)
    done = []
    try:
        for each in things:
            with output.busy(f"deleting {noun} {each.name}"):
                done.append(Deleted(each.id, each.name, each.delete()))
    finally:
        output.deleted(done)
