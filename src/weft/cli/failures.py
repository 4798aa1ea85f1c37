"""How a command's failure reaches its user: one sentence, or one JSON object, on standard error."""

import contextlib
import json
import os
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

import click

from weft.cli.exits import ExitCode, exit_code
from weft.cli.session import Session
from weft.cli.texts import printable
from weft.errors import InvalidValueError, WeftError


class CutShortError(Exception):
    """A command ended early: by Ctrl-C, or because whoever read its output went away, as `head` does.

    Its cause is the exception that click would have turned into something of its own.
    """


def report(error: BaseException, session: Session) -> ExitCode:
    """Tell the user of the error; returns what the command ends with."""
    if isinstance(error, CutShortError) and error.__cause__ is not None:
        error = error.__cause__
    match error:
        case KeyboardInterrupt() | click.Abort():
            code, sentence = (
                ExitCode.INTERRUPTED,
                "interrupted; weft goes on with what it was asked for already",
            )
        case BrokenPipeError():
            _let_go_of_stdout()
            return ExitCode.BROKEN_PIPE
        case WeftError():
            code, sentence = exit_code(error), str(error)
        case click.UsageError():
            code, sentence = ExitCode.USAGE, _usage(error, session)
        case click.ClickException():
            code, sentence = ExitCode.FAILED, error.format_message()
        case OSError():
            code, sentence = ExitCode.FAILED, _system_error(error)
        case _:
            code, sentence = ExitCode.DEFECT, _defect(error, session)
    _tell(session, code, sentence, error.field if isinstance(error, InvalidValueError) else None)
    if session.debug:
        traceback.print_exception(error)
    return code


def _tell(session: Session, code: ExitCode, sentence: str, field: str | None) -> None:
    if session.json:
        told: dict[str, object] = {"kind": code.kind, "exit_code": int(code), "message": sentence}
        if field is not None:
            told["field"] = field
        sys.stderr.write(json.dumps({"error": told}, ensure_ascii=False) + "\n")
    else:
        sys.stderr.write(f"weft: {printable(sentence)}\n")


def _usage(error: click.UsageError, session: Session) -> str:
    sentence = error.format_message()
    if session.json or error.ctx is None:
        return sentence
    return f"{sentence}\n{error.ctx.get_usage()}\nTry `{error.ctx.command_path} --help`."


def _system_error(error: OSError) -> str:
    named = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    return f"{named}{error.strerror or error}"


def _defect(error: BaseException, session: Session) -> str:
    where = "" if session.debug else f"; the details are in {_kept(error, session)}, and --debug shows them"
    return f"this is a defect of weft itself ({type(error).__name__}: {error}){where}"


def _kept(error: BaseException, session: Session) -> Path:
    """Write the traceback to a file of this user's alone."""
    directory = None
    with contextlib.suppress(WeftError):
        if session.config.data_dir.is_dir() and os.access(session.config.data_dir, os.W_OK):
            directory = session.config.data_dir
    descriptor, path = tempfile.mkstemp(
        prefix=f"weft-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-", suffix=".traceback", dir=directory
    )
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    return Path(path)


def _let_go_of_stdout() -> None:
    """Nobody reads: what is still buffered must not fail once more while Python ends."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
