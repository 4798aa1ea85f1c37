"""The keys that DhChapSecrets hold."""

from weft.errors import InvalidValueError
from weft.model import DhChapSecrets
from weft.nvme.dhchap_key import DhChapKey, InvalidKeyError, parse_dhchap_key
from weft.nvme.dhchap_proof import DhChapKeys


def keys_of(secrets: DhChapSecrets, whose: str = "") -> DhChapKeys:
    """The keys, read and checked. whose: the host, for the error's text.

    Raises InvalidValueError naming the key that is none, without showing it.
    """
    of_host = f" of {whose}" if whose else ""
    controller_key = secrets.controller_key
    return DhChapKeys(
        _key(f"DH-HMAC-CHAP key{of_host}", secrets.host_key),
        None if controller_key is None else _key(f"DH-HMAC-CHAP controller key{of_host}", controller_key),
    )


def _key(field: str, text: str) -> DhChapKey:
    try:
        return parse_dhchap_key(text)
    except InvalidKeyError as error:
        raise InvalidValueError(field, str(error)) from None
