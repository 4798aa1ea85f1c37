"""The man page weft(1), written from what the commands say of themselves: `python -m weft.cli.man >docs/weft.1`."""

import inspect
import sys
from collections.abc import Iterator

import click

from weft import __version__
from weft.cli.commands import Command, Group, common_options
from weft.cli.exits import MEANINGS
from weft.cli.main import weft

_FILES = {
    "/etc/weft/weft.toml": "The configuration; none is needed. `weft serve --help` tells where else it is looked for.",
    "/var/lib/weft": "What weft keeps, as root: the rows, tokens' hashes, the API's certificate and a machine's login.",
    "/run/weft": "Its sockets, and what this host has attached.",
    "/etc/systemd/system": "Where `weft install-units` writes weft's units.",
}


def page() -> str:
    """The whole page, in the language of man(7)."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield f'.TH WEFT 1 "" "weft {__version__}" "weft"'
    yield from (".SH NAME", r"weft \- block volumes over NVMe fabrics")
    yield from (".SH SYNOPSIS", r"\fBweft\fR [\fIOPTIONS\fR] \fICOMMAND\fR [\fIARGUMENTS\fR]")
    yield ".SH DESCRIPTION"
    yield from _paragraphs(weft.help or "")
    yield ".SH OPTIONS"
    yield "Every command takes these, before or after its name."
    yield from _options(common_options())
    yield ".SH COMMANDS"
    yield from _commands(weft, "weft")
    yield ".SH EXIT STATUS"
    for code, meaning in MEANINGS.items():
        yield from (".TP", f"\\fB{int(code)}\\fR", _plain(meaning))
    yield ".SH FILES"
    for path, what in _FILES.items():
        yield from (".TP", f"\\fI{_plain(path)}\\fR", _plain(what))


def _commands(group: click.Group, path: str) -> Iterator[str]:
    context = click.Context(group, info_name=path)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            raise LookupError(f"{path} lists {name} and does not have it")
        yield from _command(command, f"{path} {name}")
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")


def _command(command: click.Command, path: str) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    yield f".SS {_plain(' '.join([path, *command.collect_usage_pieces(context)]))}"
    yield from _paragraphs(command.help or "")
    common = {each.name for each in common_options()}
    yield from _options(
        [each for each in command.params if isinstance(each, click.Option) and each.name not in common]
    )
    if isinstance(command, Command | Group) and command.examples:
        yield from (".PP", "Examples:" if len(command.examples) > 1 else "Example:", ".PP", ".nf", ".RS 4")
        yield from (_plain(each) for each in command.examples)
        yield from (".RE", ".fi")


def _options(options: list[click.Option]) -> Iterator[str]:
    for each in options:
        record = each.get_help_record(click.Context(click.Command("weft")))
        if record is not None:
            yield from (".TP", f"\\fB{_plain(record[0])}\\fR", _plain(record[1]))


def _paragraphs(text: str) -> Iterator[str]:
    for each in inspect.cleandoc(text).split("\n\n"):
        yield from (".PP", _plain(" ".join(each.split())))


def _plain(text: str) -> str:
    """As it is, for roff: no line is a request of its, and a minus is one that can be copied."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    sys.stdout.write(page())
