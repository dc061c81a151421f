"""A customer's key in a vault of somebody else's: another server of ours, reached with Azure's client as the settings say.

A rotation there is followed; what is taken away there is refused here within five seconds, and given back nothing is lost.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping

import requests
from azure.keyvault.keys import KeyClient

from tests.live import Live, StartServer, wait_for

PROMISED_S = 5.0
BODY = b'{"custom_id": "a"}\n' * 500
SETTINGS = """
[[keys.providers]]
name = "theirs"
type = "azure-key-vault"
url = "{url}"
credential_env = "TESTS_THEIR_VAULT"
ca_file = "{ca}"
"""


def test_what_is_taken_away_elsewhere_is_refused_here_and_back_with_the_key(
    live: Live, live_server: StartServer, client_environment: Mapping[str, str]
) -> None:
    url = f"https://localhost:{live.ports[1]}"
    login = dict(zip(("clientId", "clientSecret"), live.admin, strict=True))
    login |= {"tenantId": live.tenant, "authority": live.authority}
    here = live_server(
        "--workers",
        "1",
        settings=SETTINGS.format(url=url, ca=live.ca),
        variables={"TESTS_THEIR_VAULT": json.dumps(login)},
    )
    account, key = here.account_id("demo-openai"), here.account("demo-openai")["AZURE_OPENAI_API_KEY"]
    files, headers = f"{here.data}/demo-openai/openai/files", {"api-key": key}
    version, trust = {"api-version": "2024-10-21"}, str(here.bundle)

    def content() -> requests.Response:
        return requests.get(f"{files}/{kept}/content", params=version, headers=headers, verify=trust, timeout=10)

    made = requests.post(
        files,
        params=version,
        headers=headers,
        files={"file": ("x.jsonl", BODY)},
        data={"purpose": "batch"},
        verify=trust,
        timeout=10,
    )
    kept = made.json()["id"]
    name = f"theirs-{uuid.uuid4().hex[:8]}"
    with live.credential() as credential, KeyClient(url, credential, verify_challenge_resource=False) as keys:
        keys.create_rsa_key(name, size=2048)
        named = {"keyVaultUri": url, "keyName": name}
        encryption = {"keySource": "Microsoft.KeyVault", "keyVaultProperties": named}
        bound = here.request("PATCH", account, {"properties": {"encryption": encryption}})
        assert bound.status_code in {200, 202}, bound.text
        wait_for(lambda: content().status_code == 200, "the other vault has been asked")
        assert content().content == BODY

        def wrapped_by() -> list[str]:
            status = here.request("GET", f"{account}/encryptionStatus").json()
            return [key["customerKeyId"] for key in status["dataKeys"]]

        first = wrapped_by()
        rotated = keys.rotate_key(name).id
        wait_for(lambda: wrapped_by() == [rotated], "data keys follow the rotation there")
        assert first != [rotated]
        assert content().content == BODY

        keys.update_key_properties(name, enabled=False)
        gone_at = time.monotonic()
        wait_for(lambda: content().status_code == 403, "the refusal")
        assert time.monotonic() - gone_at < PROMISED_S
        assert content().json()["error"]["code"] == "CustomerManagedKeyUnavailable"

        keys.update_key_properties(name, enabled=True)
        wait_for(lambda: content().status_code == 200, "the key has been seen to serve again")
        assert content().content == BODY
