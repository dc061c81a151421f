"""The audit log as its readers meet it: azure-mgmt-monitor's activity log, records and proofs, receipts with `openai`, by people with a role each."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
import requests
from azure.core.exceptions import HttpResponseError
from azure.mgmt.monitor import MonitorManagementClient
from openai import APIStatusError, AzureOpenAI

from stockade.audit.checkpoint import HeadKey, read_note, verify
from tests.factories import merkle
from tests.factories.azure import API_VERSION, Account, Azure
from tests.live import Live, wait_for

pytestmark = pytest.mark.usefixtures("client_environment")

READER = "Reader"
ARM_SCOPE = "https://management.azure.com/.default"
ASKED = {"x-stockade-receipt": "1"}
HELLO = [{"role": "user", "content": "Say hello."}]
HERE = "/providers/Stockade.Audit"


@pytest.fixture(scope="module")
def account(azure: Azure) -> Account:
    return azure.new_account(capacities={"chat": 1000})


@pytest.fixture(scope="module")
def client(account: Account) -> Iterator[AzureOpenAI]:
    with AzureOpenAI(
        azure_endpoint=account.endpoint, api_key=account.key1, api_version=API_VERSION, max_retries=0
    ) as made:
        yield made


@pytest.fixture(scope="module")
def reader(azure: Azure, live: Live) -> Mapping[str, Any]:
    """Somebody who may read the subscription, on a machine that knows no more than its addresses."""
    made = live.identity("audit-reader")
    azure.assign(READER, f"/subscriptions/{azure.subscription}", made["objectId"])
    return made


def monitor(azure: Azure, credential: Any) -> MonitorManagementClient:
    return MonitorManagementClient(
        credential, azure.subscription, base_url=azure.live.arm, credential_scopes=[ARM_SCOPE]
    )


@pytest.fixture(scope="module")
def activity(azure: Azure, reader: Mapping[str, Any]) -> MonitorManagementClient:
    return monitor(azure, azure.credential(reader["clientId"], reader["clientSecret"]))


def lately() -> str:
    return f"eventTimestamp ge '{(datetime.now(UTC) - timedelta(hours=1)).isoformat()}'"


# The activity log


def test_changes_are_in_the_activity_log(activity: MonitorManagementClient, account: Account, azure: Azure) -> None:
    wanted = f"{lately()} and resourceUri eq '{account.id}'"

    def listed() -> list[str]:
        return [
            one.status.value for one in activity.activity_logs.list(wanted) if "listKeys" in one.operation_name.value
        ]

    assert wait_for(lambda: listed() if len(listed()) > 1 else None, "both events") == ["Succeeded", "Started"]
    events = [one for one in activity.activity_logs.list(wanted) if one.operation_name.value.endswith("accounts/write")]
    assert {one.status.value for one in events} >= {"Started", "Succeeded"}
    done = events[0]
    assert done.event_timestamp > datetime.now(UTC) - timedelta(hours=1)
    assert (done.resource_group_name, done.resource_provider_name.value) == (
        account.group,
        "Microsoft.CognitiveServices",
    )
    assert (done.authorization.role, done.http_request.method, done.level) == ("Owner", "PUT", "Informational")
    assert (done.subscription_id, done.category.value) == (azure.subscription, "Administrative")
    assert done.caller
    by_id = list(activity.activity_logs.list(f"{lately()} and correlationId eq '{done.correlation_id}'"))
    assert {one.operation_id for one in by_id} == {done.operation_id}


def test_select_and_what_is_refused(
    activity: MonitorManagementClient, account: Account, azure: Azure, live: Live
) -> None:
    (first, *_) = activity.activity_logs.list(lately(), select="eventName,operationName")
    assert first.operation_name is not None
    assert first.caller is None
    with pytest.raises(HttpResponseError) as caught:
        list(activity.activity_logs.list("resourceGroupName eq 'x'"))
    assert (caught.value.status_code, caught.value.error.code) == (400, "InvalidFilterInQueryString")
    assert "Administrative" in {one.value for one in activity.event_categories.list()}
    with pytest.raises(HttpResponseError) as closed:
        list(activity.tenant_activity_logs.list())
    assert closed.value.status_code == 403
    stranger = azure.new_principal()
    with pytest.raises(HttpResponseError) as strange:
        list(monitor(azure, azure.credential(stranger.client_id, stranger.client_secret)).activity_logs.list(lately()))
    assert strange.value.status_code == 403


# Receipts


def published(live: Live) -> Mapping[str, Any]:
    """What anybody is given who has no account here."""
    answer = requests.get(f"{live.arm}/.well-known/stockade-receipt-keys", verify=str(live.bundle), timeout=30)
    found: dict[str, Any] = answer.json()
    return found


def verified(live: Live, text: str, method: str, url: str, body: bytes) -> dict[str, Any]:
    """Verify a receipt and that it is of this request, with a library of other people's and the documentation."""
    key = jwt.PyJWKSet.from_dict(dict(published(live)))[jwt.get_unverified_header(text)["kid"]]
    claims: dict[str, Any] = jwt.decode(text, key, algorithms=["EdDSA"], issuer=live.arm)
    parts = urlsplit(url)
    named = b"".join(sha256(one).digest() for one in (method.encode(), parts.path.encode(), parts.query.encode(), body))
    assert claims["request"] == base64.urlsafe_b64encode(sha256(named).digest()).decode().rstrip("=")
    return claims


def test_openai_gets_receipts(client: AzureOpenAI, account: Account, live: Live) -> None:
    whole = client.chat.completions.with_raw_response.create(
        model="chat", messages=HELLO, max_tokens=4, extra_headers=ASKED
    )  # type: ignore[call-overload]
    sent = whole.http_request
    claims = verified(live, whole.headers["x-stockade-receipt"], "POST", str(sent.url), sent.content)
    assert (claims["status"], claims["stored"], claims["account"]) == (200, "none", account.id)
    assert claims["jti"] == whole.headers["apim-request-id"]
    asked = client.chat.completions.with_streaming_response
    with asked.create(model="chat", messages=HELLO, max_tokens=4, stream=True, extra_headers=ASKED) as stream:  # type: ignore[call-overload]
        lines = list(stream.iter_lines())
        sent = stream.http_request
    (comment,) = [line for line in lines if line.startswith(": x-stockade-receipt: ")]
    assert [line for line in lines if line][-1] == comment
    claims = verified(live, comment.removeprefix(": x-stockade-receipt: "), "POST", str(sent.url), sent.read())
    assert (claims["status"], claims["outcome"], claims["stored"]) == (200, "success", "none")
    parsed = client.chat.completions.create(
        model="chat", messages=HELLO, max_tokens=4, stream=True, extra_headers=ASKED
    )  # type: ignore[call-overload]
    # Whoever does not read comments is not bothered by one.
    assert list(parsed)[-1].object == "chat.completion.chunk"
    with pytest.raises(APIStatusError) as refused:
        client.with_options(api_key="x" * 32).chat.completions.create(model="chat", messages=HELLO, extra_headers=ASKED)  # type: ignore[call-overload]
    denied = jwt.decode(refused.value.response.headers["x-stockade-receipt"], options={"verify_signature": False})
    assert (denied["status"], denied["body"], denied["outcome"]) == (401, False, "failed:KeyRejected")


# Records and proofs


def test_a_reader_finds_and_proves_a_refusal_from_elsewhere(
    client: AzureOpenAI, account: Account, live: Live, reader: Mapping[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(APIStatusError) as refused:
        client.with_options(api_key="y" * 32).chat.completions.create(model="chat", messages=HELLO, extra_headers=ASKED)  # type: ignore[call-overload]
    decision = refused.value.response.headers["x-stockade-decision"]
    addresses = ("STOCKADE_ARM", "STOCKADE_AUTHORITY", "STOCKADE_TENANT", "STOCKADE_SUBSCRIPTION", "STOCKADE_CA")
    elsewhere = {
        **{name: live.environment[name] for name in addresses},
        "STOCKADE_DATA_DIR": str(tmp_path),
        "STOCKADE_CLIENT_ID": reader["clientId"],
        "STOCKADE_CLIENT_SECRET": reader["clientSecret"],
    }
    arguments = f"audit search --account {account.name} --decision deny --since 1h --format json".split()

    def search() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in live.cli(*arguments, **elsewhere).stdout.splitlines()]
        return [one for one in found if one["record"]["id"] == decision]

    (record,) = wait_for(search, "the refusal's record")
    assert record["record"]["reason"] == "KeyRejected"
    proof = tmp_path / "proof.json"
    live.cli("audit", "prove", decision, "-o", str(proof), **elsewhere)
    bundle = json.loads(proof.read_bytes())
    # By the RFC's own algorithm, and with the key that anybody is given.
    keys = requests.get(f"{live.arm}/.well-known/stockade-audit-keys", verify=str(live.bundle), timeout=30).json()[
        "treeHeads"
    ]
    signed = read_note(bundle["checkpoint"].encode())
    path = [base64.b64decode(value) for value in bundle["path"]]
    assert merkle.is_included(bundle["index"], signed.head.size, bundle["record"].encode(), path, signed.head.root)
    assert json.loads(bundle["record"]) == record["record"]
    assert verify(signed, [HeadKey(base64.urlsafe_b64decode(keys["publicKey"] + "="))]) == signed.head
    assert signed.head.origin == f"{keys['origin']}{live.subscription}"
    with live.credential(reader["clientId"], reader["clientSecret"]) as credential:
        token = credential.get_token(ARM_SCOPE).token
    where = f"/subscriptions/{live.subscription}{HERE}/records/{decision}/receipt"
    receipt = live.request("GET", where, token=token).json()["receipt"]
    assert receipt == refused.value.response.headers["x-stockade-receipt"]
    # The platform's own log is no subscription's, an Owner's included.
    assert live.request("GET", f"{HERE}/records", token=live.token()).status_code == 403


def test_an_operator_reads_where_the_logs_lie(live: Live) -> None:
    found = live.stockade("audit", "search", "--local", "--log", "platform", "-n", "3", "--format", "json")
    assert {json.loads(line)["log"] for line in found.splitlines()} == {"platform"}
