"""`weft install-units`: systemd runs weft on this machine, as a storage node, as a host, or as both."""

from pathlib import Path

import click

from weft.cli.commands import Command
from weft.cli.session import Session
from weft.run import run
from weft.units import HOST, NODE, SYSTEM_DIRECTORY, changed, install, make_writable, program, units

_SECONDS = 60.0
_SYSTEMD = Path("/run/systemd/system")


@click.command(
    "install-units",
    cls=Command,
    short_help="Have systemd run weft on this machine.",
    examples=("weft install-units --node", "weft install-units --host", "weft install-units --check --json"),
)
@click.option("--node", "parts", flag_value="node", multiple=True, help="Those of a storage node.")
@click.option("--host", "parts", flag_value="host", multiple=True, help="Those of a host.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=SYSTEM_DIRECTORY,
    show_default=True,
    help="Where they are written to.",
)
@click.option("--check", is_flag=True, help="Only tell which of them would be written.")
@click.pass_obj
def install_units(session: Session, *, parts: tuple[str, ...], directory: Path, check: bool) -> None:
    """Write weft's systemd units, for a storage node and a host unless one of them is chosen. Run as root.

    They run this very weft with this configuration. weft.service is the control plane, and may write nothing but what
    the configuration names; weft-attach@ID attaches a volume at every boot (`weft attach --persist`);
    weft-detach and weft-give-up let a host go down in order, also when its node is dead; weft-rxe@NIC and
    weft-siw@NIC make soft RDMA links. What is there already as it should be stays, so this can be repeated, and should
    be after an upgrade and after a change of the configuration's directories. Nothing is enabled or started.
    """
    names = [*(NODE if "host" not in parts or "node" in parts else ())]
    names += HOST if "node" not in parts or "host" in parts else ()
    wanted = changed(units(session.config, list(dict.fromkeys(names)), program()), directory)
    if not check:
        make_writable(session.config)
        install(wanted, directory)
        # Also when none is written now: an earlier run may have been ended between writing and this.
        if directory == SYSTEM_DIRECTORY and _SYSTEMD.is_dir():
            run(["systemctl", "daemon-reload"], timeout=_SECONDS)
    written = [each.name for each in wanted]
    verb = "would be written" if check else "written"
    session.output.result(
        {"directory": str(directory), "changed": written, "written": not check},
        f"{verb} to {directory}: {', '.join(written)}"
        if written
        else f"the units in {directory} are up to date",
    )
