"""The nine steps, whatever the resource type."""

from __future__ import annotations

import threading

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.record import AuditRecord
from stockade.management.resource_type import ResourceType
from tests.factories.control_plane import AUTH, CONTRIBUTOR, OTHER_SUB, READER, RG, SUB, ControlPlane, S
from tests.factories.identity import RecordingAudit

IDENTITIES = f"{RG}/providers/Microsoft.ManagedIdentity/userAssignedIdentities"


@pytest.mark.parametrize(
    ("token", "code", "error"),
    [
        ("", "AuthenticationFailed", "invalid_request"),
        ("expired", "ExpiredAuthenticationToken", "invalid_token"),
        ("wrong_audience", "InvalidAuthenticationTokenAudience", "invalid_token"),
        ("wrong_tenant", "InvalidAuthenticationTokenTenant", "invalid_token"),
        ("bad_signature", "InvalidAuthenticationToken", "invalid_token"),
        ("x" * 40_000, "InvalidAuthenticationToken", "invalid_token"),
    ],
)
def test_without_a_good_token_the_caller_is_told_where_to_get_one(
    plane: ControlPlane, token: str, code: str, error: str
) -> None:
    reply = plane.send("GET", RG, by=token)
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, code)
    challenge = reply.headers["www-authenticate"]
    assert challenge.startswith(f'Bearer authorization_uri="https://localhost:8444/{plane.tenant_id}"')
    assert f'error="{error}"' in challenge
    assert "retry-after" not in reply.headers


def test_another_scheme_than_bearer_is_no_credential(plane: ControlPlane) -> None:
    headers = {"authorization": f"Basic {plane.owner.object_id}"}
    plane.fails(401, "AuthenticationFailed", "GET", RG, by="", headers=headers)


def test_every_reply_carries_the_ids_and_the_protections(plane: ControlPlane) -> None:
    sent = {"x-ms-client-request-id": "abc-123", "x-ms-correlation-request-id": SUB}
    for path in (RG, f"{RG}nothing"):
        reply = plane.send("GET", path, headers=sent)
        assert reply.headers["x-ms-client-request-id"] == "abc-123"
        assert reply.headers["x-ms-correlation-request-id"] == SUB
        assert len(reply.headers["x-ms-request-id"]) == 36
        assert reply.headers["strict-transport-security"].startswith("max-age=")
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert ("x-stockade-decision" in reply.headers) == (reply.status_code >= 400)
    assert "x-ms-client-request-id" not in plane.send("GET", RG, headers={"x-ms-client-request-id": "x" * 200}).headers


def test_a_refusal_names_caller_action_scope_and_the_smallest_role_and_its_decision(plane: ControlPlane) -> None:
    stranger = plane.principal("stranger")
    reply = plane.send("GET", RG, by=stranger)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (403, "AuthorizationFailed")
    for word in (stranger.app_id, stranger.object_id, "Microsoft.Resources/subscriptions/resourceGroups/read", RG):
        assert f"'{word}'" in error["message"]
    information = error["additionalInfo"][0]["info"]
    assert information["smallestRole"] and information["smallestRole"] in error["message"]
    assert information["decisionId"] == reply.headers["x-stockade-decision"] == reply.headers["x-ms-request-id"]


def test_a_caller_without_rights_cannot_tell_what_exists(plane: ControlPlane) -> None:
    plane.ok("PUT", f"{IDENTITIES}/present", {"location": "local"})
    stranger = plane.principal("stranger")
    for method, body in (
        ("GET", None),
        ("HEAD", None),
        ("PUT", {"location": "local"}),
        ("PATCH", {}),
        ("DELETE", None),
    ):
        told = set()
        for name in ("present", "missing"):
            reply = plane.send(method, f"{IDENTITIES}/{name}", body, by=stranger)
            assert reply.status_code == 403
            told.add(reply.text.replace(reply.headers["x-ms-request-id"], "").replace(name, ""))
        assert len(told) == 1
    assert plane.ok("GET", f"{IDENTITIES}/present")["name"] == "present"
    missing_group = plane.send(
        "GET", f"{S}/resourceGroups/none/providers/Microsoft.ManagedIdentity/userAssignedIdentities", by=stranger
    )
    assert missing_group.status_code == 403


def test_a_refused_caller_does_not_get_its_body_read(plane: ControlPlane) -> None:
    stranger = plane.principal("stranger")
    plane.fails(403, "AuthorizationFailed", "PUT", f"{IDENTITIES}/abc", by=stranger, content=b"{not json")
    plane.fails(400, "InvalidRequestContent", "PUT", f"{IDENTITIES}/abc", content=b"{not json")


def test_lists_show_what_the_caller_may_read_and_nothing_else(plane: ControlPlane) -> None:
    for name in ("one", "two"):
        plane.ok("PUT", f"{IDENTITIES}/{name}", {"location": "local"})
    reader = plane.principal("reader", (READER, f"{IDENTITIES}/two"))
    listed = plane.ok("GET", f"{S}/providers/Microsoft.ManagedIdentity/userAssignedIdentities", by=reader)["value"]
    assert [item["name"] for item in listed] == ["two"]
    assert [item["name"] for item in plane.ok("GET", f"{S}/resources", by=reader)["value"]] == ["two"]
    assert [item["name"] for item in plane.ok("GET", IDENTITIES)["value"]] == ["one", "two"]


def test_long_lists_come_in_pages(plane: ControlPlane) -> None:
    names = [f"id{number}" for number in range(5)]
    for name in names:
        plane.ok("PUT", f"{IDENTITIES}/{name}", {"location": "local"})
    found, path = [], f"{IDENTITIES}?$top=2"
    while path:
        page = plane.ok("GET", path)
        assert len(page["value"]) <= 2
        found += [item["name"] for item in page["value"]]
        path = page.get("nextLink", "").removeprefix("https://localhost:8444").replace("api-version=2025-04-01&", "")
    assert found == names
    plane.fails(400, "BadRequest", "GET", f"{IDENTITIES}?$skiptoken=%C3%BC")
    plane.fails(400, "BadRequest", "GET", f"{IDENTITIES}?$top=0")


def test_what_a_resource_lies_in_has_to_exist(plane: ControlPlane) -> None:
    kind = "providers/Microsoft.ManagedIdentity/userAssignedIdentities/abc"
    # The administrator of one subscription learns nothing about another one, so these are asked by one who may read everything.
    admin = plane.principal("admin", (CONTRIBUTOR, "/"))
    missing = "99999999-9999-4999-8999-999999999999"
    plane.fails(404, "SubscriptionNotFound", "GET", f"/subscriptions/{missing}/resourceGroups/g/{kind}", by=admin)
    plane.fails(404, "ResourceGroupNotFound", "PUT", f"{S}/resourceGroups/none/{kind}", {"location": "local"}, by=admin)
    plane.fails(404, "ResourceGroupNotFound", "GET", f"{S}/resourceGroups/none/{kind.rsplit('/', 1)[0]}", by=admin)
    plane.fails(404, "ResourceNotFound", "GET", f"{RG}/{kind}", by=admin)
    assert plane.send("DELETE", f"{RG}/{kind}", by=admin).status_code == 204
    plane.fails(404, "ResourceNotFound", "PATCH", f"{RG}/{kind}", {}, by=admin)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/subscriptions/nonsense", 400, "InvalidSubscriptionId"),
        (f"{RG}/providers/Microsoft.Nothing/things/x", 404, "NoRegisteredProviderFound"),
        (f"{RG}/providers/Microsoft.ManagedIdentity/things/x", 404, "NoRegisteredProviderFound"),
        (f"{S}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/x", 404, "NoRegisteredProviderFound"),
        ("/nothing", 404, "NotFound"),
        (f"{RG}/%2e%2e/x", 400, "InvalidRequestUri"),
    ],
)
def test_addresses_that_mean_nothing(plane: ControlPlane, path: str, status: int, code: str) -> None:
    plane.fails(status, code, "GET", path)


def test_methods_a_type_does_not_have(plane: ControlPlane) -> None:
    for method, path in (
        ("POST", RG),
        ("PUT", S),
        ("DELETE", f"{S}/resourceGroups"),
        ("PATCH", f"{S}{AUTH}/roleAssignments/{SUB}"),
    ):
        plane.fails(405, "MethodNotAllowed", method, path, {})
    assert plane.send("OPTIONS", RG).status_code == 405


def test_a_body_above_the_limit_is_refused(plane: ControlPlane) -> None:
    huge = b'{"location":"' + b"x" * (4 * 1024 * 1024) + b'"}'
    plane.fails(413, "RequestEntityTooLarge", "PUT", f"{IDENTITIES}/abc", content=huge)


def test_entity_tags_guard_writes(plane: ControlPlane) -> None:
    path = f"{IDENTITIES}/abc"
    stale = {"if-match": '"0000"'}
    plane.fails(412, "PreconditionFailed", "PUT", path, {"location": "local"}, headers={"if-match": "*"})
    created = plane.send("PUT", path, {"location": "local"}, headers={"if-none-match": "*"})
    assert created.status_code == 201
    plane.fails(412, "PreconditionFailed", "PUT", path, {"location": "local"}, headers={"if-none-match": "*"})
    for method in ("PUT", "PATCH", "DELETE"):
        plane.fails(412, "PreconditionFailed", method, path, {"location": "local"}, headers=stale)
    changed = plane.send("PATCH", path, {"tags": {"a": "b"}}, headers={"if-match": created.headers["etag"]})
    assert changed.status_code == 200 and changed.headers["etag"] != created.headers["etag"]
    plane.fails(412, "PreconditionFailed", "DELETE", path, headers={"if-match": created.headers["etag"]})
    assert plane.send("DELETE", path, headers={"if-match": changed.headers["etag"]}).status_code == 200


def test_the_spelling_of_creation_is_kept_and_the_rest_is_azures(plane: ControlPlane) -> None:
    path = (
        f"/SUBSCRIPTIONS/{SUB}/resourcegroups/GROUP1/PROVIDERS/microsoft.MANAGEDidentity/userassignedIDENTITIES/MyName"
    )
    created = plane.ok("PUT", path, {"location": "local", "id": "/somewhere/else", "name": "other", "type": "X/y"})
    assert created["id"] == f"{IDENTITIES}/MyName"
    assert (created["name"], created["type"]) == ("MyName", "Microsoft.ManagedIdentity/userAssignedIdentities")
    assert plane.ok("PUT", path.lower(), {"location": "local"})["id"] == created["id"]


def test_system_data_tells_who_made_and_who_last_changed(plane: ControlPlane) -> None:
    path = f"{IDENTITIES}/abc"
    first = plane.ok("PUT", path, {"location": "local"})["systemData"]
    plane.clock.advance(60)
    other = plane.principal("other", (CONTRIBUTOR, RG))
    second = plane.ok("PATCH", path, {"tags": {}, "systemData": {"createdBy": "me"}}, by=other)["systemData"]
    assert second["createdBy"] == first["createdBy"] == plane.owner.app_id
    assert second["createdAt"] == first["createdAt"] < second["lastModifiedAt"]
    assert (second["lastModifiedBy"], second["lastModifiedByType"]) == (other.app_id, "Application")


class RefusingAudit(RecordingAudit):
    def commit(self, record: AuditRecord) -> None:
        raise Fault(FaultKind.UNAVAILABLE, "The audit log cannot be written, so nothing was changed.", retry_after_s=5)


def test_without_an_audit_record_nothing_is_changed(plane: ControlPlane) -> None:
    plane.ok("PUT", f"{IDENTITIES}/abc", {"location": "local"})
    plane.pipeline._trail._sink = RefusingAudit()
    for method in ("PUT", "PATCH", "DELETE"):
        message = plane.fails(
            503, "ServiceUnavailable", method, f"{IDENTITIES}/abc", {"location": "local", "tags": {"a": "b"}}
        )
        assert "audit" in message
    plane.pipeline._trail._sink = plane.audit
    assert plane.ok("GET", f"{IDENTITIES}/abc")["tags"] == {}
    plane.audit.healthy = False
    assert plane.send("GET", f"{IDENTITIES}/abc").status_code == 503


def test_a_change_is_announced_before_and_recorded_after(plane: ControlPlane) -> None:
    plane.audit.records.clear()
    reply = plane.send("PUT", f"{IDENTITIES}/abc", {"location": "local"}, headers={"user-agent": "az/2"})
    intent, outcome = plane.audit.records
    assert (intent.phase, outcome.phase) == ("intent", "outcome")
    for record in (intent, outcome):
        assert record.category == "Audit"
        assert record.id == reply.headers["x-ms-request-id"]
        assert record.operation == "Microsoft.ManagedIdentity/userAssignedIdentities/write"
        assert record.resource == f"{IDENTITIES}/abc"
        assert (record.principal, record.application) == (plane.owner.object_id, plane.owner.app_id)
        assert (record.decision, record.rule) == ("allow", f"Owner at {S}")
        assert (record.caller_address, record.client, record.credential) == ("testclient", "az/2", "token")
    assert (outcome.status, outcome.outcome) == (201, "success")


def test_refusals_are_recorded_with_their_reason(plane: ControlPlane) -> None:
    stranger = plane.principal("stranger")
    plane.audit.records.clear()
    plane.send("PUT", f"{IDENTITIES}/abc", {"location": "local"}, by=stranger)
    plane.send("GET", RG, by="expired")
    plane.send("PUT", f"{IDENTITIES}/abc", {"location": "nowhere"})
    denied, rejected, failed = plane.audit.records
    assert (denied.decision, denied.rule, denied.reason, denied.principal) == (
        "deny",
        "authorise",
        "AuthorizationFailed",
        stranger.object_id,
    )
    assert (rejected.decision, rejected.credential, rejected.rule) == ("deny", "rejected:expired", "authenticate")
    assert (failed.phase, failed.outcome, failed.status) == ("outcome", "failed:Invalid", 400)


def test_a_bug_shows_nothing_but_the_decisions_id(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = next(item for item in plane.registry if item.type.endswith("userAssignedIdentities"))
    for method, verb in (("plan", "PUT"), ("compile", "PUT"), ("after_write", "PUT")):
        with monkeypatch.context() as patch:

            def broken(*_: object, **__: object) -> None:
                raise RuntimeError("secret detail /etc/stockade")

            patch.setattr(type(kind), method, broken)
            reply = plane.send(verb, f"{IDENTITIES}/abc", {"location": "local"})
            assert (reply.status_code, reply.json()["error"]["code"]) == (500, "InternalServerError")
            assert "secret" not in reply.text and reply.headers["x-ms-request-id"] in reply.text
    plane.fails(404, "ResourceNotFound", "GET", f"{IDENTITIES}/abc")  # all of it was rolled back


def test_the_next_request_sees_a_role_that_was_just_taken_away(plane: ControlPlane) -> None:
    reader = plane.principal("reader", (READER, RG))
    assert plane.send("GET", RG, by=reader).status_code == 200
    for assignment in plane.ok("GET", f"{RG}{AUTH}/roleAssignments?$filter=principalId eq '{reader.object_id}'")[
        "value"
    ]:
        plane.ok("DELETE", assignment["id"])
    assert plane.send("GET", RG, by=reader).status_code == 403


def test_writers_do_not_lose_each_others_changes(plane: ControlPlane) -> None:
    path = f"{IDENTITIES}/abc"
    plane.ok("PUT", path, {"location": "local"})
    statuses: list[int] = []

    def tag(number: int) -> None:
        statuses.append(plane.send("PATCH", path, {"tags": {f"t{number}": "x"}}).status_code)

    threads = [threading.Thread(target=tag, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 8
    assert len(plane.ok("GET", path)["tags"]) == 8


def test_the_metadata_of_the_cloud_needs_no_credential(plane: ControlPlane) -> None:
    body = plane.ok("GET", "/metadata/endpoints", by="", version="2022-09-01")
    assert body["name"] != "AzureCloud"
    assert body["authentication"]["audiences"][0] == "https://management.core.windows.net/"
    assert body["authentication"]["loginEndpoint"] == plane.settings.authority
    assert body["resourceManager"] == plane.settings.arm_endpoint
    assert body["suffixes"]["keyVaultDns"]


def test_rights_in_one_subscription_are_none_in_another(plane: ControlPlane) -> None:
    for path in (
        f"/subscriptions/{OTHER_SUB}",
        f"/subscriptions/{OTHER_SUB}/resourceGroups",
        f"/subscriptions/{OTHER_SUB}/resources",
    ):
        assert plane.send("GET", path).status_code == 403
    assert [item["displayName"] for item in plane.ok("GET", "/subscriptions")["value"]] == ["First"]


def test_types_are_all_there_and_say_who_they_are(plane: ControlPlane) -> None:
    assert all(isinstance(kind, ResourceType) and kind.name == kind.type for kind in plane.registry)
    assert {"Microsoft.Authorization", "Microsoft.ManagedIdentity", "Microsoft.CognitiveServices"} <= set(
        plane.registry.namespaces()
    )


def test_what_is_waited_for_before_the_answer(plane: ControlPlane) -> None:
    plane.audit.records.clear()
    plane.audit.waited_for.clear()
    stranger = plane.principal("stranger")
    plane.ok("GET", f"/subscriptions/{S.rsplit('/', 1)[-1]}")
    assert plane.audit.waited_for == []
    plane.fails(403, "AuthorizationFailed", "GET", f"{IDENTITIES}/abc", by=stranger)
    plane.ok("PUT", f"{IDENTITIES}/abc", {"location": "local"})
    told = [(one.phase, one.decision) for one in plane.audit.waited_for]
    assert told == [("decision", "deny"), ("intent", "allow"), ("outcome", "allow")]
