"""Keys of hosts on the wire: written, never answered here."""

import msgspec

from weft.errors import InvalidValueError
from weft.model import DhChapSecrets
from weft.nvme.dhchap_key import InvalidKeyError, generate_dhchap_key, parse_dhchap_key
from weft.views import HeldKeys
from weft.wire.base import Body


class HostSecretsBody(Body, kw_only=True):
    """Either keys, in the form `DHHC-1:...:`, or generate. force: also while volumes are attached."""

    dhchap_secret: str = ""
    dhchap_ctrl_secret: str = ""
    generate: bool = False
    both_ways: bool = False
    force: bool = False

    @classmethod
    def of(cls, secrets: DhChapSecrets, *, force: bool) -> "HostSecretsBody":
        return cls(
            dhchap_secret=secrets.host_key, dhchap_ctrl_secret=secrets.controller_key or "", force=force
        )

    def __repr__(self) -> str:
        return "HostSecretsBody(...)"

    def secrets(self) -> DhChapSecrets:
        """The keys, checked or made. Raises InvalidValueError, without what was written as a key."""
        if self.generate:
            if self.dhchap_secret or self.dhchap_ctrl_secret:
                raise InvalidValueError("generate", "either generate is true or keys are given, not both")
            return DhChapSecrets(
                host_key=generate_dhchap_key(),
                controller_key=generate_dhchap_key() if self.both_ways else None,
            )
        if not self.dhchap_secret:
            raise InvalidValueError("dhchapSecret", "must not be empty; or have a key made by generate")
        secrets = DhChapSecrets(
            host_key=_checked("dhchapSecret", self.dhchap_secret),
            controller_key=_checked("dhchapCtrlSecret", self.dhchap_ctrl_secret)
            if self.dhchap_ctrl_secret
            else None,
        )
        if secrets.host_key == secrets.controller_key:
            raise InvalidValueError(
                "dhchapCtrlSecret", "is the host's own key: who knows one side's must not know the other's"
            )
        return secrets


class HeldSecrets(msgspec.Struct, kw_only=True, rename="camel"):
    dhchap_secret: bool
    dhchap_ctrl_secret: bool

    @classmethod
    def of(cls, secrets: DhChapSecrets | None) -> "HeldSecrets":
        return cls(
            dhchap_secret=secrets is not None,
            dhchap_ctrl_secret=secrets is not None and secrets.controller_key is not None,
        )

    def keys(self) -> HeldKeys:
        return HeldKeys(host_key=self.dhchap_secret, controller_key=self.dhchap_ctrl_secret)


def _checked(field: str, text: str) -> str:
    try:
        parse_dhchap_key(text)
    except InvalidKeyError as error:
        raise InvalidValueError(field, str(error)) from None
    return text
