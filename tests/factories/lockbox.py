"""Approvers' keys of every kind, a passkey in software, and statements and approvals to be signed by them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc.jwk import ECKey, OKPKey, RSAKey
from webauthn.helpers import encode_cbor

from stockade.lockbox import approval, signature, statement
from stockade.lockbox.approval import Approval, Operator
from stockade.lockbox.public_keys import PublicKey, public_jwk
from stockade.lockbox.signature import Signature, Signed
from stockade.lockbox.statement import Approver, Callers, Passkey, Statement
from stockade.lockbox.strict import base64url, from_base64url

ACCOUNT = "/subscriptions/5c0c4a1e-9d0b-4b5e-8c1f-000000000001/resourcegroups/g/providers/microsoft.cognitiveservices/accounts/a1"
PERSON = "00000000-0000-4000-8000-0000000000{:02x}"
ORIGIN = "https://console.stockade.localhost:8444"
UP, UV = 1, 4

Kind = Literal["P-256", "P-384", "Ed25519", "RSA"]


def generated(kind: Kind = "P-256") -> PublicKey:
    if kind == "RSA":
        return RSAKey.generate_key(2048)
    return OKPKey.generate_key("Ed25519") if kind == "Ed25519" else ECKey.generate_key(kind)


@dataclass
class Signer:
    """An approver with a key in memory."""

    id: str = "alice"
    principal: str = PERSON.format(1)
    key: PublicKey = field(default_factory=generated)

    @property
    def approver(self) -> Approver:
        return Approver(self.id, self.principal, jwk=public_jwk(self.key.as_dict(private=False)))

    def sign(self, payload: bytes) -> Signature:
        return signature.sign(payload, self.id, self.key)


@dataclass
class Authenticator:
    """An approver with a passkey. flags, origin, rp_id, type: what it says, rightly or not."""

    id: str = "carol"
    principal: str = PERSON.format(3)
    origin: str = ORIGIN
    rp_id: str = "console.stockade.localhost"
    flags: int = UP | UV
    kind: str = "webauthn.get"
    counter: int = 0
    more: dict[str, Any] = field(default_factory=dict)
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    credential: bytes = b"credential-of-carol"

    @property
    def approver(self) -> Approver:
        numbers = self.key.public_key().public_numbers()
        cose = encode_cbor({1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")})
        passkey = Passkey(base64url(self.credential), base64url(cose), "console.stockade.localhost", ORIGIN)
        return Approver(self.id, self.principal, passkey=passkey)

    def registration(self, challenge: str, kind: str = "webauthn.create") -> str:
        """Return what a browser's script sends for a new passkey. challenge: in base64url."""
        passkey = self.approver.passkey
        assert passkey is not None
        name = len(self.credential).to_bytes(2, "big") + self.credential
        data = hashlib.sha256(self.rp_id.encode()).digest() + bytes([self.flags | 0x40]) + bytes(4) + bytes(16) + name
        made = encode_cbor({"fmt": "none", "attStmt": {}, "authData": data + from_base64url(passkey.public_key)})
        client = json.dumps({"type": kind, "challenge": challenge, "origin": self.origin}).encode()
        response = {"attestationObject": base64url(made), "clientDataJSON": base64url(client)}
        name_ = base64url(self.credential)
        return json.dumps({"id": name_, "rawId": name_, "type": "public-key", "response": response})

    def sign(self, payload: bytes) -> Signature:
        data = hashlib.sha256(self.rp_id.encode()).digest() + bytes([self.flags]) + self.counter.to_bytes(4, "big")
        asked = base64url(signature.challenge(payload))
        client = json.dumps({"type": self.kind, "challenge": asked, "origin": self.origin, **self.more}).encode()
        value = self.key.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(SHA256()))
        answer = {
            "authenticatorData": base64url(data),
            "clientDataJSON": base64url(client),
            "signature": base64url(value),
        }
        return signature.signed_by_passkey(self.id, {"id": base64url(self.credential), "response": answer})


def a_statement(*approvers: Approver, **changes: Any) -> Statement:
    values: dict[str, Any] = {
        "account": ACCOUNT,
        "account_guid": "0" * 32,
        "sequence": 1,
        "approvers": approvers,
        "callers": Callers(platform=True),
        "issued_at": 1_800_000_000.0,
        **changes,
    }
    return Statement(**values)


def an_approval(**changes: Any) -> Approval:
    values: dict[str, Any] = {
        "request": PERSON.format(0xAA),
        "account": ACCOUNT,
        "statement": "0" * 64,
        "scope": ("files/file-1",),
        "operator": Operator(PERSON.format(0x0B), "tenant"),
        "purpose": "Support case 7",
        "case": "https://support.example/7",
        "duration_s": 3600.0,
        "not_before": 1_800_000_000.0,
        "not_after": 1_800_003_600.0,
        "nonce": "n",
        **changes,
    }
    return Approval(**values)


def signed(content: Statement | Approval, *signers: Signer | Authenticator) -> Signed:
    payload = statement.encode(content) if isinstance(content, Statement) else approval.encode(content)
    return Signed(payload, tuple(signer.sign(payload) for signer in signers))
