"""The lab at a terminal: python -m lab build|up|down|list|shell"""

import argparse
import signal
import subprocess
import sys
import time

from lab.debian import Debian
from lab.errors import LabError, LabUnavailableError
from lab.laboratory import DEFAULT_VMS, SSH_CONFIG, Lab
from lab.layers import ensure_built
from lab.runs import end_orphans, owner_of, running_labs, runs_folder
from lab.vm import Vm

_END_SECONDS = 60.0
_UNAVAILABLE = 77  # as test runners understand it: skipped


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _build(options: argparse.Namespace) -> None:
    began = time.monotonic()
    ensure_built(_say, options.debian, install_packages=True)
    _say(f"The VM lab is built ({time.monotonic() - began:.0f} s)")


def _explain(lab: Lab) -> None:
    for vm in lab.vms.values():
        _say(f"  {vm.name:<6} {vm.address('wire0')}, {vm.address('wire1')}   {' '.join(vm.ssh_words)}")


def _up(options: argparse.Namespace) -> None:
    """Hold VMs until this process is told to end."""
    began = time.monotonic()
    with Lab(options.vms, name=options.name, debian=options.debian, say=_say) as lab:
        if options.weft:
            lab.everywhere(Vm.install_weft)
        _explain(lab)
        _say(
            f"Ready after {time.monotonic() - began:.0f} s: ssh -F {lab.folder / SSH_CONFIG} {options.vms[0]}"
        )
        _say(f"They end with this process: Ctrl-C here, or python -m lab down {lab.folder.name}")
        while True:
            time.sleep(3600)


def _down(options: argparse.Namespace) -> None:
    owner_of(options.name).end(patience=_END_SECONDS)
    end_orphans()


def _list(_: argparse.Namespace) -> None:
    for name in running_labs():
        vms = sorted(path.stem for path in (runs_folder() / name).glob("*.pid"))
        _say(
            f"{name}: {', '.join(vms)}   ssh -F {runs_folder() / name / SSH_CONFIG} {vms[0] if vms else 'VM'}"
        )


def _shell(options: argparse.Namespace) -> None:
    """VMs with weft in them, and a shell in one of them; they end with it."""
    with Lab(["node", "host1", options.vm], debian=options.debian, say=_say) as lab:
        lab.everywhere(Vm.install_weft)
        _explain(lab)
        _say(f"This is a shell on {options.vm}; the VMs end with it.")
        subprocess.run(lab[options.vm].ssh_words, check=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lab", description="Virtual machines for weft: see lab/README.md"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    build = commands.add_parser("build", help="build what VMs are started from, once; about two minutes")
    build.set_defaults(do=_build)

    up = commands.add_parser(
        "up",
        help="start VMs and hold them until Ctrl-C",
        epilog="example: python -m lab up --name mine node host1",
    )
    up.add_argument("--name", help="what this lab is called, for down and for its folder")
    up.add_argument("--weft", action="store_true", help="install weft from this checkout in every VM")
    up.add_argument(
        "vms", nargs="*", metavar="VM", default=list(DEFAULT_VMS), help="node, node2, host1, host2, ..."
    )
    up.set_defaults(do=_up)

    down = commands.add_parser("down", help="end a lab that another process holds")
    down.add_argument("name", metavar="NAME")
    down.set_defaults(do=_down)

    commands.add_parser("list", help="list the labs that run").set_defaults(do=_list)

    shell = commands.add_parser(
        "shell", help="a storage node and a host with weft, and a shell in one of them"
    )
    shell.add_argument("vm", nargs="?", default="node", metavar="VM")
    shell.set_defaults(do=_shell)

    for each in (build, up, shell):
        each.add_argument(
            "--debian",
            type=Debian,
            default=Debian.BOOKWORM,
            metavar="CODENAME",
            help="what the VMs run: " + " or ".join(known.value for known in Debian),
        )
    return parser


def main() -> None:
    """Exits 1 with a sentence when the lab does not do what it is asked, and 77 when this machine can have no lab."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that VMs are ended on the way out
    options = _parser().parse_args()
    try:
        options.do(options)
    except LabError as error:
        sys.stderr.write(f"lab: {error}\n")
        sys.exit(_UNAVAILABLE if isinstance(error, LabUnavailableError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
