"""`weft doctor`: what works on this machine, what is missing, and the command that mends it."""

import shutil
import sys
import textwrap
from collections.abc import Iterator
from itertools import groupby

import click

from weft.cli.commands import Command
from weft.cli.exits import ExitCode
from weft.cli.session import Session
from weft.cli.shapes import Shape
from weft.cli.texts import printable
from weft.config import Config, ConfigFile, check_config, default_config_path
from weft.doctor import Finding, Part, Report, Verdict, examine, this_machine
from weft.errors import InvalidValueError

_HEADINGS = {Part.MACHINE: "This machine", Part.NODE: "As a storage node", Part.HOST: "As a host"}
_COLOURS = {Verdict.OK: "green", Verdict.MISSING: "red", Verdict.WARN: "yellow", Verdict.UNKNOWN: "yellow"}
_INDENT = " " * 4


@click.command(cls=Command, examples=("weft doctor", "weft doctor --node", "weft doctor --host --json"))
@click.option("--node", "parts", flag_value="node", multiple=True, help="Look at it as a storage node.")
@click.option("--host", "parts", flag_value="host", multiple=True, help="Look at it as a host.")
@click.pass_obj
def doctor(session: Session, *, parts: tuple[str, ...]) -> int:
    """Tell what works on this machine and what is missing, each with the command that mends it.

    A line for each finding: ok, missing (the configuration asks for it), warn, unknown (it could not be looked at, often
    because only root may), or does-not-matter-here. Looks at this machine as a storage node and as a host, or as
    one of them. Changes nothing and loads nothing; the commands are for root, to be read first.

    Exits with 0 when this machine can do what its configuration asks for, 3 when the configuration is refused, 8
    when something is missing, 7 or 9 when something could not be looked at, as an ordinary user or as root.
    """
    config, config_error = _config(session)
    machine = this_machine()
    with session.output.busy("looking at this machine"):
        report = examine(
            machine, config, config_error=config_error, parts=[Part(each) for each in parts] or tuple(Part)
        )
    if session.json:
        session.output.shape(_shape(report, machine.kernel.release))
    elif session.quiet:
        session.output.lines(each.about for each in report.with_verdict(Verdict.MISSING))
    else:
        for line in _lines(report):
            click.echo(line)
    if report.config_error:
        return ExitCode.INVALID_VALUE
    if report.with_verdict(Verdict.MISSING):
        return ExitCode.UNSUPPORTED
    if report.with_verdict(Verdict.UNKNOWN):
        return ExitCode.UNAVAILABLE if machine.is_root else ExitCode.NOT_PERMITTED
    return ExitCode.OK


def _config(session: Session) -> tuple[Config, str]:
    """The configuration, or that of the defaults and why the one that is there was refused."""
    try:
        return session.config, ""
    except InvalidValueError as error:
        return check_config(ConfigFile(), session.config_path or default_config_path()), str(error)


def _shape(report: Report, release: str) -> Shape:
    return {
        "fit": report.fit,
        "kernel": release,
        "findings": [
            {
                "part": each.part.value,
                "about": each.about,
                "verdict": each.verdict.value,
                "sentence": each.sentence,
                "command": each.command or None,
            }
            for each in report.findings
        ],
    }


def _lines(report: Report) -> Iterator[str]:
    for part, findings in groupby(report.findings, key=lambda each: each.part):
        yield click.style(_HEADINGS[part], bold=True)
        for each in findings:
            yield from _finding_lines(each)
        yield ""
    yield _conclusion(report)


def _finding_lines(finding: Finding) -> Iterator[str]:
    """The command stays in one line, to be copied."""
    verdict = click.style(finding.verdict.value, fg=_COLOURS.get(finding.verdict))
    first, *rest = _wrapped(f"{finding.verdict.value}: {printable(finding.sentence)}")
    yield _INDENT[:2] + verdict + first.removeprefix(finding.verdict.value)
    yield from (f"{_INDENT}{line}" for line in rest)
    if finding.command and finding.verdict is not Verdict.OK:
        yield f"{_INDENT}$ {printable(finding.command)}"


def _wrapped(text: str) -> list[str]:
    if not sys.stdout.isatty():
        return [text]
    width = shutil.get_terminal_size().columns - len(_INDENT)
    return textwrap.wrap(text, max(width, 40), break_long_words=False, break_on_hyphens=False)


def _conclusion(report: Report) -> str:
    if report.config_error:
        return "The configuration must be mended first."
    if missing := report.with_verdict(Verdict.MISSING):
        return f"Missing for what the configuration asks for: {', '.join(each.about for each in missing)}."
    if unknown := report.with_verdict(Verdict.UNKNOWN):
        return f"Nothing is known to be missing; not looked at: {', '.join(each.about for each in unknown)}."
    return "This machine can do what its configuration asks for."
