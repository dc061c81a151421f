"""Tests of records in Azure Monitor's shape."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from stockade.audit.resource_log import NOBODYS, NotARecord, decoded, resource_log
from stockade.kernel.record import AuditRecord

S = "/subscriptions/11111111-1111-4111-8111-111111111111"
ACCOUNT = f"{S}/resourceGroups/Rg/providers/Microsoft.CognitiveServices/accounts/Demo"
VAULT = f"{S}/resourceGroups/Rg/providers/Microsoft.KeyVault/vaults/Safe"


def sent(**more: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "time": 1.5,
        "id": "d1",
        "category": "Audit",
        "phase": "outcome",
        "operation": "Microsoft.CognitiveServices/accounts/write",
        "resource": ACCOUNT,
        "decision": "allow",
        "status": 200,
        "outcome": "success",
    }
    line = msgspec.json.encode(AuditRecord(**{**known, **more}))
    body: dict[str, Any] = msgspec.json.decode(resource_log("log", 7, line, decoded(line), "local").body)
    return body


def test_everything_has_its_place() -> None:
    found = sent(
        caller_address="192.0.2.1",
        principal="oid-1",
        application="app-1",
        rule="Owner at /",
        duration_ms=12.6,
        credential="token",
        client="az",
    )
    leaf = found["properties"].pop("leafHash")
    assert found == {
        "time": "1970-01-01T00:00:01.5000000Z",
        "resourceId": ACCOUNT.upper(),
        "category": "Audit",
        "operationName": "Microsoft.CognitiveServices/accounts/write",
        "operationVersion": "1.0",
        "resultType": "Succeeded",
        "resultSignature": "200",
        "durationMs": 13,
        "callerIpAddress": "192.0.2.1",
        "correlationId": "d1",
        "identity": {
            "authorization": {
                "scope": ACCOUNT,
                "action": "Microsoft.CognitiveServices/accounts/write",
                "evidence": {"role": "Owner at /"},
            },
            "claims": {"oid": "oid-1", "appid": "app-1"},
        },
        "level": "Informational",
        "location": "local",
        "properties": {
            "phase": "outcome",
            "resource": ACCOUNT,
            "credential": "token",
            "principal": "oid-1",
            "objectId": "oid-1",
            "application": "app-1",
            "decision": "allow",
            "rule": "Owner at /",
            "outcome": "success",
            "client": "az",
            "log": "log",
            "index": 7,
        },
    }
    assert len(base64.b64decode(leaf)) == 32


def test_the_leaf_is_that_of_the_line() -> None:
    line = b'{"time":1,"more":"of a later version"}'
    found = msgspec.json.decode(resource_log("log", 0, line, decoded(line), "local").body)
    assert base64.b64decode(found["properties"]["leafHash"]) == sha256(b"\0" + line).digest()
    assert found["properties"]["more"] == "of a later version"


@pytest.mark.parametrize(
    ("more", "result", "level"),
    [
        ({"phase": "intent", "status": 0, "outcome": ""}, "Started", "Informational"),
        ({}, "Succeeded", "Informational"),
        ({"outcome": "cancelled"}, "Canceled", "Informational"),
        ({"decision": "deny", "status": 403, "outcome": ""}, "Failed", "Warning"),
        ({"outcome": "failed:Conflict", "status": 409}, "Failed", "Warning"),
        ({"status": 503}, "Failed", "Error"),
    ],
    ids=["intent", "success", "cancelled", "denied", "failed", "broken"],
)
def test_results_and_levels(more: dict[str, Any], result: str, level: str) -> None:
    found = sent(**more)
    assert (found["resultType"], found["level"]) == (result, level)


def test_a_refusal_says_why() -> None:
    found = sent(decision="deny", status=401, outcome="", reason="KeyRejected", rule="credential")
    assert found["resultDescription"] == "KeyRejected: credential"
    assert "identity" not in found


def test_key_vaults_have_azures_category() -> None:
    assert sent(resource=f"{VAULT}/keys/k")["category"] == "AuditEvent"
    assert sent(resource=VAULT, category="RequestResponse")["category"] == "AuditEvent"


@pytest.mark.parametrize("resource", ["", "/", "/../etc", "/a b?c", "no path"])
def test_what_is_no_resource_is_none(resource: str) -> None:
    found = sent(resource=resource)
    assert found["resourceId"] == NOBODYS
    assert found["properties"].get("resource", "") == resource


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"{}", b'{"time":"now"}'])
def test_other_lines_are_no_records(line: bytes) -> None:
    with pytest.raises(NotARecord):
        decoded(line)
