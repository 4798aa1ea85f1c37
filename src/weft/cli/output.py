"""What a command prints: tables for people, JSON for programs, ids for scripts; progress goes to standard error."""

import io
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from weft.cli.shapes import Shape, Value
from weft.cli.sizes import format_size
from weft.cli.texts import printable

ItemT = TypeVar("ItemT")

_UNBOUNDED_WIDTH = 100_000
_WIDE_ENOUGH = 80  # columns; in less, what is kept in one line could be cut
_STYLES = {
    "available": "green",
    "inUse": "green",
    "error": "red",
    "errorDeleting": "red",
    "errorExtending": "red",
    "creating": "yellow",
    "attaching": "yellow",
    "extending": "yellow",
    "reverting": "yellow",
    "deleting": "yellow",
    "pending": "yellow",
}


@dataclass(frozen=True, slots=True)
class Column(Generic[ItemT]):
    """optional: left out of a table in which it is empty everywhere. whole: kept in one line, to be copied."""

    title: str
    text: Callable[[ItemT], str]
    right: bool = False
    optional: bool = False
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Kind(Generic[ItemT]):
    """How one kind of thing is shown: its columns, its JSON, and what names it in a script."""

    columns: tuple[Column[ItemT], ...]
    shape: Callable[[ItemT], Shape]
    identity: Callable[[ItemT], str]


@dataclass(frozen=True, slots=True)
class Deleted:
    """gone: False while it is only asked for."""

    id: str
    name: str
    gone: bool = True


class Output:
    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet

    def rows(self, kind: Kind[ItemT], items: Sequence[ItemT]) -> None:
        """A list: a JSON array, one id for each line, or a table."""
        if self.json:
            self._write_json([kind.shape(item) for item in items])
        elif self.quiet:
            self.lines(kind.identity(item) for item in items)
        else:
            self._write_table(kind.columns, items)

    def one(self, kind: Kind[ItemT], item: ItemT) -> None:
        """One thing with everything that is known of it."""
        shape = kind.shape(item)
        if self.quiet and not self.json:
            self.lines([kind.identity(item)])
        else:
            self.shape(shape)

    def shape(self, shape: Shape) -> None:
        """A JSON object, or its keys and values line by line."""
        if self.json:
            self._write_json(shape)
            return
        table = _plain_table()
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for key, text in _details(shape):
            table.add_row(Text(key), _styled(text))
        self._render(table)

    def lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            sys.stdout.write(f"{line}\n")

    def result(self, shape: Shape, line: str) -> None:
        """What a command did: the shape as JSON, else the line; nothing when only ids are asked for."""
        if self.json:
            self._write_json(shape)
        elif not self.quiet:
            self.lines([printable(line)])

    def deleted(self, things: Sequence[Deleted]) -> None:
        """What became of things that were to be deleted: a JSON array, ids, or a line for each."""
        if self.json:
            self._write_json([{"id": each.id, "name": each.name, "deleted": each.gone} for each in things])
        elif self.quiet:
            self.lines(each.id for each in things)
        else:
            self.lines(f"deleted {each.name}" if each.gone else f"deleting {each.name}" for each in things)

    def note(self, sentence: str) -> None:
        """Something that a person should know beside the result; on standard error."""
        sys.stderr.write(f"weft: {printable(sentence)}\n")

    @contextmanager
    def busy(self, doing: str) -> Iterator[None]:
        """Show that something is under way, when a person is watching."""
        if not self.watched:
            yield
            return
        with Console(stderr=True).status(Text(printable(doing))):
            yield

    @property
    def watched(self) -> bool:
        """Whether progress can be shown."""
        return not self.quiet and sys.stderr.isatty()

    def _write_json(self, value: Shape | Sequence[Shape]) -> None:
        json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")

    def _write_table(self, columns: Sequence[Column[ItemT]], items: Sequence[ItemT]) -> None:
        texts = [[_in_one_line(column.text(item)) for column in columns] for item in items]
        shown = [
            index
            for index, column in enumerate(columns)
            if not column.optional or any(row[index] for row in texts)
        ]
        table = _plain_table(show_header=True)
        for index in shown:
            table.add_column(
                columns[index].title,
                justify="right" if columns[index].right else "left",
                overflow="fold",
                no_wrap=columns[index].whole and _terminal_width() >= _WIDE_ENOUGH,
            )
        for row in texts:
            table.add_row(*(_styled(row[index]) for index in shown))
        self._render(table)

    def _render(self, table: Table) -> None:
        if sys.stdout.isatty():
            Console(file=sys.stdout).print(table)
        else:
            self.lines(_rendered_plainly(table))


def _rendered_plainly(table: Table) -> Iterator[str]:
    """The table's lines as wide as they come, without colours and without space at their ends."""
    rendered = io.StringIO()
    Console(file=rendered, width=_UNBOUNDED_WIDTH, color_system=None).print(table)
    return (line.rstrip() for line in rendered.getvalue().splitlines())


def _terminal_width() -> int:
    return shutil.get_terminal_size().columns


def _plain_table(*, show_header: bool = False) -> Table:
    return Table(box=None, show_header=show_header, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


def _in_one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def _styled(text: str) -> Text:
    return Text(text, style=_STYLES.get(text, ""))


def _details(shape: Shape) -> Iterator[tuple[str, str]]:
    """Keys and values for a person: sizes in GiB, nested objects as `outer inner`, nothing for what is empty."""
    for key, value in shape.items():
        if isinstance(value, Mapping):
            yield from ((f"{_label(key)} {inner}", text) for inner, text in _details(value))
        elif key.endswith("_bytes") and isinstance(value, int):
            yield _label(key.removesuffix("_bytes")), format_size(value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            if value:
                yield _label(key), "\n".join(_item(each) for each in value)
        elif value not in (None, ""):
            yield _label(key), _item(value)


def _item(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_item(each)}" for key, each in value.items() if each not in (None, ""))
    return printable(str(value))


def _label(key: str) -> str:
    return key.replace("_", " ")
