"""TLS between the API and its clients, and the pins by which clients know a server that no authority vouches for.

A pin names the server's public key, not its certificate: `sha256//` and the base64 of the SHA-256 of the certificate's
SubjectPublicKeyInfo, as RFC 7469, section 2.4, has it and curl's --pinnedpubkey takes it. Whoever finishes a TLS
handshake has the private key, so nothing else of the certificate has to be believed, and a certificate that is
renewed for the same key keeps its pin.
"""

# ruff: noqa: PLC0415 -- cryptography takes 50 ms, which only those pay who meet a certificate

import base64
import hashlib
import hmac
import re
import ssl
from pathlib import Path

from weft.errors import InvalidValueError, UnauthenticatedError

_PIN = re.compile(r"sha256//[A-Za-z0-9+/]{43}=")


def pin_of(certificate: bytes) -> str:
    """The pin of a certificate in DER. Raises UnauthenticatedError when it cannot be read."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except Exception as error:
        raise UnauthenticatedError(f"the server's certificate cannot be read: {error}") from error
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256//{base64.b64encode(hashlib.sha256(info).digest()).decode()}"


def check_pin(field: str, text: str) -> str:
    """The pin, if it is one; else InvalidValueError."""
    if not _PIN.fullmatch(text):
        raise InvalidValueError(field, f"{text!r} is not a fingerprint such as sha256//<44 characters>")
    return text


def same_pin(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer with this certificate. Raises OSError (ssl.SSLError is one) when they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key, _refuse_passphrase)
    return context


def _refuse_passphrase() -> str:
    """Without this OpenSSL would ask whoever sits at the terminal, and wait."""
    raise OSError("the key is protected by a passphrase, which nobody is there to give; take it off the file")


def pinning_context() -> ssl.SSLContext:
    """TLS 1.2 or newer with whoever answers: for a caller who compares the pin before it sends anything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def verifying_context() -> ssl.SSLContext:
    """TLS 1.2 or newer with a server that one of the system's authorities vouches for."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
