"""The directory's routes: what they take, what they refuse, who may use them, and what they leave in the audit log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from stockade.identity.external_ids import object_id_of
from stockade.settings import Issuer, Settings
from tests.factories.arm import Arm
from tests.factories.control_plane import CONTRIBUTOR, ControlPlane, S
from tests.factories.identity import client_certificate

ISSUER = "https://idp.example/realms/one"
OTHER = "https://idp.example/realms/two"
GUID = "0f0f0f0f-0000-4000-8000-00000000000a"
BASE = "/subscriptions/11111111-1111-4111-8111-111111111111/providers/Stockade.Directory/principals"


@pytest.fixture
def arm(tmp_path: Path) -> Arm:
    return Arm(tmp_path, Settings(data_dir=tmp_path, issuers=(Issuer(issuer=ISSUER), Issuer(issuer=OTHER))))


def body(**changes: Any) -> dict[str, Any]:
    return {"displayName": "Ann", "issuer": ISSUER, **changes}


# Principals of further issuers


def test_registering_and_what_is_shown(arm: Arm) -> None:
    made = arm.send("PUT", f"{BASE}/{GUID.upper()}", body(principalType="User", clientId="Portal"))
    assert made.status == 201
    assert {
        "objectId": GUID,
        "displayName": "Ann",
        "kind": "external",
        "principalType": "User",
        "clientId": "portal",
        "issuer": ISSUER,
        "subject": None,
        "enabled": True,
    }.items() <= made.body.items()
    shown = arm.ok("GET", f"{BASE}/{GUID}")
    assert made.body.items() <= shown.items() and shown["secrets"] == shown["certificates"] == []
    assert [entry["objectId"] for entry in arm.ok("GET", BASE)["value"]] == [GUID]


def test_an_opaque_name_is_registered_under_the_id_its_tokens_come_to(arm: Arm) -> None:
    expected = object_id_of(ISSUER, "auth0|123")
    made = arm.ok("PUT", f"{BASE}/{expected}", body(subject="auth0|123"))
    assert (made["objectId"], made["subject"], made["principalType"]) == (expected, "auth0|123", "ServicePrincipal")
    message = arm.fails(400, "BadRequest", "PUT", f"{BASE}/{GUID}", body(subject="auth0|123"))
    assert expected in message
    assert expected in arm.fails(400, "BadRequest", "PUT", f"{BASE}/auth0%7C123", body())
    group = object_id_of(ISSUER, "/engineers", group=True)
    assert arm.ok("PUT", f"{BASE}/{group}", body(subject="/engineers", principalType="Group"))["objectId"] == group


def test_registering_again_changes_what_is_known_and_nothing_else(arm: Arm) -> None:
    arm.ok("PUT", f"{BASE}/{GUID}", body(clientId="one"))
    arm.ok("POST", f"{BASE}/{GUID}/disable")
    again = arm.send("PUT", f"{BASE}/{GUID}", body(displayName="Bob", principalType="User"))
    assert again.status == 200
    assert (again.body["displayName"], again.body["principalType"]) == ("Bob", "User")
    assert again.body["clientId"] is None and again.body["enabled"] is False


def test_an_id_belongs_to_one_issuer(arm: Arm) -> None:
    arm.ok("PUT", f"{BASE}/{GUID}", body())
    arm.fails(409, "Conflict", "PUT", f"{BASE}/{GUID}", body(issuer=OTHER))
    own = arm.ok("POST", BASE, {"displayName": "own"})["objectId"]
    arm.fails(409, "Conflict", "PUT", f"{BASE}/{own}", body())
    assert arm.ok("GET", f"{BASE}/{own}")["issuer"] is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"issuer": ISSUER + "/"}, f"those trusted are {ISSUER}, {OTHER}"),
        ({"issuer": 7}, "'issuer'"),
        ({"issuer": None}, "'issuer'"),
        ({"displayName": None}, "'displayName'"),
        ({"displayName": ""}, "name"),
        ({"principalType": "Device"}, "ServicePrincipal, User, Group"),
        ({"principalType": ["User"]}, "ServicePrincipal, User, Group"),
        ({"clientId": "x" * 200}, "'clientId'"),
        ({"clientId": 7}, "'clientId'"),
        ({"subject": "line\nbreak"}, "'subject'"),
        ({"subject": "\ud800"}, "'subject'"),
        ({"subject": ["x"]}, "'subject'"),
    ],
)
def test_what_cannot_be_registered(arm: Arm, changes: dict[str, Any], said: str) -> None:
    message = arm.fails(400, "BadRequest", "PUT", f"{BASE}/{GUID}", body(**changes))
    assert said in message
    assert arm.ok("GET", BASE)["value"] == []


def test_nobody_is_everybody(arm: Arm) -> None:
    everyone = "00000000-0000-0000-0000-000000000000"
    arm.fails(400, "BadRequest", "PUT", f"{BASE}/{everyone}", body())


def test_without_issuers_in_the_settings_nothing_is_registered(tmp_path: Path) -> None:
    message = Arm(tmp_path).fails(400, "BadRequest", "PUT", f"{BASE}/{GUID}", body())
    assert "none is" in message and "settings.toml" in message


def test_only_applications_have_credentials(arm: Arm, tmp_path: Path) -> None:
    arm.ok("PUT", f"{BASE}/{GUID}", body())
    certificate, _ = client_certificate(tmp_path)
    arm.fails(400, "BadRequest", "POST", f"{BASE}/{GUID}/secrets")
    sent = {"certificate": certificate.read_text()}
    arm.fails(400, "BadRequest", "POST", f"{BASE}/{GUID}/certificates", sent)


# Certificates


@pytest.fixture
def application(arm: Arm) -> str:
    return str(arm.ok("POST", BASE, {"displayName": "app"})["objectId"])


def test_a_certificate_comes_and_goes(arm: Arm, application: str, tmp_path: Path) -> None:
    file, _ = client_certificate(tmp_path)
    path = f"{BASE}/{application}"
    arm.clock.advance(
        x509.load_pem_x509_certificate(file.read_bytes()).not_valid_before_utc.timestamp() - arm.clock.now()
    )
    added = arm.send("POST", f"{path}/certificates", {"certificate": file.read_text()})
    assert added.status == 201
    entry = added.body["certificate"]
    from cryptography.hazmat.primitives.hashes import SHA1

    expected = x509.load_pem_x509_certificate(file.read_bytes()).fingerprint(SHA1()).hex().upper()
    assert entry["thumbprint"] == expected
    assert arm.ok("GET", path)["certificates"] == [entry]
    arm.fails(409, "Conflict", "POST", f"{path}/certificates", {"certificate": file.read_text()})
    assert arm.send("DELETE", f"{path}/certificates/{entry['keyId']}").status == 200
    assert arm.send("DELETE", f"{path}/certificates/{entry['keyId']}").status == 204
    assert arm.ok("GET", path)["certificates"] == []
    arm.clock.advance(40 * 86_400)
    message = arm.fails(400, "BadRequest", "POST", f"{path}/certificates", {"certificate": file.read_text()})
    assert "expired" in message


@pytest.mark.parametrize("sent", [{}, {"certificate": ""}, {"certificate": 7}, {"certificate": "x" * 70_000}])
def test_what_is_no_certificate(arm: Arm, application: str, sent: dict[str, Any]) -> None:
    arm.fails(400, "BadRequest", "POST", f"{BASE}/{application}/certificates", sent)


# Who may


CALLS = [
    ("PUT", GUID, body()),
    ("POST", "reader/enable", {}),
    ("POST", "reader/disable", {}),
    ("POST", "reader/certificates", {"certificate": "x"}),
    ("DELETE", "reader/certificates/x", None),
]


@pytest.mark.parametrize(("method", "below", "sent"), CALLS)
def test_it_takes_the_right_to_assign_roles(
    plane: ControlPlane, method: str, below: str, sent: dict[str, Any] | None
) -> None:
    plane.principal("reader")
    contributor = plane.principal("contributor", (CONTRIBUTOR, S))
    path = f"{S}/providers/Stockade.Directory/principals/{below}"
    message = plane.fails(403, "AuthorizationFailed", method, path, sent, by=contributor)
    assert "Microsoft.Authorization/roleAssignments/write" in message
    plane.fails(403, "AuthorizationFailed", method, path, sent, by=plane.principal("nobody"))


def test_disabled_means_refused_at_the_next_request_and_is_audited(plane: ControlPlane) -> None:
    worker = plane.principal("worker")
    principals = f"{S}/providers/Stockade.Directory/principals"
    assert plane.ok("POST", f"{principals}/worker/disable")["enabled"] is False
    [policy] = [plane.source.current().only("principal", worker.object_id)]
    assert policy.enabled is False
    recorded = [record for record in plane.audit.records if "principals/write" in record.operation]
    assert [record.phase for record in recorded] == ["intent", "outcome"]
    assert recorded[-1].principal == plane.owner.object_id and recorded[-1].outcome == "success"
    assert plane.ok("POST", f"{principals}/worker/enable")["enabled"] is True


def test_nobody_disables_himself(plane: ControlPlane) -> None:
    principals = f"{S}/providers/Stockade.Directory/principals"
    plane.fails(409, "Conflict", "POST", f"{principals}/{plane.owner.object_id}/disable")
    plane.fails(404, "ResourceNotFound", "POST", f"{principals}/nobody/disable")
