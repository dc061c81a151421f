from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from stockade.identity import graph
from stockade.kernel.faults import FaultKind
from tests.factories.identity import AI, World

IDENTITY = "/subscriptions/11111111-1111-4111-8111-111111111111/resourceGroups/r/providers/Microsoft.CognitiveServices/accounts/a"
GRAPH = "https://graph.microsoft.com"


class Asker:
    def __init__(self, world: World, client: httpx.AsyncClient) -> None:
        self.world, self.client = world, client
        self.principal, _ = world.application("asker")
        self.token = world.token(self.principal, GRAPH)

    async def get(self, path: str, **query: str) -> Any:
        response = await self.client.get(
            f"/v1.0/{path}", params=query, headers={"authorization": f"Bearer {self.token}"}
        )
        return (
            response.json() if response.status_code == 200 else (response.status_code, response.json()["error"]["code"])
        )

    async def post(self, path: str, body: Any) -> Any:
        response = await self.client.post(f"/v1.0/{path}", json=body, headers={"authorization": f"Bearer {self.token}"})
        return (
            response.json() if response.status_code == 200 else (response.status_code, response.json()["error"]["code"])
        )

    async def ids(self, path: str, **query: str) -> list[str]:
        return [item["id"] for item in (await self.get(path, **query))["value"]]


@pytest.fixture
async def asker(world: World) -> AsyncIterator[Asker]:
    transport = httpx.ASGITransport(Starlette(routes=graph.routes(world.services)))
    async with httpx.AsyncClient(transport=transport, base_url=world.settings.arm_endpoint) as client:
        yield Asker(world, client)


async def test_az_finds_the_object_id_of_an_application_id(asker: Asker) -> None:
    principal, _ = asker.world.application("target")
    found = await asker.get(
        "servicePrincipals", **{"$filter": f"servicePrincipalNames/any(c:c eq '{principal.app_id}')"}
    )
    [item] = found["value"]
    assert (item["id"], item["appId"], item["displayName"]) == (principal.object_id, principal.app_id, "target")
    assert item["@odata.type"] == "#microsoft.graph.servicePrincipal"
    assert item["servicePrincipalType"] == "Application"
    assert found["@odata.context"] == "https://localhost:8444/v1.0/$metadata#servicePrincipals"


async def test_filters(asker: Asker) -> None:
    target, _ = asker.world.application("O'Hara's app")
    with asker.world.database.write() as writer:
        identity = asker.world.directory.create_managed_identity(writer, IDENTITY, "SystemAssigned")
        user = asker.world.directory.register_external(
            writer, "0f0f0f0f-0000-4000-8000-00000000000d", "ann@example.com", "User", "https://idp.example"
        )
        group = asker.world.directory.create_group(writer, "Readers")
    assert await asker.ids("servicePrincipals", **{"$filter": "displayName eq 'o''hara''s APP'"}) == [target.object_id]
    assert await asker.ids("servicePrincipals", **{"$filter": "startswith(displayName,'O''H')"}) == [target.object_id]
    assert await asker.ids("servicePrincipals", **{"$filter": f"id eq '{identity.object_id}'"}) == [identity.object_id]
    assert await asker.ids("applications", **{"$filter": f"appId eq '{target.app_id}'"}) == [target.object_id]
    assert await asker.ids("applications", **{"$filter": f"appId eq '{identity.app_id}'"}) == []
    assert await asker.ids("users", **{"$filter": "userPrincipalName eq 'ann@example.com'"}) == [user.object_id]
    assert await asker.ids("users", **{"$filter": f"id eq '{target.object_id}'"}) == []
    assert await asker.ids("groups", **{"$filter": "startswith(displayName,'read')"}) == [group.object_id]
    assert await asker.ids("servicePrincipals", **{"$filter": f"appId eq '{'0' * 36}'"}) == []
    for wrong in ("displayName ne 'x'", "secrets eq 'x'", "displayName eq 'x' or 1 eq 1", "displayName eq 'x"):
        assert await asker.get("servicePrincipals", **{"$filter": wrong}) == (400, "Request_UnsupportedQuery")


async def test_single_objects(asker: Asker) -> None:
    with asker.world.database.write() as writer:
        group = asker.world.directory.create_group(writer, "Readers")
        asker.world.directory.add_member(writer, group.object_id, asker.principal.object_id)
    own = asker.principal.object_id
    assert (await asker.get("me"))["id"] == own
    assert (await asker.get(f"servicePrincipals/{own}"))["id"] == own
    assert (await asker.get(f"directoryObjects/{group.object_id}"))["displayName"] == "Readers"
    assert (await asker.get(f"groups/{group.object_id}"))["securityEnabled"] is True
    assert await asker.ids(f"groups/{group.object_id}/members") == [own]
    assert (await asker.post(f"servicePrincipals/{own}/getMemberObjects", {"securityEnabledOnly": False}))["value"] == [
        group.object_id
    ]
    for missing in (f"users/{own}", f"groups/{own}", "servicePrincipals/x", f"servicePrincipals/{group.object_id}"):
        assert await asker.get(missing) == (404, "Request_ResourceNotFound")


async def test_get_by_ids(asker: Asker) -> None:
    with asker.world.database.write() as writer:
        group = asker.world.directory.create_group(writer, "g")
    own = asker.principal.object_id
    ids = [own, group.object_id, own, "0f0f0f0f-0000-4000-8000-00000000000e", "nonsense"]
    found = await asker.post("directoryObjects/getByIds", {"ids": ids, "types": ["user", "group", "servicePrincipal"]})
    assert [item["id"] for item in found["value"]] == [own, group.object_id]
    found = await asker.post("directoryObjects/getByIds", {"ids": ids, "types": ["group"]})
    assert [item["@odata.type"] for item in found["value"]] == ["#microsoft.graph.group"]
    for wrong in ({}, {"ids": "x"}, {"ids": [1]}, {"ids": ["x"] * 1001}, []):
        assert await asker.post("directoryObjects/getByIds", wrong) == (400, "Request_BadRequest")


async def test_pages(asker: Asker) -> None:
    for number in range(6):
        asker.world.application(f"p{number}")
    query = {"$top": "4", "$filter": "startswith(displayName,'p')"}
    first = await asker.get("servicePrincipals", **query)
    assert len(first["value"]) == 4
    url = httpx.URL(first["@odata.nextLink"])
    assert str(url).startswith("https://localhost:8444/v1.0/servicePrincipals?")
    second = await asker.get("servicePrincipals", **dict(url.params))
    assert len(second["value"]) == 2
    assert "@odata.nextLink" not in second
    assert len({item["id"] for item in first["value"] + second["value"]}) == 6
    for wrong in ("0", "1000", "x", "-1", "9" * 50):
        assert await asker.get("servicePrincipals", **{"$top": wrong}) == (400, "Request_BadRequest")


async def test_only_principals_of_this_directory_may_read(asker: Asker) -> None:
    async def status(authorization: str | None) -> int:
        headers = {"authorization": authorization} if authorization is not None else {}
        response = await asker.client.get("/v1.0/me", headers=headers)
        assert set(response.json()["error"]["innerError"]) == {"date", "request-id", "client-request-id"}
        return response.status_code

    assert await status(None) == 401
    assert await status("Basic x") == 401
    assert await status("Bearer x.y.z") == 401
    assert await status(f"Bearer {asker.world.token(asker.principal, AI)}") == 401
    token = asker.world.token(asker.principal, "https://management.core.windows.net/")
    assert (await asker.client.get("/v1.0/me", headers={"authorization": f"Bearer {token}"})).status_code == 200
    with asker.world.database.write() as writer:
        asker.world.directory.delete(writer, asker.principal.object_id)
    assert await status(f"Bearer {token}") == 401


async def test_nothing_secret_is_shown(asker: Asker) -> None:
    _, secret = asker.world.application("target")
    text = str(await asker.get("servicePrincipals")) + str(await asker.get("applications"))
    assert secret not in text
    assert "digest" not in text
    assert "hint" not in text


def test_every_kind_of_fault_has_its_answer() -> None:
    assert set(graph.BY_KIND) == set(FaultKind)
