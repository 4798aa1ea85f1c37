"""Workshops, closed again after the test, and a target's process, stopped again."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from embedded_target.processes import configure
from embedded_target.workshop import MakeWorkshop, Workshop, free_portal
from weft.config import Config
from weft.connection import NvmeofPortal
from weft.embedded.target.settings import Limits
from weft.nvme.dhchap_proof import ANY, DhChapPolicy
from weft.targets import EmbeddedTarget


@pytest.fixture
def make_workshop(short_path: Path) -> Iterator[MakeWorkshop]:
    made: list[Workshop] = []

    def make(
        *,
        portals: Sequence[NvmeofPortal] | None = None,
        limits: Limits | None = None,
        max_connections: int = 64,
        allow_any_host: bool = False,
        policy: DhChapPolicy = ANY,
    ) -> Workshop:
        workshop = Workshop(
            folder=short_path,
            portals=portals or (free_portal(),),
            limits=limits or Limits(),
            max_connections=max_connections,
            allow_any_host=allow_any_host,
            policy=policy,
        )
        made.append(workshop)
        return workshop

    yield make
    for workshop in made:
        workshop.close()


@pytest.fixture
def workshop(make_workshop: MakeWorkshop) -> Workshop:
    return make_workshop()


@pytest.fixture
def config(short_path: Path) -> Config:
    return configure(short_path, (free_portal(), free_portal("::1")))


@pytest.fixture
def target(config: Config) -> Iterator[EmbeddedTarget]:
    target = EmbeddedTarget(config)
    target.ensure_running().close()
    yield target
    target.stop_target()
