"""The command line, run in this process."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from weft.cli.main import weft


@dataclass(frozen=True, slots=True)
class Ran:
    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """What --json printed."""
        assert self.exit_code == 0, self.stderr
        return json.loads(self.stdout)

    @property
    def error(self) -> Any:
        """What --json printed of the error."""
        return json.loads(self.stderr)["error"]


@dataclass(frozen=True, slots=True)
class Cli:
    """Runs weft with the configuration of a world."""

    config: Path

    def __call__(self, *arguments: str) -> Ran:
        result = CliRunner().invoke(weft, [*arguments, "--config", str(self.config)])
        return Ran(result.exit_code, result.stdout, result.stderr)

    def ok(self, *arguments: str) -> Ran:
        ran = self(*arguments)
        assert ran.exit_code == 0, ran.stderr
        return ran


def make_cli(folder: Path) -> Cli:
    """For the control plane, if there is one, that serves below folder."""
    config = folder / "weft.toml"
    config.write_text(f'data_dir = "{folder / "data"}"\nruntime_dir = "{folder / "run"}"\n', encoding="utf-8")
    return Cli(config)
