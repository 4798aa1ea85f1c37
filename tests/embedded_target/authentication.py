"""Hosts with keys at a workshop: what they prove, and what the target thinks of them."""

from dataclasses import replace

from embedded_target.workshop import HOST_A, Workshop, nqn_of
from nvme_tcp_host import RawConnection
from weft.model import DhChapSecrets, Export, RefusalReason
from weft.nvme.auth import HostAuthentication
from weft.nvme.dhchap_key import DhChapHash, generate_dhchap_key, parse_dhchap_key
from weft.nvme.dhchap_proof import DhChapKeys
from weft.nvme.fabrics import AUTHREQ_ATR, PropertySet
from weft.nvme.properties import ControllerConfiguration, Property

ENABLE = PropertySet(offset=Property.CC, value=ControllerConfiguration(enable=True).encode())


def new_secrets(*, both_ways: bool = False) -> DhChapSecrets:
    return DhChapSecrets(
        host_key=generate_dhchap_key(),
        controller_key=generate_dhchap_key(DhChapHash.SHA_512) if both_ways else None,
    )


def keys(secrets: DhChapSecrets) -> DhChapKeys:
    controller = secrets.controller_key
    return DhChapKeys(
        parse_dhchap_key(secrets.host_key), parse_dhchap_key(controller) if controller else None
    )


def proof(export: Export, secrets: DhChapSecrets, host: str = HOST_A) -> HostAuthentication:
    return HostAuthentication(
        host_nqn=host, subsystem_nqn=nqn_of(export), keys=keys(secrets), transaction_id=1
    )


def connected(workshop: Workshop, export: Export, host: str = HOST_A) -> RawConnection:
    """An admin queue that was asked to authenticate."""
    connection = workshop.connection().open()
    completion = connection.connect(nqn_of(export), host)
    assert completion.status.ok
    assert completion.result & AUTHREQ_ATR
    return connection


def io_queue(workshop: Workshop, export: Export, secrets: DhChapSecrets) -> RawConnection:
    """Of HOST_A, behind an admin queue that has authenticated; it has yet to."""
    admin = workshop.connection().open()
    cntlid = admin.connect(nqn_of(export), HOST_A).result & 0xFFFF
    admin.authenticate(proof(export, secrets))
    assert admin.call(ENABLE).status.ok
    queue = workshop.connection().open()
    completion = queue.connect(nqn_of(export), HOST_A, qid=1, cntlid=cntlid)
    assert completion.result == cntlid | AUTHREQ_ATR
    return queue


def refusals(workshop: Workshop, export: Export) -> list[tuple[str, RefusalReason]]:
    return [(each.initiator, each.reason) for each in workshop.target.refusals(export.volume_id)]


def rotate(workshop: Workshop, export: Export, secrets: DhChapSecrets | None) -> None:
    """HOST_A gets other keys, and everybody else keeps his."""
    hosts = tuple(
        replace(each, secrets=secrets) if each.initiator == HOST_A else each for each in export.hosts
    )
    workshop.target.create_export(replace(export, hosts=hosts))
