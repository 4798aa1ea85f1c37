"""What weft says of itself."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from weft import errors
from weft.cli.commands import Command, Group
from weft.cli.exits import MEANINGS, ExitCode, exit_code
from weft.cli.main import weft


def _tree(command: click.Command, *names: str) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(["weft", *names]), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _tree(below, *names, name)


COMMANDS = dict(_tree(weft))


def _parse(line: str) -> str:
    """Parse a line as click would before running it; returns the command's whole name."""
    words = shlex.split(line)
    command: click.Command = weft
    context = None
    path = [words.pop(0)]
    while True:
        context = command.make_context(path[-1], words, parent=context)
        if not isinstance(command, click.Group) or not (rest := [*context._protected_args, *context.args]):
            return " ".join(path)
        name, below, words = command.resolve_command(context, rest)
        assert name is not None
        assert below is not None
        path, command = [*path, name], below


def _wefts_part(example: str) -> str:
    """What weft gets to see of a line for a shell."""
    if (inner := re.search(r"\$\((weft [^)]*)\)", example)) is not None:
        return inner[1]
    parts = (part.strip() for part in re.split(r" [|<>] ", example))
    return next(part for part in parts if part.startswith("weft"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_in_its_help_that_parse(name: str) -> None:
    command = COMMANDS[name]
    assert isinstance(command, Command | Group)
    assert command.examples, f"{name} has no example"
    result = CliRunner().invoke(weft, [*name.split(" ")[1:], "--help"])
    assert result.exit_code == 0
    for example in command.examples:
        assert example in result.stdout
        assert _parse(_wefts_part(example)).startswith(name)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_the_common_options_and_says_what_it_does(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    options = {spelling for each in command.params for spelling in each.opts}
    assert {"--config", "--json", "--quiet", "--debug"} <= options
    assert all(each.help for each in command.params if isinstance(each, click.Option)), name


def test_help_lists_every_exit_code() -> None:
    stdout = CliRunner().invoke(weft, ["--help"]).stdout
    assert set(MEANINGS) == set(ExitCode)
    for code, meaning in MEANINGS.items():
        assert any(line.split() == [str(int(code)), *meaning.split()] for line in stdout.splitlines())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_into_80_columns_and_cuts_no_sentence(name: str) -> None:
    help_text = CliRunner(env={"COLUMNS": "80"}).invoke(weft, [*name.split(" ")[1:], "--help"]).stdout
    assert max(len(line) for line in help_text.splitlines()) <= 80
    assert not [line for line in help_text.splitlines() if line.endswith("...") and "Usage" not in line]


def test_every_kind_of_error_has_an_exit_code_of_its_own() -> None:
    kinds = [
        errors.InvalidValueError("size", "is wrong"),
        errors.NotFoundError("x"),
        errors.ConflictError("x"),
        errors.NoSpaceError("x"),
        errors.PermissionDeniedError("x"),
        errors.UnsupportedError("x"),
        errors.UnavailableError("x"),
        errors.DataError("x"),
        errors.WeftError("x"),
    ]
    assert len({exit_code(error) for error in kinds}) == len(kinds)
    assert exit_code(errors.RevisionConflictError("x")) is ExitCode.CONFLICT


def test_help_does_not_load_what_only_commands_need() -> None:
    program = (
        "import sys\n"
        "from weft.cli.main import weft\n"
        "try:\n    weft(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'rich', 'msgspec', 'uvicorn', 'starlette', 'asyncio', 'http.client', 'sqlite3', 'mfusepy'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_without_a_command_the_help_is_shown_as_an_error() -> None:
    for line in ([], ["volume"]):
        result = CliRunner().invoke(weft, line)
        assert (result.exit_code, result.stdout) == (ExitCode.USAGE, "")
        assert result.stderr.startswith("Usage: weft")


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(weft, ["--version"]).stdout == "weft 0.1.0\n"
