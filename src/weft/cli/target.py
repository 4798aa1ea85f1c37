"""`weft target`: the embedded target's process."""

import click

from weft.cli.commands import Group
from weft.cli.session import Session
from weft.cli.target_status import ask_target, target_shape
from weft.embedded.target_process import run_target
from weft.logs import configure_logging
from weft.targets.embedded import EmbeddedTarget


@click.group(
    cls=Group, invoke_without_command=True, examples=("weft target", "weft target status", "weft target stop")
)
@click.pass_context
def target(ctx: click.Context) -> None:
    """Run, look at or stop the embedded target, which shows volumes to hosts over NVMe/TCP.

    `weft serve` starts it by itself and keeps it running; `weft target` alone runs it in the foreground.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(run)


@target.command("run", examples=("weft target run",))
@click.pass_obj
def run(session: Session) -> int:
    """Run the target in the foreground until SIGTERM or Ctrl-C."""
    configure_logging(session.config.log_level)
    return run_target(session.config)


@target.command("status", examples=("weft target status", "weft target status --json"))
@click.pass_obj
def status(session: Session) -> None:
    """Tell what the target serves, where, and to whom."""
    session.output.shape(target_shape(ask_target(session.config)))


@target.command(
    "stop", short_help="Stop the target; hosts lose their volumes.", examples=("weft target stop",)
)
@click.pass_obj
def stop(session: Session) -> None:
    """Stop the target; hosts lose their volumes until it runs again, and a running `weft serve` starts it again.

    Stopping what does not run does nothing.
    """
    EmbeddedTarget(session.config).stop_target()
    session.output.result({"stopped": True}, "the target has ended")
