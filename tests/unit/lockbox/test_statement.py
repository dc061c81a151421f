"""What a statement may say, and everything else, which is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.lockbox.public_keys import import_jwk, public_jwk
from stockade.lockbox.statement import (
    MAX_APPROVERS,
    Approver,
    BreakGlass,
    Callers,
    PinnedIssuer,
    digest,
    encode,
    read,
)
from tests.factories.lockbox import PERSON, Authenticator, Kind, Signer, a_statement, generated

ALICE, BOB, CAROL = Signer(), Signer("bob", PERSON.format(2)), Authenticator()
PINNED = PinnedIssuer("https://id.example", ("A" * 43,), (PERSON.format(9),), ("api://files",), "sub")


def whole(**changes: Any) -> bytes:
    values: dict[str, Any] = {
        "sequence": 2,
        "previous": "a" * 64,
        "threshold": 2,
        "callers": Callers(issuers=(PINNED,), keys=("b" * 64,), jobs=True),
        "break_glass": BreakGlass((ALICE.approver, BOB.approver)),
        **changes,
    }
    return encode(a_statement(ALICE.approver, BOB.approver, CAROL.approver, **values))


def refused(payload: bytes) -> Fault:
    with pytest.raises(Fault) as caught:
        read(payload)
    assert (caught.value.kind, caught.value.code) == (FaultKind.INVALID, "InvalidStatement")
    return caught.value


def test_what_was_written_is_read_again_and_has_a_name() -> None:
    payload = whole()
    assert encode(read(payload)) == payload
    assert len(digest(payload)) == 64
    assert digest(payload) != digest(payload + b" ")
    assert read(payload + b"\n") == read(payload), "other bytes that say the same are another statement, and as good"


def approver(**changes: Any) -> Approver:
    return msgspec.structs.replace(ALICE.approver, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"account": "/subscriptions/x"},
        {"account": a_statement(account_guid="").account.upper()},
        {"account": a_statement(account_guid="").account + "/deployments/d"},
        {"account_guid": ""},
        {"sequence": 0},
        {"sequence": 1},
        {"previous": ""},
        {"previous": "A" * 64},
        {"threshold": 0},
        {"threshold": 4},
        {"approvers": ()},
        {"approvers": tuple(approver(id=f"a{n}") for n in range(MAX_APPROVERS + 1))},
        {"approvers": (ALICE.approver, approver(principal=PERSON.format(7), jwk=BOB.approver.jwk))},
        {"approvers": (ALICE.approver, approver(id="other", principal=PERSON.format(7)))},
        {"approvers": (ALICE.approver, Signer("other", ALICE.principal).approver)},
        {"approvers": (approver(id="Alice"), BOB.approver)},
        {"approvers": (approver(principal="alice"), BOB.approver)},
        {"approvers": (approver(jwk=None), BOB.approver)},
        {"approvers": (approver(passkey=CAROL.approver.passkey), BOB.approver)},
        {"callers": Callers()},
        {"callers": Callers(keys=("B" * 64,))},
        {"callers": Callers(keys=("b" * 64, "b" * 64))},
        {"callers": Callers(issuers=(PINNED, PINNED))},
        {"callers": Callers(issuers=(PinnedIssuer("https://id.example", ()),))},
        {"callers": Callers(issuers=(PinnedIssuer("https://id.example", ("A" * 42,)),))},
        {"callers": Callers(issuers=(PinnedIssuer("", ("A" * 43,)),))},
        {"callers": Callers(issuers=(PinnedIssuer("https://id.example", ("A" * 43,), ("somebody",)),))},
        {"callers": Callers(issuers=(PinnedIssuer("https://id.example", ("A" * 43,), (), ("https://x/",)),))},
        {"break_glass": BreakGlass((ALICE.approver,))},
        {"break_glass": BreakGlass((ALICE.approver, BOB.approver), 1)},
        {"break_glass": BreakGlass((ALICE.approver, BOB.approver), 3)},
        {"break_glass": BreakGlass((ALICE.approver, BOB.approver), 2, 9)},
        {"issued_at": 0.0},
        {"issued_at": 1e300},
    ],
    ids=range(34),
)
def test_what_no_statement_says(changes: dict[str, Any]) -> None:
    refused(whole(**changes))


def test_a_first_statement_protects() -> None:
    assert read(whole(sequence=1, previous="", threshold=1))
    assert not read(whole(protected=False)).protected
    refused(whole(sequence=1, previous="", protected=False))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda told: told | {"unknown": 1},
        lambda told: told | {"type": "stockade-lockbox-statement/2"},
        lambda told: told | {"sequence": "2"},
        lambda told: told | {"sequence": 2.5},
        lambda told: told | {"protected": 1},
        lambda told: {name: value for name, value in told.items() if name != "callers"},
        lambda told: told | {"callers": {**told["callers"], "everybody": True}},
        lambda told: told | {"approvers": [{**told["approvers"][0], "admin": True}, told["approvers"][1]]},
        lambda told: [told],
    ],
    ids=range(9),
)
def test_what_is_not_of_the_form(spoil: Callable[[dict[str, Any]], Any]) -> None:
    refused(json.dumps(spoil(json.loads(whole()))).encode())


def test_what_two_readers_could_read_differently() -> None:
    text = whole().decode()
    for payload in (
        text.replace('"sequence":2', '"sequence":2,"sequence":3'),
        text.replace('"kty":"EC"', '"kty":"EC","kty":"EC"', 1),
        text.replace('"issued_at":1800000000.0', '"issued_at":NaN'),
        text.replace('"issued_at":1800000000.0', '"issued_at":1e999'),
        "[" * 100_000,
        "",
    ):
        assert payload != text
        refused(payload.encode())
    refused(text.encode("utf-16"))
    refused(b" " * 40_000 + text.encode())


@pytest.mark.parametrize("kind", ["P-256", "P-384", "Ed25519", "RSA"])
def test_a_key_is_public_of_a_known_kind_and_spelled_in_one_way(kind: Kind) -> None:
    key = generated(kind)
    jwk = public_jwk(key.as_dict(private=True) | {"kid": "k", "alg": "x", "key_ops": ["sign"]})
    assert import_jwk(jwk).thumbprint() == key.thumbprint()
    number = "n" if kind == "RSA" else "x"
    for wrong in (
        {**jwk, "d": "AQAB"},
        {**jwk, "kid": "k"},
        {**jwk, "kty": "oct"},
        {**jwk, "crv": "P-521"},
        {**jwk, number: "AAAA" + jwk[number]},
        {**jwk, number: jwk[number] + "="},
        {**jwk, number: 7},
        {**jwk, number: "A" * 5000},
        {name: value for name, value in jwk.items() if name != number},
    ):
        with pytest.raises(ValueError, match=r".+"):
            import_jwk(wrong)


def test_rsa_keys_are_long_enough_and_have_a_usual_exponent() -> None:
    jwk = public_jwk(generated("RSA").as_dict(private=False))
    for wrong in ({**jwk, "n": jwk["n"][:168]}, {**jwk, "e": "Aw"}):
        with pytest.raises(ValueError, match="2048 to 4096"):
            import_jwk(wrong)


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": "http://console.stockade.localhost:8444"},
        {"origin": "https://console.stockade.localhost:8444/"},
        {"origin": "https://evil.example"},
        {"rp_id": "onsole.stockade.localhost"},
        {"credential_id": ""},
        {"credential_id": "A"},
        {"public_key": ""},
        {"public_key": "AAAA"},
        {"public_key": "BAAA"},
    ],
    ids=range(9),
)
def test_a_passkey_has_its_origin_and_a_key_that_can_be_used(changes: dict[str, str]) -> None:
    assert CAROL.approver.passkey is not None
    passkey = msgspec.structs.replace(CAROL.approver.passkey, **changes)
    refused(whole(approvers=(ALICE.approver, msgspec.structs.replace(CAROL.approver, passkey=passkey))))
