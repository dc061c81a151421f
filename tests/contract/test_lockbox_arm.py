"""Customer Lockbox with an unmodified azure-mgmt-core pipeline, over TLS, against the platform's own key broker.

There is no client for Microsoft.CustomerLockbox in Python; the pipeline is what one would be made of.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import requests
from azure.core.configuration import Configuration
from azure.core.exceptions import HttpResponseError, map_error
from azure.core.pipeline import policies
from azure.core.rest import HttpRequest
from azure.mgmt.core import ARMPipelineClient
from azure.mgmt.core.exceptions import ARMErrorFormat
from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy, ARMHttpLoggingPolicy

from stockade.kernel.ids import new_guid
from stockade.lockbox.strict import from_base64url
from tests.factories.audit import logged
from tests.factories.azure import ARM_SCOPE, Account, Azure, Principal
from tests.factories.lockbox import Signer
from tests.live import Live, wait_for

VERSION = "2018-02-28-preview"
LOCKBOX = "/providers/Microsoft.CustomerLockbox"
BODY = os.urandom(200_000)


class Client:
    """What a generated client of the specification does: its pipeline, and its way with errors."""

    def __init__(self, azure: Azure, who: Principal | None = None) -> None:
        credential = azure.credential(who.client_id, who.client_secret) if who is not None else azure.administrator
        config: Any = Configuration(base_url=azure.live.arm)
        config.user_agent_policy = policies.UserAgentPolicy(sdk_moniker="mgmt-customerlockbox/1.0.0b1")
        config.headers_policy = policies.HeadersPolicy()
        config.proxy_policy = policies.ProxyPolicy()
        config.logging_policy = policies.NetworkTraceLoggingPolicy()
        config.http_logging_policy = ARMHttpLoggingPolicy()
        config.retry_policy = policies.RetryPolicy()
        config.custom_hook_policy = policies.CustomHookPolicy()
        config.redirect_policy = policies.RedirectPolicy()
        config.authentication_policy = ARMChallengeAuthenticationPolicy(credential, ARM_SCOPE)
        self._client: Any = ARMPipelineClient(azure.live.arm, config=config)
        self.subscription = f"/subscriptions/{azure.subscription}"
        self.requests = f"{self.subscription}{LOCKBOX}/requests"
        self.asked = f"{self.subscription}/providers/Stockade.Lockbox/requests"
        self.who, self._azure = who, azure

    def send(self, method: str, path: str, body: Any = None, version: str | None = VERSION, **query: str) -> Any:
        params = {**({"api-version": version} if version else {}), **query}
        request = HttpRequest(method, path, params=params, json=body)
        request.url = self._client.format_url(request.url)
        response = self._client.send_request(request)
        if response.status_code not in (200, 201, 204):
            map_error(status_code=response.status_code, response=response, error_map={})
            raise HttpResponseError(response=response, error_format=ARMErrorFormat)
        return response.json() if response.text() else None

    def refused(self, status: int, code: str, method: str, path: str, body: Any = None) -> Any:
        """Send, expect this refusal, and return the typed info that stands beside it."""
        with pytest.raises(HttpResponseError) as found:
            self.send(method, path, body)
        error: Any = found.value.error
        assert (found.value.status_code, error.code) == (status, code), found.value.message
        return error.additional_info[0].info if error.additional_info else None

    def status(self, name: str) -> str:
        return str(self.send("GET", f"{self.requests}/{name}")["properties"]["status"])

    def read(self, name: str, what: str = "") -> requests.Response:
        assert self.who is not None
        token = self._azure.token(self.who, ARM_SCOPE)
        return requests.get(
            f"{self._azure.live.arm}/lockbox/v1/requests/{self._azure.subscription}/{name}/content{what}",
            headers={"authorization": f"Bearer {token}"},
            verify=str(self._azure.live.bundle),
            timeout=30,
        )


@dataclass
class Customer:
    """An account that keeps a file, protected by `approver`'s key, and an engineer of the platform's operator."""

    azure: Azure
    account: Account
    file: str
    administrator: Client
    approver: Client
    engineer: Client
    key: Signer

    def file_request(self, **properties: Any) -> str:
        name = new_guid()
        base = {"account": self.account.id, "scope": [f"files/{self.file}"], "reason": "case 7", "durationHours": 2}
        made = self.engineer.send("PUT", f"{self.engineer.asked}/{name}", {"properties": {**base, **properties}})
        assert made["properties"]["status"] == "Pending"
        return name

    def signed(self, payload: str) -> Any:
        return {"payload": payload, "signatures": [msgspec.to_builtins(self.key.sign(from_base64url(payload)))]}

    def approval(self, name: str) -> Any:
        info = self.approver.refused(400, "SignatureRequired", "POST", self.decision(name), {"status": "Approve"})
        return {"status": "Approve", "reason": "seen", **self.signed(info["payload"])}

    def decision(self, name: str) -> str:
        return f"{self.approver.requests}/{name}/updateApproval"


@pytest.fixture(scope="module")
def customer(live: Live, azure: Azure) -> Customer:
    account, who, engineer = azure.new_account(), azure.new_principal(), azure.new_principal()
    subscription = f"/subscriptions/{azure.subscription}"
    azure.assign("Owner", subscription, who.object_id)
    azure.assign("Stockade Support Engineer", subscription, engineer.object_id)
    upload = requests.post(
        f"{account.endpoint}openai/files?api-version=2024-10-21",
        headers={"api-key": account.key1},
        files={"file": ("notes.txt", BODY), "purpose": (None, "assistants")},
        verify=str(live.bundle),
        timeout=30,
    )
    assert upload.status_code < 300, upload.text
    made = Customer(
        azure,
        account,
        upload.json()["id"],
        Client(azure),
        Client(azure, who),
        Client(azure, engineer),
        Signer("approver", who.object_id),
    )
    made.administrator.send("POST", f"{LOCKBOX}/enableLockbox")
    policy = f"{account.id}/providers/Stockade.Lockbox/policies/default"
    approvers = [msgspec.to_builtins(made.key.approver)]
    drafted = made.approver.send("POST", f"{policy}/draft", {"approvers": approvers})
    bound = made.approver.send("PUT", policy, {"properties": made.signed(drafted["payload"])})
    assert bound["properties"]["state"] == "Protected"
    return made


def test_opting_in_and_out(customer: Customer) -> None:
    who, opted = customer.administrator, f"{LOCKBOX}/tenantOptedIn/{customer.azure.tenant}"
    assert who.send("GET", opted) == {"isOptedIn": True}
    assert who.send("POST", f"{LOCKBOX}/disableLockbox") is None
    try:
        assert customer.engineer.send("GET", opted) == {"isOptedIn": False}
        body = {"properties": {"account": customer.account.id, "scope": ["files/*"], "reason": "x"}}
        path = f"{customer.engineer.asked}/{new_guid()}"
        customer.engineer.refused(403, "LockboxNotEnabled", "PUT", path, body)
    finally:
        assert who.send("POST", f"{LOCKBOX}/enableLockbox") is None
    customer.engineer.refused(403, "AuthorizationFailed", "POST", f"{LOCKBOX}/disableLockbox")
    assert "Microsoft.CustomerLockbox/requests/read" in {
        one["name"] for one in who.send("GET", f"{LOCKBOX}/operations")["value"]
    }


def test_a_request_is_approved_read_and_revoked(customer: Customer) -> None:
    name = customer.file_request()
    pending = customer.approver.send(
        "GET", customer.approver.requests, version=None, **{"$filter": "properties/status eq 'Pending'"}
    )
    [shown] = [one for one in pending["value"] if one["properties"]["requestId"] == name]
    assert shown["name"] == f"LockboxRequest_{name}"
    assert shown["properties"]["resourceIds"] == customer.account.id
    assert customer.engineer.read(name).json()["error"]["code"] == "RequestStatusConflict"
    sent = customer.approval(name)
    assert customer.approver.send("POST", customer.decision(name), sent) == sent
    again = customer.approver.refused(409, "RequestNotDecidable", "POST", customer.decision(name), sent)
    assert again == {"currentStatus": "Approved"}
    read = customer.engineer.read(name, f"/files/{customer.file}")
    assert (read.status_code, read.content) == (200, BODY), read.text[:500]
    [listed] = customer.engineer.read(name).json()["value"]
    assert (listed["id"], listed["bytes"], listed["metadata"]["filename"]) == (customer.file, len(BODY), "notes.txt")
    revoked = customer.approver.send("POST", f"{customer.approver.asked}/{name}/revoke", {"reason": "enough"})
    assert revoked["properties"]["status"] == "Revoked"
    events = [step["event"] for step in revoked["properties"]["stockade"]["history"]]
    assert events == ["Created", "Approved", "Used", "Revoked"]
    assert customer.engineer.read(name, f"/files/{customer.file}").status_code == 409


def test_a_denial_needs_no_signature(customer: Customer) -> None:
    name = customer.file_request()
    body = {"decision": "Deny", "reason": "ask again tomorrow"}
    assert customer.approver.send("POST", customer.decision(name), body) == body
    assert customer.approver.status(name) == "Denied"


def test_who_decides(customer: Customer) -> None:
    name = customer.file_request()
    denies = {"status": "Deny"}
    customer.engineer.refused(403, "AuthorizationFailed", "POST", customer.decision(name), denies)
    late = customer.azure.new_principal()
    role = "Azure Customer Lockbox Approver for Subscription"
    customer.azure.assign(role, customer.approver.subscription, late.object_id)
    Client(customer.azure, late).refused(403, "NotAnApprover", "POST", customer.decision(name), denies)
    sent = customer.approval(name)
    strange = Signer("approver", customer.key.principal).sign(from_base64url(sent["payload"]))
    forged = {**sent, "signatures": [msgspec.to_builtins(strange)]}
    customer.approver.refused(403, "NotSigned", "POST", customer.decision(name), forged)
    customer.engineer.send("POST", f"{customer.engineer.asked}/{name}/cancel", {"reason": "solved"})
    info = customer.approver.refused(409, "RequestNotDecidable", "POST", customer.decision(name), sent)
    assert info == {"currentStatus": "Revoked"}


def test_what_was_signed_for_and_nothing_else(customer: Customer) -> None:
    name = customer.file_request()
    customer.approver.send("POST", customer.decision(name), customer.approval(name))
    reply = customer.engineer.read(name, "/files/file-of-another")
    assert reply.status_code == 404, reply.text
    reply = customer.engineer.read(name, "/responses/resp_1")
    assert reply.status_code in (403, 404), reply.text
    customer.engineer.send("POST", f"{customer.engineer.asked}/{name}/complete")
    assert customer.engineer.read(name).status_code == 409


def test_every_step_is_in_the_customers_log(customer: Customer) -> None:
    name = customer.file_request()
    customer.approver.send("POST", customer.decision(name), {"status": "Deny", "reason": "no"})
    wanted = {
        f"Microsoft.CustomerLockbox/requests/activitylog/{one}LockboxRequest/action" for one in ("Create", "Deny")
    }

    def recorded() -> bool:
        records = logged(customer.azure.live.data_dir)
        return wanted <= {one["operation"] for one in records if f"/requests/{name}" in one.get("resource", "")}

    wait_for(recorded, "both steps are recorded")
    values = f"{customer.approver.subscription}/providers/Microsoft.Insights/eventtypes/management/values"
    since = (datetime.now(UTC) - timedelta(minutes=10)).isoformat().replace("+00:00", "Z")

    def shown() -> bool:
        query = {"$filter": f"eventTimestamp ge '{since}'"}
        events = customer.approver.send("GET", values, version="2015-04-01", **query)["value"]
        mine = [one for one in events if one["resourceId"].lower().endswith(name)]
        return wanted <= {one["operationName"]["value"] for one in mine}

    wait_for(shown, "the activity log has them")
