"""What one run of the command line works with: its options, and the parts of weft it uses, opened when first needed."""

# ruff: noqa: PLC0415 -- what a command does not use is not imported: help and completion must be quick

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weft.cli.output import Output
    from weft.client import Client
    from weft.config import Config
    from weft.login import Login
    from weft.ports import Connector


@dataclass
class Session:
    """config_path: None for the default places. json, quiet, debug: as the options say."""

    config_path: Path | None = None
    json: bool = False
    quiet: bool = False
    debug: bool = False

    @cached_property
    def config(self) -> "Config":
        from weft.config import load_config

        return load_config(self.config_path)

    @cached_property
    def client(self) -> "Client":
        from weft.client import Client

        return Client.for_config(self.config)

    @cached_property
    def login(self) -> "Login | None":
        """Of this machine; None when it uses its own node."""
        from weft.login import load_login

        return load_login(self.config.login_file)

    @property
    def fingerprint(self) -> str | None:
        """Of the API's key, by which other machines know it; None where it does not speak TLS."""
        if self.login is not None:
            return self.login.pin
        if not self.config.needs_tls:
            return None
        from weft.api.certificate import served_pin

        return served_pin(self.config)

    @cached_property
    def connector(self) -> "Connector":
        from weft.connectors import open_connector
        from weft.model import Protocol

        return open_connector(Protocol.NVMEOF, self.config)

    @cached_property
    def output(self) -> "Output":
        from weft.cli.output import Output

        return Output(json=self.json, quiet=self.quiet)
