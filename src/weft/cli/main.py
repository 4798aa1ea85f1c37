"""The command `weft`: its commands, each in a module that is imported when it is used, and how it ends."""

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from weft import __version__
from weft.cli.commands import LazyGroup
from weft.cli.exits import ExitCode
from weft.cli.failures import CutShortError, report
from weft.cli.session import Session

SECTIONS = {
    "Volumes": {
        "volume": ("weft.cli.volume:volume", "Make, list, grow, copy and delete volumes."),
        "snapshot": ("weft.cli.snapshot:snapshot", "Keep a volume's content of this moment."),
        "pool": ("weft.cli.pool:pool", "See the storage that volumes are made in."),
        "profile": ("weft.cli.profile:profile", "Name classes of volumes."),
    },
    "This host": {
        "attach": ("weft.cli.attach:attach", "Attach a volume to this host; prints its path."),
        "detach": ("weft.cli.attach:detach", "Detach a volume from this host."),
        "attachment": (
            "weft.cli.attachment:attachment",
            "See which host may use which volume; cut a host off.",
        ),
        "host": ("weft.cli.host:host", "Register and list the hosts that may attach volumes."),
        "login": ("weft.cli.login:login", "Use the node at URL from this machine."),
        "logout": ("weft.cli.login:logout", "Use this machine's own node again."),
    },
    "The node": {
        "status": ("weft.cli.status:status", "Tell what runs here and what is wrong."),
        "doctor": ("weft.cli.doctor:doctor", "Tell what this machine lacks, and how to mend it."),
        "serve": ("weft.cli.serve:serve", "Run the control plane."),
        "target": ("weft.cli.target:target", "Run, look at or stop the embedded target."),
        "token": ("weft.cli.token:token", "Give other machines access to the API."),
        "stop": ("weft.cli.serve:stop", "Stop the control plane."),
        "install-units": ("weft.cli.install_units:install_units", "Have systemd run weft on this machine."),
        "boot": ("weft.cli.boot:boot", "What the units of a host run; not for people."),
        "completion": ("weft.cli.completion:completion", "Print the set-up of completion for a shell."),
    },
}


class _Weft(LazyGroup):
    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = "weft",
        complete_var: str | None = "_WEFT_COMPLETE",
        standalone_mode: bool = True,  # noqa: FBT001, FBT002 -- click's signature
        **extra: Any,
    ) -> Any:
        """Run a command and end the process with the exit code that belongs to what came of it."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        arguments = sys.argv[1:] if args is None else list(args)
        session = Session(json="--json" in arguments)  # already for a line that cannot be parsed
        try:
            result = super().main(
                arguments, prog_name, complete_var, standalone_mode=False, obj=session, **extra
            )
            sys.stdout.flush()
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 -- the one place where a run ends
            sys.exit(report(error, session))
        sys.exit(result if isinstance(result, int) else ExitCode.OK)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (BrokenPipeError, KeyboardInterrupt) as error:
            raise CutShortError from error


@click.command(
    cls=_Weft,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    examples=(
        "weft serve",
        "weft volume create data --size 10GiB",
        "weft attach data",
        "weft status --json",
    ),
)
@click.version_option(__version__, "--version", message="weft %(version)s")
def weft() -> None:
    """Block volumes for hosts over NVMe fabrics.

    VOLUME, SNAPSHOT, POOL, HOST and PROFILE are names or ids; a name that several things have is refused with their
    ids. A size is whole GiB: 10GiB, 10G and 10 mean the same.
    """


def main() -> NoReturn:
    weft.main()
    raise AssertionError("weft.main() ends the process")
