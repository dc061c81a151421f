import base64
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import jwt
import pytest
from starlette.applications import Starlette

from stockade.identity import entra_wire, signing_keys
from stockade.identity.app import MAX_FORM_BYTES, routes
from stockade.identity.verify import verify
from stockade.kernel.faults import FaultKind
from stockade.kernel.principal import TokenCredential
from tests.factories.identity import AI, World

SCOPE = f"{AI}/.default"


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(Starlette(routes=routes(world.services)))
    async with httpx.AsyncClient(transport=transport, base_url=world.settings.authority) as made:
        yield made


async def ask(
    client: httpx.AsyncClient, world: World, path: str = "/oauth2/v2.0/token", **form: str | None
) -> httpx.Response:
    sent = {"grant_type": "client_credentials", "scope": SCOPE} | form
    tenant = sent.pop("tenant", world.tenant_id)
    return await client.post(
        f"/{tenant}{path}", data={name: value for name, value in sent.items() if value is not None}
    )


def error_of(response: httpx.Response) -> tuple[int, str, int]:
    body = response.json()
    assert set(body) == {"error", "error_description", "error_codes", "timestamp", "trace_id", "correlation_id"}
    [code] = body["error_codes"]
    assert body["error_description"].startswith(f"AADSTS{code}: ")
    assert (
        f"Trace ID: {body['trace_id']} Correlation ID: {body['correlation_id']} Timestamp: "
        in body["error_description"]
    )
    assert response.headers["cache-control"] == "no-store, no-cache"
    assert response.headers["x-ms-request-id"] == body["trace_id"]
    return response.status_code, body["error"], code


async def test_a_secret_earns_a_token_on_both_endpoints(client: httpx.AsyncClient, world: World) -> None:
    principal, secret = world.application()
    new = await ask(client, world, client_id=principal.app_id, client_secret=secret, client_info="1")
    assert new.status_code == 200
    assert {name: value for name, value in new.json().items() if name != "access_token"} == {
        "token_type": "Bearer",
        "expires_in": 3600,
        "ext_expires_in": 3600,
    }
    old = await ask(
        client, world, "/oauth2/token", client_id=principal.app_id, client_secret=secret, scope=None, resource=AI + "/"
    )
    body = old.json()
    assert (body["expires_in"], body["resource"]) == ("3600", AI + "/")
    assert int(body["expires_on"]) - int(body["not_before"]) == 3600
    for response in (new, old):
        found = verify(world.snapshot(), response.json()["access_token"], world.clock.now(), frozenset({AI}))
        assert isinstance(found, TokenCredential)
        assert found.object_id == principal.object_id


async def test_basic_authentication(client: httpx.AsyncClient, world: World) -> None:
    principal, secret = world.application()
    assert principal.app_id is not None
    good = base64.b64encode(f"{principal.app_id}:{secret.replace('~', '%7E')}".encode()).decode()
    path, form = f"/{world.tenant_id}/oauth2/v2.0/token", {"grant_type": "client_credentials", "scope": SCOPE}

    async def send(value: str, **more: str) -> httpx.Response:
        return await client.post(path, data=form | more, headers={"authorization": f"Basic {value}"})

    assert (await send(good)).status_code == 200
    assert (await send(good, client_id=principal.app_id, client_secret=secret)).status_code == 200
    assert error_of(await send(good, client_secret="another")) == (400, "invalid_request", 90023)
    assert error_of(await send("!!")) == (401, "invalid_client", 7000215)
    assert error_of(await send(base64.b64encode(b"nocolon").decode())) == (401, "invalid_client", 7000215)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"client_secret": "wrong"}, (401, "invalid_client", 7000215)),
        ({"client_secret": ""}, (401, "invalid_client", 7000218)),
        ({"client_secret": None}, (401, "invalid_client", 7000218)),
        ({"client_secret": "x" * 2000}, (401, "invalid_client", 7000215)),
        ({"client_id": None}, (400, "invalid_request", 900144)),
        ({"client_id": "00000000-0000-4000-8000-000000000000"}, (400, "unauthorized_client", 700016)),
        ({"tenant": "00000000-0000-4000-8000-000000000000"}, (400, "invalid_request", 90002)),
        ({"tenant": "contoso.example"}, (400, "invalid_request", 90002)),
        ({"tenant": "common"}, (400, "invalid_request", 50059)),
        ({"tenant": "organizations"}, (400, "invalid_request", 50059)),
        ({"grant_type": None}, (400, "invalid_request", 900144)),
        ({"grant_type": "password"}, (400, "unsupported_grant_type", 70003)),
        ({"scope": None}, (400, "invalid_request", 900144)),
        ({"scope": AI}, (400, "invalid_scope", 70011)),
        ({"scope": f"{SCOPE} openid"}, (400, "invalid_scope", 70011)),
        ({"scope": "https://example.com/.default"}, (400, "invalid_resource", 500011)),
        ({"scope": "/.default"}, (400, "invalid_request", 900144)),
        ({"client_assertion": "x"}, (400, "invalid_request", 90023)),
        ({"client_assertion": "x", "client_secret": None}, (400, "invalid_request", 900144)),
    ],
)
async def test_refusals(
    client: httpx.AsyncClient, world: World, changes: dict[str, str | None], expected: tuple[int, str, int]
) -> None:
    principal, secret = world.application()
    response = await ask(client, world, **({"client_id": principal.app_id, "client_secret": secret} | changes))
    assert error_of(response) == expected


async def test_a_malformed_assertion(client: httpx.AsyncClient, world: World) -> None:
    principal, _ = world.application()
    kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    response = await ask(client, world, client_id=principal.app_id, client_assertion="x", client_assertion_type=kind)
    assert error_of(response) == (401, "invalid_client", 50027)


async def test_disabled_deleted_and_expired(client: httpx.AsyncClient, world: World) -> None:
    principal, secret = world.application()
    login = {"client_id": principal.app_id, "client_secret": secret}
    with world.database.write() as writer:
        world.directory.set_enabled(writer, principal.object_id, False)
    assert error_of(await ask(client, world, **login)) == (400, "unauthorized_client", 7000112)
    with world.database.write() as writer:
        world.directory.set_enabled(writer, principal.object_id, True)
    world.manual.advance(731 * 86_400)
    assert error_of(await ask(client, world, **login)) == (401, "invalid_client", 7000222)
    with world.database.write() as writer:
        world.directory.delete(writer, principal.object_id)
    assert error_of(await ask(client, world, **login)) == (400, "unauthorized_client", 700016)


async def test_each_secret_works_until_it_is_removed(client: httpx.AsyncClient, world: World) -> None:
    principal, first = world.application()
    with world.database.write() as writer:
        second, info = world.directory.add_secret(writer, principal.object_id)
    for secret in (first, second.reveal_text()):
        assert (await ask(client, world, client_id=principal.app_id, client_secret=secret)).status_code == 200
    with world.database.write() as writer:
        world.directory.remove_credential(writer, principal.object_id, info.key_id)
    refused = await ask(client, world, client_id=principal.app_id, client_secret=second.reveal_text())
    assert error_of(refused) == (401, "invalid_client", 7000215)
    assert (await ask(client, world, client_id=principal.app_id, client_secret=first)).status_code == 200


async def test_tokens_are_signed_with_the_current_key_from_the_rotation_on(
    client: httpx.AsyncClient, world: World
) -> None:
    principal, secret = world.application()

    async def key_id() -> str:
        response = await ask(client, world, client_id=principal.app_id, client_secret=secret)
        return str(jwt.get_unverified_header(response.json()["access_token"])["kid"])

    first = await key_id()
    assert await key_id() == first
    with world.database.write() as writer:
        second = world.keys.rotate(writer, world.clock.now())
    assert await key_id() == second != first
    with world.database.write() as writer:
        for document in writer.list(signing_keys.TYPE):
            writer.remove(document)
    refused = await ask(client, world, client_id=principal.app_id, client_secret=secret)
    assert error_of(refused) == (503, "temporarily_unavailable", 90033)


async def test_bodies_that_are_no_form(client: httpx.AsyncClient, world: World) -> None:
    path, form = f"/{world.tenant_id}/oauth2/v2.0/token", {"content-type": "application/x-www-form-urlencoded"}

    async def send(content: bytes, headers: dict[str, str]) -> tuple[int, str, int]:
        return error_of(await client.post(path, content=content, headers=headers))

    assert await send(b"{}", {"content-type": "application/json"}) == (400, "invalid_request", 900144)
    assert await send(b"", form) == (400, "invalid_request", 900144)
    assert await send(b"a=%ff", form) == (400, "invalid_request", 90023)
    assert await send(b"grant_type=a&grant_type=b", form) == (400, "invalid_request", 90023)
    assert await send(b"a=1&" * 50, form) == (400, "invalid_request", 90023)
    assert await send(b"x" * (MAX_FORM_BYTES + 1), form) == (413, "invalid_request", 90023)
    assert error_of(await client.get(path)) == (405, "invalid_request", 900561)


async def test_the_callers_correlation_id_is_echoed(client: httpx.AsyncClient, world: World) -> None:
    path, sent = f"/{world.tenant_id}/oauth2/v2.0/token", "0f0f0f0f-0000-4000-8000-00000000000c"
    response = await client.post(path, data={}, headers={"client-request-id": sent})
    assert response.json()["correlation_id"] == sent
    response = await client.post(path, data={}, headers={"client-request-id": "not a guid"})
    assert response.json()["correlation_id"] == response.json()["trace_id"]


async def test_every_answer_is_recorded_without_secrets(client: httpx.AsyncClient, world: World) -> None:
    principal, secret = world.application()
    good = await ask(client, world, client_id=principal.app_id, client_secret=secret)
    await ask(client, world, client_id=principal.app_id, client_secret="stockade~guess")
    await ask(client, world, grant_type="password", client_id="evil\nline", password="hunter2")
    granted, refused, unread = world.audit.records
    assert (granted.decision, granted.principal, granted.application) == (
        "allow",
        principal.object_id,
        principal.app_id,
    )
    assert (granted.category, granted.phase, granted.operation) == (
        "Audit",
        "decision",
        "Stockade.Identity/tokens/issue",
    )
    assert granted.id == good.headers["x-ms-request-id"]
    assert (refused.decision, refused.reason, refused.principal) == ("deny", "7000215", principal.object_id)
    assert (unread.decision, unread.reason) == ("deny", "70003")
    written = repr(world.audit.records)
    for hidden in (secret, "guess", "hunter2", good.json()["access_token"], "\n"):
        assert hidden not in written


async def test_the_recorded_address_is_the_one_boot_works_out(world: World) -> None:
    services = replace(world.services, client_address=lambda peer, forwarded: f"{forwarded} by {peer}")
    transport = httpx.ASGITransport(Starlette(routes=routes(services)), client=("192.0.2.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url=world.settings.authority) as made:
        await made.post(f"/{world.tenant_id}/oauth2/v2.0/token", headers={"x-forwarded-for": "203.0.113.9"})
    assert world.audit.records[0].caller_address == "203.0.113.9 by 192.0.2.1"


async def test_nothing_is_issued_that_cannot_be_recorded(client: httpx.AsyncClient, world: World) -> None:
    principal, secret = world.application()
    world.audit.healthy = False
    response = await ask(client, world, client_id=principal.app_id, client_secret=secret)
    assert error_of(response) == (503, "temporarily_unavailable", 90033)
    assert response.headers["retry-after"] == "5"


async def test_a_bug_is_an_answer_without_details(
    client: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    principal, secret = world.application()
    monkeypatch.setattr("stockade.identity.tokens.issue", lambda *_, **__: 1 / 0)
    response = await ask(client, world, client_id=principal.app_id, client_secret=secret)
    assert error_of(response) == (500, "server_error", 90033)
    assert "division" not in response.text


@pytest.mark.parametrize("version", ["/v2.0", ""])
async def test_discovery(client: httpx.AsyncClient, world: World, version: str) -> None:
    base = f"{world.settings.authority}/{world.tenant_id}"
    found = (await client.get(f"/{world.tenant_id.upper()}{version}/.well-known/openid-configuration")).json()
    assert found["issuer"] == f"{base}/{version.strip('/')}"
    assert found["token_endpoint"] == f"{base}/oauth2{version}/token"
    assert found["jwks_uri"] == f"{base}/discovery{version}/keys"
    [key] = (await client.get(found["jwks_uri"])).json()["keys"]
    assert (key["kty"], key["use"], key["alg"]) == ("RSA", "sig", "RS256")
    assert not {"d", "p", "q", "dp", "dq", "qi"} & set(key)
    for named in ("common", "organizations"):
        found = (await client.get(f"/{named}{version}/.well-known/openid-configuration")).json()
        assert found["issuer"] == f"{world.settings.authority}/{{tenantid}}/{version.strip('/')}"
        assert (await client.get(found["jwks_uri"])).json()["keys"] == [key]
    unknown = await client.get(f"/00000000-0000-4000-8000-000000000000{version}/.well-known/openid-configuration")
    assert error_of(unknown) == (400, "invalid_request", 90002)


async def test_instance_discovery_knows_this_instance_only(client: httpx.AsyncClient, world: World) -> None:
    own = f"{world.settings.authority}/common/oauth2/v2.0/authorize"
    found = await client.get("/common/discovery/instance", params={"api-version": "1.1", "authorization_endpoint": own})
    assert found.json()["metadata"] == [
        {"preferred_network": "localhost:8444", "preferred_cache": "localhost:8444", "aliases": ["localhost:8444"]}
    ]
    for other in ("https://evil.example/common", "http://localhost:8444/common", ""):
        response = await client.get("/common/discovery/instance", params={"authorization_endpoint": other})
        assert error_of(response) == (400, "invalid_instance", 50049)


async def test_people_do_not_sign_in_here(client: httpx.AsyncClient, world: World) -> None:
    for path in ("oauth2/v2.0/authorize", "oauth2/v2.0/devicecode"):
        assert error_of(await client.get(f"/{world.tenant_id}/{path}")) == (400, "unsupported_response_type", 700051)


def test_every_kind_of_fault_has_its_answer() -> None:
    assert set(entra_wire.BY_KIND) == set(FaultKind)


async def test_too_many_at_once_are_told_to_wait(world: World) -> None:
    import asyncio
    import threading

    from stockade.kernel.faults import Fault
    from stockade.kernel.threads import BoundedThreads

    gate, threads = threading.Event(), BoundedThreads(1, 2)
    waiting = [asyncio.create_task(threads.run(gate.wait, 10)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Fault) as failure:
        await threads.run(gate.is_set)
    assert failure.value.kind is FaultKind.UNAVAILABLE
    gate.set()
    assert all(await asyncio.gather(*waiting))
    assert await threads.run(gate.is_set)
