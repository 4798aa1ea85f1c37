"""Off loopback: TLS, a certificate that is kept and renewed, and clients who know the server before they say anything."""

import http.client
import logging
import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from api.world import BASE, InBackground, World, free_port, make_config, make_world
from weft.api.certificate import make_pem, served_pin, tls_context
from weft.api.idle import IdleClosingProtocol
from weft.api.server import ApiServer
from weft.client import Client
from weft.config import ApiSection, Config, ConfigFile, TlsSection, check_config
from weft.endpoint import identify, parse_endpoint
from weft.errors import DataError, InvalidValueError, PermissionDeniedError, UnauthenticatedError
from weft.tls import check_pin, pinning_context, server_context

SOON = datetime.now(UTC)


@pytest.fixture(scope="module")
def secured(module_path: Path) -> Iterator[tuple[World, int]]:
    port = free_port()
    with make_world(make_config(module_path / "secured", listen=(f"0.0.0.0:{port}",))) as world:
        yield world, port


def test_a_client_that_knows_the_pin_uses_the_api_by_its_token(secured: tuple[World, int]) -> None:
    world, port = secured
    token, pin = world.config.token_file.read_text(), served_pin(world.config)
    client = Client.for_url(f"https://127.0.0.1:{port}", token, pin=pin)
    assert [each.pool.name for each in client.pools()] == ["default"]
    with pytest.raises(UnauthenticatedError, match="token not found"):
        Client.for_url(f"https://127.0.0.1:{port}", pin=pin).pools()


def test_many_requests_at_once_are_answered_over_tls(secured: tuple[World, int]) -> None:
    world, port = secured
    token, pin = world.config.token_file.read_text(), served_pin(world.config)
    client = Client.for_url(f"https://127.0.0.1:{port}", token, pin=pin)
    calls = [InBackground(client.pools) for _ in range(30)]
    assert all(len(each.result()) == 1 for each in calls)


def test_nothing_is_said_to_another_server_than_the_pinned_one(short_path: Path) -> None:
    with _listening(short_path) as (port, received):
        client = Client.for_url(f"https://127.0.0.1:{port}", "the-token", pin=f"sha256//{'A' * 43}=")
        with pytest.raises(UnauthenticatedError, match=r"another server answers.*nothing was sent"):
            client.pools()
        assert received() == b""


def test_without_a_pin_nothing_is_said_to_a_server_that_nobody_vouches_for(short_path: Path) -> None:
    with _listening(short_path) as (port, received):
        client = Client.for_url(f"https://127.0.0.1:{port}", "the-token")
        with pytest.raises(UnauthenticatedError, match=r"no authority that this system trusts.*weft login"):
            client.pools()
        assert received() == b""


def test_plain_http_is_not_answered_off_loopback(secured: tuple[World, int]) -> None:
    _, port = secured
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", f"{BASE}/pools")
        with pytest.raises((OSError, http.client.HTTPException)):
            connection.getresponse()
    finally:
        connection.close()


def test_tls_older_than_1_2_is_not_spoken(short_path: Path) -> None:
    config = make_config(short_path, listen=("0.0.0.0:1",))
    assert tls_context(config).minimum_version is ssl.TLSVersion.TLSv1_2
    assert pinning_context().minimum_version is ssl.TLSVersion.TLSv1_2


def test_on_loopback_no_certificate_is_made(short_path: Path) -> None:
    config = make_config(short_path, listen=(f"127.0.0.1:{free_port()}",))
    with make_world(config, with_node=False):
        assert not config.certificate_file.exists()
        assert served_pin(config) is None


def test_the_fingerprint_is_told_at_the_start_and_no_key(
    short_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(short_path, listen=(f"0.0.0.0:{free_port()}",))
    with caplog.at_level(logging.INFO), make_world(config, with_node=False):
        assert f"fingerprint of the API's certificate is {served_pin(config)}" in caplog.text
    assert "PRIVATE" not in caplog.text


def test_the_certificate_is_made_once_for_its_owner_only(short_path: Path) -> None:
    config = make_config(short_path, listen=("0.0.0.0:1", "192.0.2.7:1", "127.0.0.1:2"))
    tls_context(config)
    made = config.certificate_file.read_bytes()
    assert stat.S_IMODE(config.certificate_file.stat().st_mode) == 0o600
    tls_context(config)
    assert config.certificate_file.read_bytes() == made
    assert _names(made) == {x509.DNSName("node"), x509.IPAddress(IPv4Address("192.0.2.7"))}
    assert [each.name for each in config.data_dir.iterdir()] == ["tls.pem"]


@pytest.mark.parametrize("age", [timedelta(days=6 * 365), timedelta(days=11 * 365), timedelta(days=-90)])
def test_an_old_certificate_is_renewed_with_its_pin(short_path: Path, age: timedelta) -> None:
    config = make_config(short_path, listen=("192.0.2.7:1",))
    tls_context(config)
    pin = served_pin(config)
    key = load_pem_private_key(config.certificate_file.read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    old = make_pem(key, list(_names(config.certificate_file.read_bytes())), SOON - age)
    config.certificate_file.write_bytes(old)
    tls_context(config)
    renewed = x509.load_pem_x509_certificate(config.certificate_file.read_bytes())
    assert renewed.not_valid_before_utc < datetime.now(UTC)
    assert renewed.not_valid_after_utc > datetime.now(UTC) + timedelta(days=9 * 365)
    assert served_pin(config) == pin


def test_a_new_address_gets_into_the_certificate_with_the_same_pin(short_path: Path) -> None:
    first = make_config(short_path, listen=("192.0.2.7:1",))
    tls_context(first)
    pin = served_pin(first)
    second = make_config(short_path, listen=("192.0.2.8:1",))
    tls_context(second)
    assert x509.IPAddress(IPv4Address("192.0.2.8")) in _names(second.certificate_file.read_bytes())
    assert served_pin(second) == pin


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_damaged_certificate_is_an_error_that_says_what_another_one_means(
    short_path: Path, content: bytes
) -> None:
    config = make_config(short_path, listen=("192.0.2.7:1",))
    tls_context(config)
    config.certificate_file.write_bytes(content)
    with pytest.raises(DataError, match=r"tls\.pem is damaged.*remove it.*log in again"):
        tls_context(config)
    with pytest.raises(DataError, match=r"tls\.pem holds no certificate"):
        served_pin(config)


def test_a_key_that_others_can_read_is_refused(short_path: Path) -> None:
    own = make_config(short_path, listen=("192.0.2.7:1",))
    tls_context(own)
    own.certificate_file.chmod(0o640)
    with pytest.raises(PermissionDeniedError, match="can be read by others"):
        tls_context(own)
    given = _given(short_path, *_signed(short_path))
    Path(given.api.tls.key).chmod(0o644)
    with pytest.raises(PermissionDeniedError, match="can be read by every user"):
        tls_context(given)


def test_a_given_certificate_is_served_and_trusted_by_its_authority(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _given(short_path, *_signed(short_path))
    port = int(config.api.listen[0].rpartition(":")[2])
    with make_world(config, with_node=False):
        url, token = f"https://127.0.0.1:{port}", config.token_file.read_text()
        assert not config.certificate_file.exists()
        assert not identify(parse_endpoint(url), 10).vouched_for
        monkeypatch.setenv("SSL_CERT_FILE", str(short_path / "authority.pem"))
        assert Client.for_url(url, token).pools()
        assert identify(parse_endpoint(url), 10).vouched_for
        assert Client.for_url(url, token, pin=served_pin(config)).pools()


def test_a_given_certificate_that_cannot_be_used_is_refused_by_its_key(short_path: Path) -> None:
    certificate, key = _signed(short_path)
    other = short_path / "other"
    other.mkdir()
    with pytest.raises(InvalidValueError, match=r"api\.tls\.certificate: .* cannot be used"):
        tls_context(_given(short_path, certificate, _signed(other)[1]))
    with pytest.raises(InvalidValueError, match=r"api\.tls\.key: .* cannot be read"):
        tls_context(_given(short_path, certificate, short_path / "nothing"))
    key.write_bytes(b"nonsense")
    with pytest.raises(InvalidValueError, match=r"api\.tls\.certificate"):
        tls_context(_given(short_path, certificate, key))


def test_a_given_key_with_a_passphrase_is_refused_instead_of_asking_for_it(short_path: Path) -> None:
    certificate, key = _signed(short_path)
    plain = load_pem_private_key(key.read_bytes(), None)
    locked = plain.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    key.write_bytes(locked)
    with pytest.raises(InvalidValueError, match="key is protected by a passphrase"):
        tls_context(_given(short_path, certificate, key))


class _Impatient(IdleClosingProtocol):
    idle_seconds = 0.3


class _Crowded(IdleClosingProtocol):
    most_connections = 3


@pytest.mark.parametrize(("protocol", "gone"), [(_Impatient, 9), (_Crowded, 6)])
def test_strangers_who_never_finish_a_handshake_keep_nobody_out(
    short_path: Path, protocol: type[IdleClosingProtocol], gone: int
) -> None:
    config = make_config(short_path, listen=(f"0.0.0.0:{free_port()}",))
    port = int(config.api.listen[0].rpartition(":")[2])
    with make_world(config, with_node=False) as world:
        world.server.stop()
        server = ApiServer(world.service, config, http_protocol=protocol)
        server.start()
        strangers = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(9)]
        client = Client.for_url(
            f"https://127.0.0.1:{port}", config.token_file.read_text(), pin=served_pin(config)
        )
        try:
            assert client.pools()
            for each in strangers[:gone]:
                with suppress(ConnectionResetError):
                    assert each.recv(1) == b""
        finally:
            for each in strangers:
                each.close()
            server.stop()


@pytest.mark.parametrize(
    "text", ["", "sha256//", "sha256//" + "A" * 44, "A" * 43 + "=", "sha1//" + "A" * 43 + "="]
)
def test_what_is_no_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError, match=r"--fingerprint: .* is not a fingerprint"):
        check_pin("--fingerprint", text)


@contextmanager
def _listening(folder: Path) -> Iterator[tuple[int, "_Received"]]:
    """A server over TLS that is not weft's, and what it got to read from its one visitor."""
    path = folder / "stranger.pem"
    path.write_bytes(make_pem(generate_private_key(SECP256R1()), [x509.DNSName("localhost")], SOON))
    received = _Received()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        thread = threading.Thread(target=received.read_all, args=(listener, server_context(path, path)))
        thread.start()
        received.thread = thread
        yield listener.getsockname()[1], received
        thread.join(20)


class _Received:
    """What one visitor said, once it is gone."""

    thread: threading.Thread

    def __init__(self) -> None:
        self._data = bytearray()

    def read_all(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            try:
                with context.wrap_socket(connection, server_side=True) as secured:
                    while data := secured.recv(4096):
                        self._data += data
            except OSError:
                pass

    def __call__(self) -> bytes:
        self.thread.join(20)
        assert not self.thread.is_alive()
        return bytes(self._data)


def _names(pem: bytes) -> set[x509.GeneralName]:
    certificate = x509.load_pem_x509_certificate(pem)
    return set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def _given(folder: Path, certificate: Path, key: Path) -> Config:
    return check_config(
        ConfigFile(
            data_dir=str(folder / "data"),
            runtime_dir=str(folder / "run"),
            node_name="node",
            api=ApiSection(
                listen=(f"0.0.0.0:{free_port()}",),
                tls=TlsSection(certificate=str(certificate), key=str(key)),
            ),
        )
    )


def _signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key; that of its authority is in authority.pem."""
    authority, key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    root = _certificate("authority", "authority", authority, authority, x509.BasicConstraints(True, 0))
    names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    leaf = _certificate("node", "authority", key, authority, names)
    (folder / "authority.pem").write_bytes(root.public_bytes(Encoding.PEM))
    (folder / "node.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    (folder / "node.key").touch(mode=0o600)
    (folder / "node.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "node.pem", folder / "node.key"


def _certificate(
    subject: str,
    issuer: str,
    key: EllipticCurvePrivateKey,
    signer: EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(SOON - timedelta(days=1))
        .not_valid_after(SOON + timedelta(days=30))
        .add_extension(extension, critical=False)
        .sign(signer, SHA256())
    )
