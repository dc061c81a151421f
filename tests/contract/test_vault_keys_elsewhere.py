"""A vault whose keys are in other places: RSA-HSM on a PKCS#11 token, EC in a transit engine. Azure's client notices nothing of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from azure.core.exceptions import HttpResponseError
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm, SignatureAlgorithm

from tests.factories import softhsm
from tests.factories.transit import TOKEN, Engine, transit
from tests.live import Live, StartServer

pytestmark = pytest.mark.softhsm
DIGEST = hashlib.sha256(b"message").digest()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with transit(tmp_path / "transit") as engine:
        yield engine


@pytest.fixture
def server(live_server: StartServer, engine: Engine) -> Live:
    place = softhsm.softhsm_place()
    settings = f"""
[vault]
provider = "bao"
hsm_provider = "hsm"

[[keys.providers]]
name = "hsm"
type = "pkcs11"
url = "{place.url}"
place = "{place.place}"
credential_env = "{place.credential_env}"

[[keys.providers]]
name = "bao"
type = "transit"
url = "{engine.url}"
credential_env = "TESTS_TRANSIT_TOKEN"
ca_file = "{engine.ca_file}"
"""
    return live_server("--workers", "1", settings=settings, variables={"TESTS_TRANSIT_TOKEN": TOKEN})


def private_keys_on_the_token() -> list[dict[pkcs11.Attribute, Any]]:
    place = softhsm.softhsm_place()
    wanted = [pkcs11.Attribute.ID, pkcs11.Attribute.SENSITIVE, pkcs11.Attribute.EXTRACTABLE]
    token = pkcs11.lib(place.url).get_token(token_label=place.place)
    with token.open(user_pin=softhsm.PIN) as session:
        return [
            {name: found[name] for name in wanted}
            for found in session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY})
        ]


def test_keys_are_where_the_settings_say(server: Live, engine: Engine) -> None:
    vault = f"{server.group_id}/providers/Microsoft.KeyVault/vaults/demo-vault"
    premium = {"properties": {"sku": {"family": "A", "name": "premium"}}}
    changed = server.request("PATCH", vault, premium, version="2024-11-01")
    assert changed.status_code in {200, 201}, changed.text
    before = {found[pkcs11.Attribute.ID] for found in private_keys_on_the_token()}
    url = f"https://localhost:{server.ports[1]}"
    trust = {"connection_verify": str(server.bundle), "verify_challenge_resource": False}
    with server.credential() as credential, KeyClient(url, credential, **trust) as client:
        hsm = client.create_rsa_key("on-the-token", size=2048, hardware_protected=True)
        point = client.create_ec_key("in-the-engine", curve="P-256")
        assert hsm.key_type == "RSA-HSM"
        (made,) = [found for found in private_keys_on_the_token() if found[pkcs11.Attribute.ID] not in before]
        assert made[pkcs11.Attribute.SENSITIVE]
        assert not made[pkcs11.Attribute.EXTRACTABLE]
        assert [key.kind for key in engine.keys.values()] == ["ecdsa-p256"]
        use_both(credential, trust, hsm, point)
        engine.fails_with = 503
        with pytest.raises(HttpResponseError) as refused, CryptographyClient(point, credential, **trust) as crypto:
            crypto.sign(SignatureAlgorithm.es256, DIGEST)
        assert refused.value.status_code == 503
        engine.fails_with = 0
        use_both(credential, trust, hsm, point)


def use_both(credential: Any, trust: dict[str, Any], hsm: Any, point: Any) -> None:
    """Sign and unwrap; what the client does by itself, with the public key alone, is the second opinion."""
    with CryptographyClient(hsm, credential, **trust) as crypto:
        signed = crypto.sign(SignatureAlgorithm.rs256, DIGEST)
        assert crypto.verify(SignatureAlgorithm.rs256, DIGEST, signed.signature).is_valid
        wrapped = crypto.wrap_key(KeyWrapAlgorithm.rsa_oaep, b"k" * 32)
        assert crypto.unwrap_key(KeyWrapAlgorithm.rsa_oaep, wrapped.encrypted_key).key == b"k" * 32
    with CryptographyClient(point, credential, **trust) as crypto:
        signed = crypto.sign(SignatureAlgorithm.es256, DIGEST)
        assert crypto.verify(SignatureAlgorithm.es256, DIGEST, signed.signature).is_valid
