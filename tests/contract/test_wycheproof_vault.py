"""Wycheproof's vectors through a vault's own API: keys imported, values decrypted, all by Azure's client over TLS.

Of its vectors those with a private key can come in by the front door: RSA-OAEP and RSA1_5. The others go through the same code without a server
(tests/shelves/test_wycheproof.py), and what is verified with public keys alone cannot be asked of a vault.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.keyvault.keys import JsonWebKey, KeyClient
from azure.keyvault.keys.crypto import CryptographyClient, EncryptionAlgorithm

from tests.live import Live
from tests.outside import program

pytestmark = pytest.mark.vectors
MEMBERS = ("n", "e", "d", "p", "q", "dp", "dq", "qi")


@pytest.fixture(scope="module")
def owner(live: Live, client_environment: Mapping[str, str]) -> Iterator[KeyClient]:
    url = f"https://localhost:{live.ports[1]}"
    with live.credential() as credential, KeyClient(url, credential, verify_challenge_resource=False) as client:
        yield client


def group(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((program("vectors") / "_rsa" / "wycheproof" / f"{name}_test.json").read_text())[
        "testGroups"
    ][0]
    return found


def octets(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [("rsa_oaep_2048_sha1_mgf1sha1", "RSA-OAEP"), ("rsa_oaep_2048_sha256_mgf1sha256", "RSA-OAEP-256")],
    ids=["SHA-1", "SHA-256"],
)
def test_rsa_oaep(live: Live, owner: KeyClient, name: str, algorithm: str) -> None:
    vectors = group(name)
    members = {member: octets(vectors["privateKeyJwk"][member]) for member in MEMBERS}
    jwk = JsonWebKey(kty="RSA", key_ops=["decrypt", "unwrapKey"], **members)
    key = owner.import_key(f"wycheproof-{uuid.uuid4().hex[:8]}", jwk)
    refusals = set()
    with live.credential() as credential:
        client = CryptographyClient(key, credential, verify_challenge_resource=False)
        for test in vectors["tests"]:
            value = bytes.fromhex(test["ct"])
            if test["result"] == "valid" and not test["label"]:
                opened = client.decrypt(EncryptionAlgorithm(algorithm), value).plaintext
                assert opened == bytes.fromhex(test["msg"]), test
            elif value:
                with pytest.raises(HttpResponseError) as refused:
                    client.decrypt(EncryptionAlgorithm(algorithm), value)
                refusals.add((refused.value.status_code, refused.value.error.code, refused.value.error.message))
        client.close()
    assert len(refusals) == 1, "one answer for every value that cannot be opened"
    assert refusals.pop()[0] == 400
