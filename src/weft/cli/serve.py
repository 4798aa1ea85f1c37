"""`weft serve` and `weft stop`: the control plane's process."""

import os
import signal
from pathlib import Path

import click

from weft.cli.commands import Command
from weft.cli.daemon_process import find_daemon
from weft.cli.session import Session
from weft.cli.shapes import Shape
from weft.config import Config, PoolKind
from weft.errors import InvalidValueError
from weft.logs import configure_logging


@click.command(cls=Command, examples=("weft serve", "weft serve --check --config weft.toml"))
@click.option("--check", is_flag=True, help="Only check the configuration and the database's version.")
@click.pass_obj
def serve(session: Session, *, check: bool) -> None:
    """Run the control plane, in the foreground, until SIGTERM or Ctrl-C.

    Starts the embedded target, or adopts the one that runs; the target goes on serving when this ends. Without a
    configuration it serves a file pool in the user's data directory to that user alone. The configuration is the
    file of --config, else of WEFT_CONFIG, else ~/.config/weft/weft.toml (not for root), else /etc/weft/weft.toml.
    """
    config = session.config
    if check:
        from weft.store.sqlite import check_schema  # noqa: PLC0415 -- not for help

        _check_directories(config)
        check_schema(config.database)
        session.output.shape(_config_shape(config))
        return
    from weft.daemon import serve as serve_until_stopped  # noqa: PLC0415 -- everything there is; not for --check

    configure_logging(config.log_level)
    serve_until_stopped(config)


@click.command(cls=Command, examples=("weft stop", "weft stop --target"))
@click.option("--target", is_flag=True, help="Also stop the target; hosts lose their volumes.")
@click.option(
    "--wait",
    type=click.FloatRange(0, 600),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="For its end.",
)
@click.pass_obj
def stop(session: Session, *, target: bool, wait: float) -> None:
    """Stop the control plane. Attached volumes go on working: the target is not stopped.

    Stopping what does not run does nothing.
    """
    daemon = find_daemon(session.config)
    if daemon is not None:
        daemon.send(signal.SIGTERM)
        daemon.wait(wait)
    if target:
        from weft.targets import stop_target  # noqa: PLC0415 -- not needed without --target

        stop_target(session.config)
    said = "weft serve has ended" if daemon is not None else "weft serve does not run"
    session.output.result(
        {"daemon": {"was_running": daemon is not None, "running": False}, "target": {"stopped": target}},
        f"{said}; the target has ended" if target else said,
    )


def _config_shape(config: Config) -> Shape:
    return {
        "config": str(config.source) if config.source is not None else None,
        "data_dir": str(config.data_dir),
        "runtime_dir": str(config.runtime_dir),
        "node_name": config.node_name,
        "log_level": config.log_level,
        "api": {
            "socket": str(config.api_socket),
            "listen": list(config.api.listen),
            "auth": config.api.auth.value,
            "certificate": _certificate(config),
        },
        "target": {
            "kind": config.target.kind.value,
            "portals": [str(each) for each in config.portals()],
            "nqn_prefix": config.target.nqn_prefix,
            "allow_any_host": config.target.allow_any_host,
        },
        "pools": [
            {
                "name": pool.name,
                "kind": pool.kind.value,
                "path": str(config.pool_path(pool)),
                "over_commit": pool.over_commit,
            }
            for pool in config.pools
        ],
    }


def _certificate(config: Config) -> str | None:
    if not config.needs_tls:
        return None
    return config.api.tls.certificate or f"{config.certificate_file}, which weft makes"


def _check_directories(config: Config) -> None:
    """Raises InvalidValueError naming the directory that this user cannot write to, or could not make."""
    wanted = {"data_dir": config.data_dir, "runtime_dir": config.runtime_dir}
    wanted |= {
        f"pools.path of {pool.name}": config.pool_path(pool)
        for pool in config.pools
        if pool.kind is PoolKind.FILE
    }
    for field, path in wanted.items():
        nearest = next(each for each in (path, *path.parents) if each.exists())
        if not nearest.is_dir():
            raise InvalidValueError(field, f"{nearest} is not a directory")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise InvalidValueError(field, f"{_whose(path, nearest)} cannot be written to by this user")


def _whose(path: Path, nearest: Path) -> str:
    return str(path) if path == nearest else f"{path} cannot be made: {nearest}"
