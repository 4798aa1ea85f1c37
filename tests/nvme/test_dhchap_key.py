"""Keys for DH-HMAC-CHAP: what is one, what is not, and that neither is ever shown."""

import base64
import hmac
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.nvme.dhchap_key import (
    DhChapHash,
    DhChapKey,
    InvalidKeyError,
    generate_dhchap_key,
    parse_dhchap_key,
)

NQN = "nqn.2014-08.org.nvmexpress:uuid:0f01fb42-9f7f-4856-b0b3-51e60b8de349"
HASHES = (None, *DhChapHash)


def text_of(raw: bytes, number: str = "00", crc: int | None = None) -> str:
    check = zlib.crc32(raw) if crc is None else crc
    return f"DHHC-1:{number}:{base64.b64encode(raw + check.to_bytes(4, 'little')).decode()}:"


@pytest.mark.parametrize("used_hash", DhChapHash)
def test_a_generated_key_is_random_and_as_long_as_its_hash(used_hash: DhChapHash) -> None:
    texts = {generate_dhchap_key(used_hash) for _ in range(8)}
    keys = {parse_dhchap_key(text) for text in texts}
    assert len(keys) == 8
    assert {(len(key.secret), key.hash) for key in keys} == {(used_hash.size, used_hash)}
    assert all(text.startswith(f"DHHC-1:0{used_hash.value}:") and text.endswith(":") for text in texts)


@given(secret=st.sampled_from((32, 48, 64)).flatmap(lambda size: st.binary(min_size=size, max_size=size)))
def test_a_key_without_a_hash_may_have_any_of_the_three_lengths(secret: bytes) -> None:
    key = parse_dhchap_key(text_of(secret))
    assert key == DhChapKey(secret, None)
    assert key.encode() == text_of(secret)
    assert key.transformed(NQN) == secret


@pytest.mark.parametrize(("number", "name"), [("01", "sha256"), ("02", "sha384"), ("03", "sha512")])
def test_a_key_with_a_hash_belongs_to_one_nqn(number: str, name: str) -> None:
    secret = bytes(range(hmac.new(b"", b"", name).digest_size))
    key = parse_dhchap_key(text_of(secret, number))
    assert key.transformed(NQN) == hmac.new(secret, f"{NQN}NVMe-over-Fabrics".encode(), name).digest()
    assert key.transformed(NQN) != key.transformed(f"{NQN}0")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "looks like"),
        ("secret", "looks like"),
        ("DHHC-1:00:abc:", "base64"),
        (text_of(bytes(32))[:-1], "looks like"),
        (text_of(bytes(32)) + " ", "looks like"),
        (text_of(bytes(32)) + "\n", "looks like"),
        (text_of(bytes(32)).replace("DHHC-1", "DHHC-2"), "looks like"),
        (text_of(bytes(32)).replace("DHHC-1", "dhhc-1"), "looks like"),
        (text_of(bytes(32), "4"), "looks like"),
        (text_of(bytes(32), "04"), "names hash 04"),
        (text_of(bytes(31)), "31 bytes, and a key with hash 00 has 32 or 48 or 64"),
        (text_of(bytes(0)), "base64"),
        (text_of(bytes(48), "01"), "48 bytes, and a key with hash 01 has 32"),
        (text_of(bytes(32), "03"), "32 bytes, and a key with hash 03 has 64"),
        (text_of(bytes(32), crc=1), "check sum"),
        (text_of(bytes(range(32))).replace("AAEC", "AAED"), "check sum"),
        ("DHHC-1:00:" + "A" * 47 + "B:", "check sum"),
        ("DHHC-1:00:" + "A" * 46 + "B=:", "base64"),  # bits that mean nothing are set
        ("DHHC-1:00:" + "A" * 47 + "é:", "looks like"),
    ],
)
def test_what_is_not_a_key_is_refused_without_being_shown(text: str, why: str) -> None:
    with pytest.raises(InvalidKeyError) as refused:
        parse_dhchap_key(text)
    assert why in str(refused.value)
    assert len(text) < 14 or text[10:-1] not in str(refused.value)


@given(st.text())
def test_no_text_is_anything_but_a_key_or_refused(text: str) -> None:
    with pytest.raises(InvalidKeyError):
        parse_dhchap_key(f"DHHC-1:{text}")


def test_a_key_is_in_no_repr() -> None:
    text = generate_dhchap_key()
    key = parse_dhchap_key(text)
    assert repr(key) == f"DhChapKey(hash={DhChapHash.SHA_256!r})"
