"""This host in the API's eyes: found by its initiator's name, registered when it is not known yet."""

import os
import re

from weft.client import Client
from weft.errors import ConflictError
from weft.model import Host, Initiator
from weft.requests import HostRequest

_LONGEST_NAME = 64


def find_this_host(client: Client, initiator: Initiator) -> Host | None:
    return next((host for host in client.hosts() if initiator in host.initiators), None)


def register_this_host(
    client: Client,
    initiator: Initiator,
    *,
    name: str = "",
    ip: str = "",
    zones: tuple[str, ...] = ("default",),
) -> Host:
    """Register this host, under its own name when none is given; returns what is there when it is known.

    Where another host has that name (two users on one machine are two hosts), the end of the initiator's name is
    put behind it. Raises ConflictError when a name was given and is taken.
    """
    known = find_this_host(client, initiator)
    if known is not None:
        return known
    request = HostRequest(
        name=name or host_name(os.uname().nodename), ip=ip, availability_zones=zones, initiators=(initiator,)
    )
    try:
        return client.create_host(request)
    except ConflictError:
        if name or not client.hosts(name=request.name):
            raise
    ending = re.sub(r"[^a-z0-9]", "", initiator.port_name.lower())[-8:]
    return client.create_host(
        HostRequest(
            name=f"{request.name[: _LONGEST_NAME - 9]}-{ending}",
            ip=ip,
            availability_zones=zones,
            initiators=(initiator,),
        )
    )


def host_name(nodename: str) -> str:
    """The machine's name as RFC 1123 allows it; `host` when nothing of it does."""
    labels = (re.sub(r"[^a-zA-Z0-9-]", "-", label).strip("-") for label in nodename.split("."))
    return ".".join(label for label in labels if label)[:_LONGEST_NAME].rstrip("-.") or "host"
