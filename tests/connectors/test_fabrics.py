"""What is written to /dev/nvme-fabrics."""

import pytest

from weft.config import HostSection
from weft.connection import LOOP_PORTAL, NvmeofPortal
from weft.connectors.fabrics import ConnectRequest
from weft.errors import InvalidValueError
from weft.model import DhChapSecrets, HostIdentity, Transport
from weft.nvme.dhchap_key import generate_dhchap_key

IDENTITY = HostIdentity(nqn="nqn.2014-08.org.example:host", id="820f0ab8-7889-490b-9aae-70bc5ac7b2ee")
PORTAL = NvmeofPortal(transport=Transport.TCP, address="2001:db8::1", port=4420)
HOST = HostSection(io_queues=4, reconnect_delay=0.5, controller_loss_timeout=-1, keep_alive=5)
NQN = "nqn.2014-08.org.example:volume"


def test_the_options_are_the_kernels() -> None:
    request = ConnectRequest(portal=PORTAL, nqn=NQN, identity=IDENTITY, host=HOST)
    assert request.options() == (
        f"nqn={NQN},transport=tcp,hostnqn={IDENTITY.nqn},hostid={IDENTITY.id},keep_alive_tmo=5,"
        "traddr=2001:db8::1,trsvcid=4420,ctrl_loss_tmo=-1,reconnect_delay=1,nr_io_queues=4"
    )


def test_the_loop_transport_takes_no_address_and_no_times_of_reconnecting() -> None:
    request = ConnectRequest(portal=LOOP_PORTAL, nqn=NQN, identity=IDENTITY, host=HostSection())
    assert request.options() == (
        f"nqn={NQN},transport=loop,hostnqn={IDENTITY.nqn},hostid={IDENTITY.id},keep_alive_tmo=5"
    )


def test_keys_go_with_the_options_and_into_no_repr() -> None:
    keys = DhChapSecrets(host_key=generate_dhchap_key(), controller_key=generate_dhchap_key())
    request = ConnectRequest(portal=PORTAL, nqn=NQN, identity=IDENTITY, host=HOST, secrets=keys, second=True)
    ending = f"dhchap_secret={keys.host_key},dhchap_ctrl_secret={keys.controller_key},duplicate_connect"
    assert request.options().endswith(ending)
    assert "DHHC" not in repr(request)


@pytest.mark.parametrize("key", ["DHHC-1:00:abc:", f"{generate_dhchap_key()},nqn=nqn.2014-08.org.example:x"])
def test_a_key_that_is_none_is_refused_and_not_shown(key: str) -> None:
    request = ConnectRequest(
        portal=PORTAL, nqn=NQN, identity=IDENTITY, host=HOST, secrets=DhChapSecrets(host_key=key)
    )
    with pytest.raises(InvalidValueError, match="dhchapSecret") as refused:
        request.options()
    assert key not in str(refused.value)
