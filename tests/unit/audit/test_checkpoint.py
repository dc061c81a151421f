"""Checkpoints and note signatures: the C2SP texts, one reading of each, and keys that vouch for their own log alone."""

from __future__ import annotations

from base64 import b64decode, b64encode
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stockade.audit.checkpoint import Head, HeadKey, read_file, read_keys, read_note, sign_note, verify
from stockade.kernel.faults import Fault, FaultKind
from tests.factories.logs import TENANT, Signer

ORIGIN = f"stockade/{TENANT}/platform"
SIGNER = Signer()
NOTE = SIGNER.sign("platform", 7, b"r" * 32, 1_795_694_400.25, [])


def test_a_head_is_a_note_as_c2sp_has_it() -> None:
    """Read here with nothing of ours: four lines, an empty one, and a signature over the first four."""
    text, _, below = NOTE.decode().partition("\n\n")
    assert text.split("\n") == [ORIGIN, "7", b64encode(b"r" * 32).decode(), "time 2026-11-26T12:00:00.250Z"]
    dash, name, encoded = below.removesuffix("\n").split(" ")
    value = b64decode(encoded)
    assert (dash, name) == ("—", ORIGIN)
    assert value[:4] == sha256(ORIGIN.encode() + b"\n\x01" + SIGNER.key.public).digest()[:4]
    Ed25519PublicKey.from_public_bytes(SIGNER.key.public).verify(value[4:], text.encode() + b"\n")


def test_what_was_signed_is_read_and_verified() -> None:
    signed = read_note(NOTE)
    assert signed.head == Head(ORIGIN, 7, b"r" * 32, 1_795_694_400.25)
    assert signed.head.log == "platform"
    assert verify(signed, [SIGNER.key]) == verify(signed, [HeadKey(SIGNER.key.public, ORIGIN)]) == signed.head


def test_the_published_example_of_a_key_and_a_note() -> None:
    """`PeterNeumann`, from the documentation of Go's note package: the key's text is read as it is printed."""
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    (key,) = read_keys(f"{text}\n")
    assert (key.name, key.text()) == ("PeterNeumann", text)
    signed = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    value = b64decode("x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=")
    assert value[:4] == key.id_for("PeterNeumann")
    Ed25519PublicKey.from_public_bytes(key.public).verify(value[4:], signed)


def test_every_flipped_bit_is_found() -> None:
    for at in range(len(NOTE)):
        for bit in (1, 2, 0x20, 0x80):
            changed = bytearray(NOTE)
            changed[at] ^= bit
            with pytest.raises(Fault) as raised:
                verify(read_note(bytes(changed)), [SIGNER.key])
            assert raised.value.kind is FaultKind.INVALID


TEXT, BELOW = NOTE.split(b"\n\n")


@pytest.mark.parametrize(
    "note",
    [
        b"",
        TEXT + b"\n",
        TEXT + b"\n\n",
        NOTE[:-1],
        NOTE + b"\n",
        NOTE + NOTE,
        b"\n" + NOTE,
        NOTE.replace(b"\n", b"\r\n"),
        NOTE.replace(b"\n7\n", b"\n07\n"),
        NOTE.replace(b"\n7\n", b"\n+7\n"),
        NOTE.replace(b"\n7\n", b"\n-7\n"),
        NOTE.replace(b"\n7\n", "\n٧\n".encode()),
        NOTE.replace(b"\n7\n", b"\n" + b"9" * 20 + b"\n"),
        NOTE.replace(b"time ", b"time  "),
        NOTE.replace(b"Z\n", b"+00:00\n"),
        NOTE.replace(b"-11-26", b"-13-26"),
        NOTE.replace(b"\n\n", b"\nanother line\n\n"),
        NOTE.replace(b"\ntime 2026-11-26T12:00:00.250Z", b""),
        NOTE.replace(ORIGIN.encode(), b"two words"),
        NOTE.replace(ORIGIN.encode(), b"a+b"),
        TEXT + b"\n\n" + b"- x AAAAAAA=\n",
        TEXT + b"\n\n" + "— x AAAA\n".encode(),
        TEXT + b"\n\n" + 17 * BELOW,
        b"\xff" + NOTE,
        NOTE + b"x" * 20_000,
    ],
    ids=range(25),
)
def test_what_is_no_head(note: bytes) -> None:
    with pytest.raises(Fault) as raised:
        read_note(note)
    assert raised.value.kind is FaultKind.INVALID


def test_signatures_of_others_are_passed_over() -> None:
    other = Signer(b"o" * 32)
    _, _, theirs = other.sign("platform", 7, b"r" * 32, 1_795_694_400.25, []).partition(b"\n\n")
    witness = "— witness.example/w ".encode() + b64encode(b"abcd" + b"w" * 64) + b"\n"
    both = read_note(NOTE + theirs + witness)
    assert verify(both, [SIGNER.key]) == verify(both, [other.key]) == read_note(NOTE).head
    with pytest.raises(Fault, match="not signed with the given key"):
        verify(both, [Signer(b"x" * 32).key])


def test_a_wrong_signature_of_a_known_key_spoils_the_whole() -> None:
    wrong = f"— {ORIGIN} ".encode() + b64encode(SIGNER.key.id_for(ORIGIN) + b"w" * 64) + b"\n"
    with pytest.raises(Fault, match="is not its key's"):
        verify(read_note(NOTE + wrong), [SIGNER.key])


def test_a_key_with_a_name_is_good_for_that_log_alone() -> None:
    with pytest.raises(Fault, match="not signed with the given key"):
        verify(read_note(NOTE), [HeadKey(SIGNER.key.public, f"stockade/{TENANT}/other")])


def test_a_signature_under_another_name_is_none() -> None:
    """Somebody has the key's owner sign a log of their own and puts it below this one."""
    moved = Head(ORIGIN, 7, b"r" * 32, 0.0)
    note = sign_note(moved, SIGNER.key, lambda _: b"s" * 64).replace(f"— {ORIGIN}".encode(), "— another".encode())
    with pytest.raises(Fault, match="not signed with the given key"):
        verify(read_note(note), [SIGNER.key])


def test_keys_are_read_as_they_are_printed() -> None:
    named = HeadKey(SIGNER.key.public, ORIGIN)
    assert read_keys(named.text()) == [named]
    assert read_keys(f"{named.text()}\n{SIGNER.key.text('b')}\n") == [named, HeadKey(SIGNER.key.public, "b")]
    assert read_keys(SIGNER.key.pem()) == [SIGNER.key]


OTHER_KIND = generate_private_key(SECP256R1()).public_key()
WITHOUT_NAME = SIGNER.key.text("n").removeprefix("n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing",
        WITHOUT_NAME,
        SIGNER.key.text("n").replace("n+", "m+"),
        SIGNER.key.text("n")[:-4],
        SIGNER.key.text("n") + "=",
        "n+00000000+" + b64encode(b"\x02" + SIGNER.key.public).decode(),
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        OTHER_KIND.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
    ],
    ids=range(9),
)
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(Fault) as raised:
        read_keys(text)
    assert raised.value.kind is FaultKind.INVALID


def test_a_file_of_heads() -> None:
    other = SIGNER.sign("platform", 9, b"q" * 32, 1_795_694_401.0, [])
    whole = NOTE + b"\n" + other + b"\n"
    assert read_file(b"") == ([], b"")
    assert read_file(whole) == ([read_note(NOTE), read_note(other)], b"")
    first = len(NOTE) + 1
    for cut in range(first, len(whole)):
        assert read_file(whole[:cut]) == ([read_note(NOTE)], whole[first:cut])
    with pytest.raises(Fault):
        read_file(b"x\n" + whole)
    assert Ed25519PrivateKey.from_private_bytes(b"s" * 32).public_key().public_bytes_raw() == SIGNER.key.public
