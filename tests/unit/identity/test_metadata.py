from collections.abc import AsyncIterator

import httpx
import pytest

from stockade.identity import metadata
from stockade.identity.audiences import arm_audiences
from stockade.identity.metadata import BURST, identity_header, metadata_app
from stockade.identity.principals import Principal
from stockade.identity.signing_keys import TOKEN_LIFE_S
from stockade.identity.verify import verify
from stockade.kernel.faults import FaultKind
from stockade.kernel.principal import TokenCredential
from stockade.settings import Metadata, Settings
from tests.factories.identity import World

PREFIX = "/subscriptions/11111111-1111-4111-8111-111111111111/resourceGroups/r/providers/"
OFFERED = PREFIX + "Microsoft.ManagedIdentity/userAssignedIdentities/Offered"
HIDDEN = PREFIX + "Microsoft.ManagedIdentity/userAssignedIdentities/hidden"
ACCOUNT = PREFIX + "Microsoft.CognitiveServices/accounts/a"
ARM = "https://management.azure.com"
IMDS = "/metadata/identity/oauth2/token"
MSI = "/msi/token"


class Machine:
    def __init__(self, world: World, client: httpx.AsyncClient) -> None:
        self.world, self.client = world, client
        with world.database.write() as writer:
            self.machine = world.directory.machine_identity(writer)
            self.offered = world.directory.create_managed_identity(writer, OFFERED, "UserAssigned")
            self.hidden = world.directory.create_managed_identity(writer, HIDDEN, "UserAssigned")
            self.account = world.directory.create_managed_identity(writer, ACCOUNT, "SystemAssigned")

    async def imds(
        self, path: str = IMDS, headers: dict[str, str] | None = None, **query: str | None
    ) -> httpx.Response:
        sent = {"api-version": "2018-02-01", "resource": ARM} | query
        used = {"metadata": "true"} if headers is None else headers
        return await self.client.get(
            path, params={name: value for name, value in sent.items() if value is not None}, headers=used
        )

    async def msi(self, secret: str, header: str = "x-identity-header", **query: str) -> httpx.Response:
        return await self.client.get(
            MSI, params={"api-version": "2019-08-01", "resource": ARM} | query, headers={header: secret}
        )

    def header(self, principal: Principal) -> str:
        return identity_header(self.world.root_key, principal.object_id).reveal_text()

    def whose(self, response: httpx.Response) -> str:
        assert response.status_code == 200, response.text
        body = response.json()
        assert all(isinstance(value, str) for value in body.values())
        assert int(body["expires_on"]) - self.world.clock.now() == int(body["expires_in"])
        found = verify(
            self.world.snapshot(), body["access_token"], self.world.clock.now(), arm_audiences(self.world.settings)
        )
        assert isinstance(found, TokenCredential)
        assert found.app_id == body["client_id"]
        return found.object_id


@pytest.fixture
def world(tmp_path) -> World:
    return World(
        tmp_path, Settings(data_dir=tmp_path, metadata=Metadata(user_assigned=(OFFERED.upper(), PREFIX + "x/y/z")))
    )


@pytest.fixture
async def machine(world: World) -> AsyncIterator[Machine]:
    transport = httpx.ASGITransport(metadata_app(world.services))
    async with httpx.AsyncClient(transport=transport, base_url=world.settings.metadata_endpoint) as client:
        yield Machine(world, client)


async def test_the_machine_has_an_identity(machine: Machine) -> None:
    for path in (IMDS, IMDS + "/"):
        response = await machine.imds(path)
        assert machine.whose(response) == machine.machine.object_id
        assert response.json()["resource"] == ARM
    assert set(response.json()) == {
        "access_token",
        "client_id",
        "expires_in",
        "expires_on",
        "ext_expires_in",
        "not_before",
        "resource",
        "token_type",
    }


async def test_user_assigned_identities_are_served_when_the_operator_says_so(machine: Machine) -> None:
    offered = machine.offered
    for query in (
        {"client_id": offered.app_id},
        {"object_id": offered.object_id},
        {"msi_res_id": OFFERED},
        {"mi_res_id": OFFERED.lower() + "/"},
        {"client_id": offered.app_id, "object_id": offered.object_id.upper()},
    ):
        assert machine.whose(await machine.imds(**query)) == offered.object_id
    assert machine.whose(await machine.imds(client_id=machine.machine.app_id)) == machine.machine.object_id
    for query in (
        {"client_id": machine.hidden.app_id},
        {"object_id": machine.account.object_id},
        {"msi_res_id": HIDDEN},
        {"client_id": offered.app_id, "object_id": machine.hidden.object_id},
        {"client_id": "nobody"},
    ):
        response = await machine.imds(**query)
        assert (response.status_code, response.json()) == (
            400,
            {"error": "invalid_request", "error_description": "Identity not found"},
        )


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({}, {}, 400),
        ({"metadata": "false"}, {}, 400),
        ({"metadata": "true", "x-forwarded-for": "203.0.113.1"}, {}, 400),
        ({"metadata": "true", "host": "rebound.example:8445"}, {}, 400),
        ({"metadata": "true", "host": "localhost.evil.example"}, {}, 400),
        ({"metadata": "true", "host": "127.0.0.1.evil.example:80"}, {}, 400),
        ({"metadata": "true", "host": "169.254.169.254"}, {}, 200),
        ({"metadata": "true", "host": "[::1]:8445"}, {}, 200),
        ({"metadata": "true", "host": "LOCALHOST:8445"}, {}, 200),
        ({"metadata": "true"}, {"resource": None}, 400),
        ({"metadata": "true"}, {"api-version": None}, 400),
        ({"metadata": "true"}, {"resource": "x" * 3000}, 400),
        ({"metadata": "true"}, {"client_id": "a", "clientid": "b"}, 400),
    ],
)
async def test_what_keeps_strangers_out(
    machine: Machine, headers: dict[str, str], query: dict[str, str | None], status: int
) -> None:
    response = await machine.imds(headers=headers, **query)
    assert response.status_code == status
    assert ("access_token" in response.json()) is (status == 200)


async def test_other_methods_and_resources(machine: Machine) -> None:
    response = await machine.client.post(IMDS, headers={"metadata": "true"})
    assert response.status_code == 405
    response = await machine.imds(resource="https://example.com")
    assert (response.status_code, response.json()["error"]) == (400, "invalid_resource")
    assert response.json()["error_description"].startswith("AADSTS500011: ")


async def test_the_app_service_header_selects_the_identity(machine: Machine) -> None:
    for principal in (machine.account, machine.hidden, machine.machine):
        secret = machine.header(principal)
        assert machine.whose(await machine.msi(secret)) == principal.object_id
        assert machine.whose(await machine.msi(secret, client_id=principal.app_id or "")) == principal.object_id
        legacy = await machine.msi(
            secret, "secret", **{"api-version": "2017-09-01", "clientid": principal.app_id or ""}
        )
        assert machine.whose(legacy) == principal.object_id
    mismatch = await machine.msi(machine.header(machine.account), client_id=machine.hidden.app_id or "")
    assert (mismatch.status_code, mismatch.json()["message"]) == (400, "Identity not found")


async def test_wrong_app_service_headers(machine: Machine) -> None:
    good = machine.header(machine.account)
    other = machine.header(machine.hidden)
    swapped = f"{machine.account.object_id}.{other.partition('.')[2]}"
    for wrong in (
        "",
        "x",
        good[:-1],
        good + "A",
        swapped,
        machine.account.object_id,
        ".",
        identity_header(machine.world.root_key, "").reveal_text(),
    ):
        response = await machine.msi(wrong)
        assert response.status_code == 401
        assert set(response.json()) == {"statusCode", "message", "correlationId"}
    assert (await machine.msi(good, **{"api-version": "2099-01-01"})).status_code == 400
    assert (await machine.msi(good, "secret")).status_code == 401


async def test_a_deleted_identity_gets_nothing_more(machine: Machine) -> None:
    good = machine.header(machine.account)
    token = (await machine.msi(good)).json()["access_token"]
    with machine.world.database.write() as writer:
        machine.world.directory.delete_managed_identity(writer, ACCOUNT)
    assert (await machine.msi(good)).status_code == 400
    found = verify(machine.world.snapshot(), token, machine.world.clock.now(), arm_audiences(machine.world.settings))
    assert not isinstance(found, TokenCredential)


async def test_tokens_are_given_out_again_for_half_their_life(machine: Machine) -> None:
    first = (await machine.imds()).json()["access_token"]
    assert (await machine.imds()).json()["access_token"] == first
    assert (await machine.imds(resource="https://vault.azure.net")).json()["access_token"] != first
    machine.world.manual.advance(TOKEN_LIFE_S / 2 + 1)
    assert (await machine.imds()).json()["access_token"] != first


async def test_a_loop_is_slowed_down_and_told_when_to_come_back(machine: Machine) -> None:
    for _ in range(int(BURST)):
        assert (await machine.imds()).status_code == 200
    slowed = await machine.imds()
    assert (slowed.status_code, slowed.headers["retry-after"]) == (429, "1")
    assert machine.whose(await machine.imds(client_id=machine.offered.app_id)) == machine.offered.object_id
    machine.world.manual.advance(1)
    assert (await machine.imds()).status_code == 200


async def test_refusals_have_an_allowance_of_their_own(machine: Machine) -> None:
    statuses = [(await machine.msi("guess")).status_code for _ in range(int(BURST) + 5)]
    assert statuses.count(401) == BURST
    assert statuses[-1] == 429
    assert (await machine.imds()).status_code == 200


async def test_every_answer_is_recorded(machine: Machine) -> None:
    token = (await machine.imds()).json()["access_token"]
    await machine.msi("stolen")
    granted, refused = machine.world.audit.records
    assert (granted.decision, granted.principal, granted.resource) == ("allow", machine.machine.object_id, ARM)
    assert (refused.decision, refused.reason) == ("deny", "Unauthenticated")
    assert "stolen" not in repr(machine.world.audit.records)
    assert token not in repr(machine.world.audit.records)
    machine.world.audit.healthy = False
    assert (await machine.imds()).status_code == 503


def test_every_kind_of_fault_has_its_answer() -> None:
    assert set(metadata.BY_KIND) == set(FaultKind)
