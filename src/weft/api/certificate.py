"""The certificate of the API: the configured one, or one that is made at the first start and kept."""

import logging
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from weft.config import Config, parse_listen
from weft.errors import DataError, InvalidValueError, PermissionDeniedError, WeftError
from weft.names import check_host_name
from weft.private import read_private, write_private
from weft.tls import pin_of, server_context

_log = logging.getLogger("weft.api")

_VALID = timedelta(days=3650)
_RENEWED_WITH = _VALID / 2
"""Left: so a control plane that is restarted once in five years never shows an expired certificate."""

_CLOCKS_DIFFER_BY = timedelta(days=1)
_WHAT = "the API's certificate and its key"


def tls_context(config: Config) -> ssl.SSLContext:
    """What the API speaks TLS with.

    Without a configured certificate it is the one in the data directory, which is made for a new key if it is not
    there, and renewed for the same key when half of its time is over or the addresses have changed: the pin, by which
    clients know the server, stays. Raises InvalidValueError or DataError when a certificate or key cannot be used.
    """
    if not config.api.tls.certificate:
        _keep_own_certificate(config.certificate_file, _names(config))
    certificate, key = _files(config)
    _refuse_open_key(key)
    try:
        return server_context(certificate, key)
    except OSError as error:
        raise InvalidValueError(
            "api.tls.certificate", f"{certificate} and the key in {key} cannot be used: {error}"
        ) from error


def served_pin(config: Config) -> str | None:
    """The pin of the certificate that the API shows with this configuration; None if it has none, or none yet."""
    certificate, _ = _files(config)
    if not config.needs_tls or not certificate.exists():
        return None
    try:
        return pin_of(ssl.PEM_cert_to_DER_cert(_first_certificate(certificate.read_text(encoding="ascii"))))
    except (OSError, ValueError) as error:
        raise DataError(f"{certificate} holds no certificate that can be read: {error}") from error


def _files(config: Config) -> tuple[Path, Path]:
    tls = config.api.tls
    if tls.certificate:
        return Path(tls.certificate), Path(tls.key)
    return config.certificate_file, config.certificate_file


def _first_certificate(text: str) -> str:
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    if begin not in text or end not in text:
        raise ValueError("there is no certificate in it")
    return f"{begin}{text.partition(begin)[2].partition(end)[0]}{end}"


def _refuse_open_key(key: Path) -> None:
    try:
        mode = key.stat().st_mode
    except OSError as error:
        raise InvalidValueError("api.tls.key", f"{key} cannot be read: {error.strerror}") from error
    if mode & 0o007:
        raise PermissionDeniedError(
            f"{key}, the key of the API's certificate, can be read by every user; run chmod o= on it"
        )


def _names(config: Config) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for each in config.api.listen:
        address = ip_address(parse_listen("api.listen", each)[0])
        if not (address.is_loopback or address.is_unspecified):
            names.append(x509.IPAddress(address))
    try:
        names.append(x509.DNSName(check_host_name("node_name", config.node_name)))
    except WeftError:
        names.append(x509.DNSName("localhost"))
    return list(dict.fromkeys(names))


def _keep_own_certificate(path: Path, names: Sequence[x509.GeneralName]) -> None:
    content = read_private(path, _WHAT)
    if content is None:
        key = generate_private_key(SECP256R1())
        write_private(path, make_pem(key, names, datetime.now(UTC)), _WHAT, replace=False)
        _log.info("made a certificate for the API, in %s", path)
        return
    try:
        old_key = load_pem_private_key(content, None)
        certificate = x509.load_pem_x509_certificate(content)
        if not isinstance(old_key, EllipticCurvePrivateKey):
            raise TypeError("its key is not one that weft made")
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path} is damaged: {error}; remove it to have another made, with another fingerprint, by which all hosts"
            " must log in again"
        ) from error
    if _is_due(certificate, names):
        write_private(path, make_pem(old_key, names, datetime.now(UTC)), _WHAT)
        _log.info("renewed the API's certificate in %s; its fingerprint stays", path)


def _is_due(certificate: x509.Certificate, names: Sequence[x509.GeneralName]) -> bool:
    now = datetime.now(UTC)
    valid = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - _RENEWED_WITH
    shown = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return not valid or set(shown) != set(names)


def make_pem(key: EllipticCurvePrivateKey, names: Sequence[x509.GeneralName], now: datetime) -> bytes:
    """The key and a certificate for it that is valid from about now on."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weft API")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER_BY)
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)
