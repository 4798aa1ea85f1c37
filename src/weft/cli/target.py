"""`weft target`: what shows volumes to hosts, the kernel's target or the embedded one's process."""

import click

from weft.cli.commands import Group
from weft.cli.session import Session
from weft.cli.target_status import ask_target, target_shape
from weft.embedded.target_process import run_target
from weft.logs import configure_logging
from weft.targets import stop_target


@click.group(
    cls=Group, invoke_without_command=True, examples=("weft target", "weft target status", "weft target stop")
)
@click.pass_context
def target(ctx: click.Context) -> None:
    """Look at or stop the target, which shows volumes to hosts over NVMe fabrics.

    It is the kernel's or weft's own, the embedded one, see target.kind in the configuration. `weft serve` starts
    either by itself; `weft target` alone runs the embedded one in the foreground.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(run)


@target.command("run", examples=("weft target run",))
@click.pass_obj
def run(session: Session) -> int:
    """Run the embedded target in the foreground until SIGTERM or Ctrl-C."""
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

    Of the kernel's, what weft has made is removed. Stopping what does not run does nothing.
    """
    stop_target(session.config)
    session.output.result({"stopped": True}, "the target has ended")
