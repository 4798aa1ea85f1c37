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
    own_name = name or host_name(os.uname().nodename)
    ending = re.sub(r"[^a-z0-9]", "", initiator.port_name.lower())[-8:]
    names = [own_name] if name else [own_name, f"{own_name[: _LONGEST_NAME - 9]}-{ending}"]
    refusal = ConflictError(f"the host name {own_name} is taken")
    for candidate in names:
        known = find_this_host(client, initiator)
        if known is not None:
            return known
        try:
            return client.create_host(
                HostRequest(name=candidate, ip=ip, availability_zones=zones, initiators=(initiator,))
            )
        except ConflictError as error:
            refusal = error
    known = find_this_host(client, initiator)  # another command of this host may have been faster
    if known is not None:
        return known
    raise refusal


def host_name(nodename: str) -> str:
    """The machine's name as RFC 1123 allows it; `host` when nothing of it does."""
    labels = (re.sub(r"[^a-zA-Z0-9-]", "-", label).strip("-") for label in nodename.split("."))
    return ".".join(label for label in labels if label)[:_LONGEST_NAME].rstrip("-.") or "host"
