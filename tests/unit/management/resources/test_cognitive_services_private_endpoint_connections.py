from __future__ import annotations

from tests.factories.arm import ACCOUNTS, Arm

A1 = f"{ACCOUNTS}/a1"


def test_private_endpoint_connections_show_in_their_account(arm: Arm) -> None:
    path = f"{A1}/privateEndpointConnections/pe1"
    sent = {"properties": {"privateLinkServiceConnectionState": {"status": "approved", "description": "mine"}}}
    arm.account()
    arm.fails(400, "CustomSubDomainNameRequired", "PUT", path, sent)
    arm.ok("PATCH", A1, {"properties": {"customSubDomainName": "private-1"}})
    reply = arm.send("PUT", path, sent)
    assert reply.status == 200  # SDKs take no 201 here
    assert reply.body["properties"]["privateLinkServiceConnectionState"] == {
        "status": "Approved",
        "description": "mine",
    }
    assert [entry["name"] for entry in arm.ok("GET", A1)["properties"]["privateEndpointConnections"]] == ["pe1"]
    assert [entry["name"] for entry in arm.ok("GET", f"{A1}/privateEndpointConnections")["value"]] == ["pe1"]
    assert arm.account()["properties"]["privateEndpointConnections"][0]["name"] == "pe1"
    arm.fails(400, "InvalidRequestContent", "PUT", path, {"properties": {}})
    arm.ok("DELETE", path)
    assert arm.ok("GET", A1)["properties"]["privateEndpointConnections"] == []
