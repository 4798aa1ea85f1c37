"""Completion on TAB for the shells that people use."""

import click
from click.shell_completion import ShellComplete, get_completion_class

from weft.cli.commands import Command

_HOW = {
    "bash": 'eval "$(weft completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(weft completion zsh)" in ~/.zshrc',
    "fish": "weft completion fish > ~/.config/fish/completions/weft.fish",
}


@click.command(cls=Command, examples=('eval "$(weft completion bash)"',))
@click.argument("shell", type=click.Choice(list(_HOW)), metavar="SHELL")
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the set-up of completion for SHELL: bash, zsh or fish.

    Commands, options and the names of volumes, snapshots, hosts, pools and profiles are completed. To have it
    always: `eval "$(weft completion bash)"` in ~/.bashrc, the same with zsh in ~/.zshrc, and for fish
    `weft completion fish > ~/.config/fish/completions/weft.fish`.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    # The base class's source(): that of bash starts a bash to ask for its version.
    click.echo(ShellComplete.source(kind(ctx.find_root().command, {}, "weft", "_WEFT_COMPLETE")))
