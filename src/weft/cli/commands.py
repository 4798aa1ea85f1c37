"""The commands and groups that the command line is made of, with what all of them have in common.

Every one takes the options of `common_options`, before or after its name, and shows examples in its help.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import click

from weft.cli.exits import MEANINGS, ExitCode
from weft.cli.session import Session


def _keep(name: str) -> Callable[[click.Context, click.Parameter, object], None]:
    """Note an option's value in the session, wherever on the line it was given."""

    def keep(ctx: click.Context, _: click.Parameter, value: object) -> None:
        if value:
            setattr(ctx.ensure_object(Session), name, value)

    return keep


def common_options() -> list[click.Option]:
    return [
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            expose_value=False,
            callback=_keep("config_path"),
            help="The configuration. [default: $WEFT_CONFIG, else see `weft serve --help`]",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_keep("json"),
            help="Print JSON, also for errors.",
        ),
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            callback=_keep("quiet"),
            help="Print only ids (or paths), and no progress.",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            expose_value=False,
            callback=_keep("debug"),
            help="Show tracebacks.",
        ),
    ]


def _write_examples(examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    with formatter.section("Examples" if len(examples) > 1 else "Example"):
        for example in examples:
            formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


class Command(click.Command):
    """A command with examples; each is a whole line as a person types it."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.params += common_options()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(self.examples, formatter)
        super().format_epilog(ctx, formatter)


class Group(click.Group):
    """A group of commands, with examples."""

    command_class = Command

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.params += common_options()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not (args or self.invoke_without_command or ctx.resilient_parsing):
            click.echo(ctx.get_help(), err=True)
            ctx.exit(ExitCode.USAGE)
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(self.examples, formatter)
        super().format_epilog(ctx, formatter)


class LazyGroup(Group):
    """A group whose commands live in modules that are imported when one is used.

    sections: heading -> command name -> (module and attribute, one line of help).
    """

    def __init__(
        self, *args: Any, sections: dict[str, dict[str, tuple[str, str]]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections or {}
        self._places = {
            name: entry[0] for section in self._sections.values() for name, entry in section.items()
        }

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in self._places:
            return None
        module, _, attribute = self._places[cmd_name].partition(":")
        return cast("click.Command", getattr(import_module(module), attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        for heading, section in self._sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name, summary) for name, (_, summary) in section.items()])
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), meaning) for code, meaning in MEANINGS.items()])
