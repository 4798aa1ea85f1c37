"""What a host writes it reads again, and the file below holds the same bytes."""

import os

from workshop import HOST_A, MIB, Workshop

from nvme_tcp_host import RawHost
from weft.nvme.nvm import (
    Read,
    Write,
)


def blocks(data: bytes) -> int:
    return len(data) // 512


def write(host: RawHost, slba: int, data: bytes, *, fua: bool = False) -> None:
    done = host.io[0].call(Write(nsid=1, slba=slba, blocks=blocks(data), fua=fua), data=data)
    assert done.status.ok, done.status.text


def read(host: RawHost, slba: int, count: int) -> bytes:
    return host.io[0].read(Read(nsid=1, slba=slba, blocks=count), count * 512)


def test_a_small_write_travels_in_its_capsule_and_is_read_again(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    host = workshop.attach(export)
    data = os.urandom(4096)
    write(host, 8, data)
    assert host.io[0].r2ts == 0
    assert read(host, 8, 8) == data
    assert export.path.read_bytes()[4096:8192] == data


def test_a_large_write_is_fetched_by_r2t_and_is_read_again(workshop: Workshop) -> None:
    export = workshop.export(HOST_A)
    host = workshop.attach(export)
    data = os.urandom(MIB)
    write(host, 0, data)
    assert host.io[0].r2ts == 1
    assert read(host, 0, 2048) == data
    assert export.path.read_bytes()[:MIB] == data
