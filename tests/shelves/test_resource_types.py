"""What every resource type keeps to. A new type is in here as soon as its folder exists; it only adds an example below.

Examples are the smallest resources that can be made, with what has to exist before them.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stockade.kernel.resource_id import ResourceId
from stockade.management.resource_type import ResourceType
from stockade.management.routing import Registry
from stockade.settings import Audit, Limits, Settings, Sink
from stockade.storage.documents import Document
from tests.factories.control_plane import AUTH, READER, RG, ControlPlane, S

GUID = "44444444-4444-4444-8444-44444444abcd"
COGNITIVE = f"{RG}/providers/Microsoft.CognitiveServices"
ACCOUNT = f"{COGNITIVE}/accounts/Account1"
ACCOUNT_BODY = {
    "location": "local",
    "kind": "OpenAI",
    "sku": {"name": "S0"},
    "properties": {"customSubDomainName": "account1"},
}
MODEL = {"format": "OpenAI", "name": "smollm2-135m-instruct", "version": "1"}


@dataclass(frozen=True)
class Example:
    """A resource of one type. In its body OWNER stands for a principal of the directory, TENANT for the tenant."""

    path: str
    body: Any
    patch: Any = None
    before: tuple[tuple[str, Any], ...] = ()
    kept: tuple[str, ...] = ("properties",)
    """Where an unknown property is put: the path to an object of the body."""
    versioned: bool = False
    """Its documents hold what the type makes of a body, not the body; a PUT changes nothing, or makes another version."""


ACCOUNT_FIRST = ((ACCOUNT, ACCOUNT_BODY),)
NETWORK = f"{RG}/providers/Microsoft.Network"
VNET = f"{NETWORK}/virtualNetworks/Net1"
VNET_BODY = {
    "location": "local",
    "properties": {
        "addressSpace": {"addressPrefixes": ["10.0.0.0/16"]},
        "subnets": [{"name": "First", "properties": {"addressPrefix": "10.0.0.0/24"}}],
    },
}
PERIMETER = f"{NETWORK}/networkSecurityPerimeters/Line1"
PERIMETER_FIRST = ((PERIMETER, {"location": "local"}), (f"{PERIMETER}/profiles/Profile1", {}))
VAULT = f"{RG}/providers/Microsoft.KeyVault/vaults/Vault-1"
VAULT_BODY = {
    "location": "local",
    "properties": {
        "tenantId": "TENANT",
        "sku": {"family": "A", "name": "standard"},
        "accessPolicies": [
            {"tenantId": "TENANT", "objectId": "OWNER", "permissions": {"keys": ["get"], "secrets": ["all"]}}
        ],
    },
}
EXAMPLES: dict[str, Example] = {
    "Microsoft.Resources/resourceGroups": Example(
        f"{S}/resourceGroups/Other",
        {"location": "local", "tags": {"a": "b"}},
        {"tags": {"c": "d"}},
        kept=(),
    ),
    "Microsoft.ManagedIdentity/userAssignedIdentities": Example(
        f"{RG}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/Robot",
        {"location": "local", "tags": {"a": "b"}},
        {"tags": {"c": "d"}},
    ),
    "Microsoft.Authorization/roleDefinitions": Example(
        f"{S}{AUTH}/roleDefinitions/{GUID}",
        {"properties": {"roleName": "Special", "permissions": [{"actions": ["*/read"]}], "assignableScopes": [S]}},
    ),
    "Microsoft.Authorization/roleAssignments": Example(
        f"{RG}{AUTH}/roleAssignments/{GUID}",
        {"properties": {"roleDefinitionId": f"{S}{AUTH}/roleDefinitions/{READER}", "principalId": "OWNER"}},
    ),
    "Microsoft.Authorization/denyAssignments": Example(
        f"{RG}{AUTH}/denyAssignments/{GUID}",
        {
            "properties": {
                "denyAssignmentName": "no secrets",
                "permissions": [{"actions": ["Microsoft.CognitiveServices/accounts/listKeys/action"]}],
                "principals": [{"id": "OWNER"}],
            }
        },
    ),
    "Microsoft.CognitiveServices/accounts": Example(ACCOUNT, ACCOUNT_BODY, {"tags": {"c": "d"}}),
    "Microsoft.CognitiveServices/accounts/deployments": Example(
        f"{ACCOUNT}/deployments/Chat",
        {"sku": {"name": "Standard", "capacity": 1}, "properties": {"model": MODEL}},
        {"tags": {"c": "d"}},
        ACCOUNT_FIRST,
    ),
    "Microsoft.CognitiveServices/accounts/privateEndpointConnections": Example(
        f"{ACCOUNT}/privateEndpointConnections/Pe1",
        {
            "properties": {
                "privateLinkServiceConnectionState": {"status": "Approved", "description": "d"},
                "groupIds": ["account"],
            }
        },
        before=ACCOUNT_FIRST,
    ),
    "Microsoft.Network/virtualNetworks": Example(VNET, VNET_BODY, {"tags": {"c": "d"}}),
    "Microsoft.Network/virtualNetworks/subnets": Example(
        f"{VNET}/subnets/Second",
        {
            "properties": {
                "addressPrefix": "10.0.1.0/24",
                "serviceEndpoints": [{"service": "Microsoft.CognitiveServices"}],
            }
        },
        before=((VNET, VNET_BODY),),
    ),
    "Microsoft.Network/privateEndpoints": Example(
        f"{NETWORK}/privateEndpoints/Endpoint1",
        {
            "location": "local",
            "properties": {
                "subnet": {"id": f"{VNET}/subnets/First"},
                "privateLinkServiceConnections": [
                    {"name": "c", "properties": {"privateLinkServiceId": ACCOUNT, "groupIds": ["account"]}}
                ],
            },
        },
        before=(*ACCOUNT_FIRST, (VNET, VNET_BODY)),
    ),
    "Microsoft.Network/networkSecurityPerimeters": Example(
        PERIMETER, {"location": "local", "tags": {"a": "b"}}, {"tags": {"c": "d"}}
    ),
    "Microsoft.Network/networkSecurityPerimeters/profiles": Example(
        f"{PERIMETER}/profiles/Other", {}, before=PERIMETER_FIRST
    ),
    "Microsoft.Network/networkSecurityPerimeters/profiles/accessRules": Example(
        f"{PERIMETER}/profiles/Profile1/accessRules/Rule1",
        {"properties": {"direction": "Inbound", "addressPrefixes": ["203.0.113.0/24"]}},
        before=PERIMETER_FIRST,
    ),
    "Microsoft.Network/networkSecurityPerimeters/resourceAssociations": Example(
        f"{PERIMETER}/resourceAssociations/Association1",
        {
            "properties": {
                "privateLinkResource": {"id": ACCOUNT},
                "profile": {"id": f"{PERIMETER}/profiles/Profile1"},
                "accessMode": "Enforced",
            }
        },
        before=(*ACCOUNT_FIRST, *PERIMETER_FIRST),
    ),
    "Microsoft.CognitiveServices/accounts/encryptionScopes": Example(
        f"{ACCOUNT}/encryptionScopes/Scope1",
        {"properties": {"keySource": "Microsoft.CognitiveServices", "state": "Enabled"}},
        before=ACCOUNT_FIRST,
    ),
    "Microsoft.CognitiveServices/accounts/raiPolicies": Example(
        f"{ACCOUNT}/raiPolicies/Policy1",
        {"properties": {"basePolicyName": "Microsoft.Default", "mode": "Blocking", "contentFilters": []}},
        before=ACCOUNT_FIRST,
    ),
    "Stockade.Access/skuRequests": Example(
        f"{S}/providers/Stockade.Access/skuRequests/Request1",
        {"properties": {"kind": "Face", "location": "local", "reason": "to rehearse", "contact": "ops@example.com"}},
    ),
    "Stockade.Access/roleRequests": Example(
        f"{RG}/providers/Stockade.Access/roleRequests/Request1",
        {"properties": {"roleName": "Reader", "durationMinutes": 60, "reason": "to look"}},
    ),
    "Microsoft.Insights/diagnosticSettings": Example(
        f"{ACCOUNT}/providers/Microsoft.Insights/diagnosticSettings/Setting1",
        {
            "properties": {
                "workspaceId": "/providers/Stockade.Audit/sinks/siem",
                "logs": [{"categoryGroup": "allLogs", "enabled": True}],
            }
        },
        before=ACCOUNT_FIRST,
    ),
    "Stockade.Audit/retentionPolicies": Example(
        f"{S}/providers/Stockade.Audit/retentionPolicies/Default",
        {"properties": {"days": 500}},
    ),
    "Microsoft.CognitiveServices/accounts/defenderForAISettings": Example(
        f"{ACCOUNT}/defenderForAISettings/Default",
        {"properties": {"state": "Disabled"}},
        {"properties": {"note": "x"}},
        ACCOUNT_FIRST,
    ),
    "Microsoft.KeyVault/vaults": Example(VAULT, VAULT_BODY, {"tags": {"c": "d"}}),
    "Microsoft.KeyVault/vaults/keys": Example(
        f"{VAULT}/keys/Key1", {"properties": {"kty": "EC"}}, before=((VAULT, VAULT_BODY),), versioned=True
    ),
    "Microsoft.KeyVault/vaults/secrets": Example(
        f"{VAULT}/secrets/Secret1",
        {"properties": {"value": "v"}},
        {"tags": {"c": "d"}},
        before=((VAULT, VAULT_BODY),),
        versioned=True,
    ),
}
REGISTRY = Registry.load()
WRITABLE = sorted(kind.type for kind in REGISTRY if "PUT" in kind.methods)


@dataclass
class Made:
    """A resource that was just put."""

    plane: ControlPlane
    kind: ResourceType
    example: Example
    body: Any
    shown: Any

    @property
    def path(self) -> str:
        return self.example.path

    def document(self) -> Document:
        with self.plane.database.read() as reader:
            found = reader.get(self.kind.stored_as(ResourceId.parse(self.path)).key)
        assert found is not None
        return found


def _filled(value: Any, named: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(part, named) for name, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, named) for part in value]
    return named.get(value, value) if isinstance(value, str) else value


@pytest.fixture(params=WRITABLE)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Made]:
    example = EXAMPLES.get(request.param)
    assert example is not None, f"give {request.param} an example in {__file__}"
    sink = Sink("siem", "http", "https://siem.example/in")
    settings = Settings(data_dir=tmp_path, limits=Limits(body_timeout_s=5), audit=Audit(sinks=(sink,)))
    plane = ControlPlane(tmp_path, settings=settings)
    kind = next(item for item in plane.registry if item.type == request.param)
    named = {"OWNER": plane.principal("subject").object_id, "TENANT": plane.tenant_id}
    for path, body in example.before:
        plane.ok("PUT", path, _filled(body, named))
    body = _filled(example.body, named)
    reply = plane.send("PUT", example.path, body)
    assert reply.status_code in (kind.created_status, kind.replaced_status), reply.text
    yield Made(plane, kind, example, body, reply.json())
    plane.close()


def _steady(body: Any) -> Any:
    """Return a body without what says when it was written."""
    properties = {
        name: value for name, value in body.get("properties", {}).items() if name not in ("updatedOn", "createdOn")
    }
    for names_a_version in ("secretUriWithVersion",):
        properties.pop(names_a_version, None)
    return {
        **{name: value for name, value in body.items() if name not in ("etag", "systemData")},
        "properties": properties,
    }


def test_every_example_is_of_a_type_that_is_there() -> None:
    assert set(EXAMPLES) == set(WRITABLE)


def test_ids_compare_without_case_and_keep_their_spelling(made: Made) -> None:
    for path in (made.path.lower(), made.path.upper(), made.path):
        assert _steady(made.plane.ok("GET", path)) == _steady(made.shown)
    assert made.shown["type"] == made.kind.type
    assert made.shown["id"].endswith("/" + made.shown["name"])
    assert made.shown["name"].lower() == made.path.rsplit("/", 1)[-1].lower()


def test_put_twice_is_put_once(made: Made) -> None:
    again = made.plane.send("PUT", made.path.lower(), made.body)
    assert again.status_code == made.kind.replaced_status
    assert _steady(again.json()) == _steady(made.shown)


def test_what_was_shown_can_be_put_back(made: Made) -> None:
    again = made.plane.ok("PUT", made.path, made.plane.ok("GET", made.path))
    assert _steady(again) == _steady(made.shown)


def test_it_is_in_its_list_once(made: Made) -> None:
    collection = made.path.rsplit("/", 1)[0]
    listed = [
        item for item in made.plane.ok("GET", collection)["value"] if item["id"].lower() == made.shown["id"].lower()
    ]
    assert [_steady(item) for item in listed] == [_steady(made.plane.ok("GET", made.path))]


def test_patch_keeps_what_it_does_not_name(made: Made) -> None:
    if "PATCH" not in made.kind.methods:
        made.plane.fails(405, "MethodNotAllowed", "PATCH", made.path, {})
        return
    before = made.plane.ok("GET", made.path)
    assert _steady(made.plane.ok("PATCH", made.path, {})) == _steady(before)
    assert made.example.patch is not None, f"give {made.kind.type} a patch"
    reply = made.plane.send("PATCH", made.path, made.example.patch)
    assert reply.status_code == 200  # az takes 201 for a failure
    after = reply.json()
    for name in before.keys() - made.example.patch.keys() - {"etag", "systemData"}:
        assert after[name] == before[name]
    assert _steady(after) != _steady(before)


def test_unknown_properties_are_kept(made: Made) -> None:
    if made.example.versioned:
        pytest.skip("keeps no bodies")
    body = {**made.body, "properties": {**made.body.get("properties", {})}}
    place = body
    for name in made.example.kept:
        place = place[name]
    place["ofTheFuture"] = {"Deep": [1, {"x": None}]}
    shown = made.plane.ok("PUT", made.path, body)
    for name in made.example.kept:
        shown = shown[name]
    assert shown["ofTheFuture"] == {"Deep": [1, {"x": None}]}


def test_after_delete_there_is_nothing(made: Made) -> None:
    if "DELETE" not in made.kind.methods:
        made.plane.fails(405, "MethodNotAllowed", "DELETE", made.path)
        return
    assert made.plane.send("DELETE", made.path.upper()).status_code in (200, 202, 204)
    assert made.plane.send("GET", made.path).status_code == 404
    assert made.plane.send("HEAD", made.path).status_code == 404
    assert made.plane.send("DELETE", made.path).status_code == 204


def test_compile_is_pure_and_deterministic(made: Made) -> None:
    document = made.document()
    frozen = pickle.dumps(document)
    first, second = list(made.kind.compile(document)), list(made.kind.compile(document))
    assert first == second
    assert pickle.dumps(document) == frozen
    for index, key, _ in first:
        assert isinstance(index, str)
        hash(key)


def test_a_caller_without_rights_changes_nothing_and_learns_nothing(made: Made) -> None:
    stranger = made.plane.principal("stranger")
    name = made.path.rsplit("/", 1)[-1]
    other = "55555555-5555-4555-8555-55555555dcba" if name == GUID else "Elsewhere"
    generation = made.document().generation
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE"):
        body = made.body if method in ("PUT", "PATCH") else None
        told = set()
        for path in (made.path, made.path.replace(name, other)):
            reply = made.plane.send(method, path, body, by=stranger)
            told.add((reply.status_code, reply.text.replace(reply.headers["x-ms-request-id"], "").replace(path, "")))
        assert len(told) == 1
        assert told.pop()[0] in (403, 405)
    for action in made.kind.actions:
        assert made.plane.send(action.method, f"{made.path}/{action.name}", {}, by=stranger).status_code == 403
    assert made.document().generation == generation


def test_garbage_is_refused_cleanly(made: Made) -> None:
    before = made.plane.ok("GET", made.path)
    for garbage in ({"properties": 5}, {"properties": [1]}, {"location": 7, "properties": "x"}):
        reply = made.plane.send("PUT", made.path, garbage)
        assert reply.status_code in (400, 404, 409), (garbage, reply.text)
        assert reply.json()["error"]["code"] and reply.json()["error"]["message"]
    assert _steady(made.plane.ok("GET", made.path)) == _steady(before)


def test_permissions_are_of_the_types_own_namespace(made: Made) -> None:
    namespace = made.kind.type.partition("/")[0]
    for permission in (f"{made.kind.permissions_prefix}/read", *(action.permission for action in made.kind.actions)):
        assert permission.startswith(namespace + "/")
        assert permission.rsplit("/", 1)[-1] in ("read", "write", "delete", "action")
