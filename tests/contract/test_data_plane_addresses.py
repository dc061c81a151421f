"""Who is addressed, and from where: hosts, paths, networks. What cannot be read in one way only is nobody's address."""

from __future__ import annotations

import pytest

from stockade.gateway.app import Gateway
from stockade.settings import Names
from tests.factories.data_plane import CHAT, VERSION, Account, Answer, DataPlane, ask

NOT_FOUND = {"error": {"code": "404", "message": "Resource not found"}}
MODELS = "/openai/v1/models"


class Ground:
    def __init__(self, plane: DataPlane) -> None:
        self.plane = plane
        self.account: Account = plane.account("one")
        deleted = plane.account("deleted")
        plane.delete(deleted)
        self.gateway: Gateway = plane.gateway()

    async def get(
        self,
        path: str,
        *headers: tuple[str, str],
        host: str = "localhost:8443",
        query: str = "",
        client: str = "127.0.0.1:5",
    ) -> Answer:
        key = ("api-key", self.account.key)
        return await ask(
            self.gateway, path, key, *headers, host=host, method="GET", body=None, query=query, client=client
        )


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    names = Names(domain="Example.Test", location="WestLab")
    return Ground(DataPlane(tmp_path_factory.mktemp("addresses"), names=names, trusted_proxies=("10.0.0.0/8",)))


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("localhost:8443", "/one/openai/v1/models"),
        ("localhost", "/ONE/OpenAI/V1/Models"),
        ("one.ai.example.test:8443", MODELS),
        ("One.AI.Example.TEST", MODELS),
        ("one.ai.example.test.", MODELS),
        ("westlab.api.example.test", MODELS),
        ("localhost:8443", MODELS),
        ("127.0.0.1:8443", "/one/openai/v1/models"),
        ("[::1]:8443", "/one/openai/v1/models"),
    ],
)
async def test_account_answers_at_its_addresses(ground: Ground, host: str, path: str) -> None:
    assert (await ground.get(path, host=host)).status == 200


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("localhost:8443", "/never/openai/v1/models"),
        ("localhost:8443", "/deleted/openai/v1/models"),
        ("never.ai.example.test", MODELS),
        ("deleted.ai.example.test", MODELS),
        ("one.two.ai.example.test", MODELS),
        (".ai.example.test", MODELS),
        ("ai.example.test", MODELS.replace("/openai", "/never")),
        ("localhost:8443", "/"),
        ("localhost:8443", ""),
        ("localhost:8443", "*"),
        ("localhost:8443", "/one"),
        ("localhost:8443", "/one/"),
        ("localhost:8443", "/one/openai"),
        ("localhost:8443", "/one/openai/v1/nothing"),
        ("localhost:8443", "/one/openai/v1/models/"),
        ("localhost:8443", "/one/one/openai/v1/models"),
    ],
)
async def test_unknown_host_account_or_path_gets_one_answer(ground: Ground, host: str, path: str) -> None:
    answer = await ground.get(path, host=host)
    assert (answer.status, answer.json) == (404, NOT_FOUND)


async def test_deleted_account_cannot_be_told_from_one_that_never_was(ground: Ground) -> None:
    def shape(answer: Answer) -> tuple[int, bytes, list[str]]:
        return answer.status, answer.body, sorted(set(answer.headers))

    for below in ("/openai/v1/models", "/nothing", CHAT):
        assert shape(await ground.get("/deleted" + below)) == shape(await ground.get("/never" + below))


async def test_two_slashes_where_endpoint_and_path_meet_are_one(ground: Ground) -> None:
    """Most of Azure's clients put one after an endpoint that ends with one."""
    assert (await ground.get("/one//openai/v1/models")).status == 200
    assert (await ground.get("//openai/v1/models", host="one.ai.example.test")).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/one/../one/openai/v1/models",
        "/one/./openai/v1/models",
        "/one/openai/v1/models/..",
        "/one/openai/v1/models/.",
        "//one/openai/v1/models",
        "/one///openai/v1/models",
        "//one//openai/v1/models",
        "/openai//v1/models",
        "/one/openai/v1//models",
        "/one\\openai\\v1\\models",
        "/one/openai/v1\\models",
        "/one;x=1/openai/v1/models",
        "/one/openai/v1/models;",
        "/one/openai/v1/models\x00",
        "/one/openai/v1/mod\x00els",
        "/one/openai/v1/models\r\n",
        "/one/openai/v1/models\x7f",
        "/one/openai/v1/models\t",
        "/one/openai/v1/models ",
        "/ one/openai/v1/models",
        "/one/%2e%2e/one/openai/v1/models",
        "/one%2fopenai/v1/models",
        "/one/openai/v1/models?x=1",
        "/one/openai/v1/models#x",
        "/one/openai/v1/mode\ufffdls",
        "/\uff4fne/openai/v1/models",
        "/one/openai/v1/" + "x" * 4000,
        "one/openai/v1/models",
        "http://localhost/one/openai/v1/models",
    ],
)
async def test_path_that_can_be_read_in_two_ways_is_no_address(ground: Ground, path: str) -> None:
    answer = await ground.get(path)
    assert (answer.status, answer.json) == (404, NOT_FOUND)


async def test_operation_that_does_not_exist_is_told_only_to_those_with_a_credential(ground: Ground) -> None:
    async def status(path: str, *headers: tuple[str, str], method: str = "GET") -> int:
        return (await ask(ground.gateway, path, *headers, method=method, body=None, query="")).status

    key = ("api-key", ground.account.key)
    for path, method in (
        ("/one/nothing", "GET"),
        ("/one/openai/v1/models", "DELETE"),
        ("/one/openai/v1/models", "BREW"),
    ):
        assert [await status(path, method=method), await status(path, ("api-key", "x"), method=method)] == [401, 401]
        assert await status(path, key, method=method) == 404


@pytest.mark.parametrize(
    "query",
    [
        "",
        "api-version=",
        "api-version=now",
        "api-version=2024-10-21%00",
        "version=2024-10-21",
        "api-version=" + "1" * 100,
    ],
)
async def test_version_that_is_missing_or_malformed_names_no_operation(ground: Ground, query: str) -> None:
    assert (await ground.get("/one/openai/models", query=query)).status == 404


@pytest.mark.parametrize(
    "query",
    [VERSION, "api-version=2025-04-01-preview", "API-VERSION=2024-10-21", "x=1&api-version=preview", "api-version=3.0"],
)
async def test_any_well_formed_version_is_taken(ground: Ground, query: str) -> None:
    assert (await ground.get("/one/openai/models", query=query)).status == 200


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("a=1&a=2", 400),
        ("a=1&A=2", 400),
        ("a=1&a=1", 200),
        ("%ff=1", 400),
        ("a=%ff", 400),
        ("&".join("abcdefgh"[i % 8] * (i + 1) for i in range(65)), 400),
        ("a=" + "x" * 9000, 413),
    ],
)
async def test_query_that_cannot_be_read_in_one_way_is_refused(ground: Ground, query: str, status: int) -> None:
    answer = await ground.get("/one/openai/v1/models", query=query)
    assert answer.status == status


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataPlane, Account, Gateway]:
    plane = DataPlane(tmp_path_factory.mktemp("network"), trusted_proxies=("10.0.0.0/8", "2001:db8:ffff::/48"))
    rules = [{"value": "203.0.113.0/24"}, {"value": "2001:db8:1::/48"}]
    account = plane.account(networkAcls={"defaultAction": "Deny", "ipRules": rules, "virtualNetworkRules": []})
    return plane, account, plane.gateway()


@pytest.mark.parametrize(
    ("peer", "forwarded", "status"),
    [
        ("203.0.113.9:1", "", 200),
        ("203.0.114.9:1", "", 403),
        ("[2001:db8:1::5]:1", "", 200),
        ("[2001:db8:2::5]:1", "", 403),
        ("[::ffff:203.0.113.9]:1", "", 200),
        ("[::ffff:203.0.114.9]:1", "", 403),
        (
            "198.51.100.1:1",
            "203.0.113.9",
            403,
        ),  # the peer is no proxy of ours: what it says of itself is worth nothing
        ("10.1.1.1:1", "203.0.113.9", 200),
        ("10.1.1.1:1", "203.0.113.9, 198.51.100.1", 403),
        ("10.1.1.1:1", "198.51.100.1, 203.0.113.9, 10.2.2.2", 200),
        ("10.1.1.1:1", "203.0.113.9, nonsense", 403),
        ("10.1.1.1:1", "", 403),
        ("[::ffff:10.1.1.1]:1", "203.0.113.9", 200),
        ("[2001:db8:ffff::1]:1", "2001:db8:1::7", 200),
        ("10.1.1.1:1", "::ffff:203.0.113.9", 200),
    ],
)
async def test_rule_is_asked_about_the_client(
    guarded: tuple[DataPlane, Account, Gateway], peer: str, forwarded: str, status: int
) -> None:
    _, account, gateway = guarded
    headers = [("api-key", account.key)] + ([("x-forwarded-for", forwarded)] if forwarded else [])
    answer = await ask(gateway, account.path(MODELS), *headers, method="GET", body=None, query="", client=peer)
    assert answer.status == status


async def test_refused_network_learns_nothing_about_keys_or_operations(
    guarded: tuple[DataPlane, Account, Gateway],
) -> None:
    _, account, gateway = guarded
    told = set()
    for headers in (
        [],
        [("api-key", account.key)],
        [("api-key", "x")],
        [("api-key", "x"), ("authorization", "Bearer y")],
    ):
        for path in (account.path(MODELS), account.path("/nothing")):
            answer = await ask(gateway, path, *headers, method="GET", body=None, query="", client="198.51.100.1:1")  # type: ignore[arg-type]
            told.add((answer.status, answer.body, answer.headers["policy-id"], "retry-after" in answer.headers))
    body = b'{"error":{"code":"403","message":"Access denied due to Virtual Network/Firewall rules."}}'
    assert told == {(403, body, "ThrowExceptionDueToTrafficDenied", False)}


async def test_account_closed_to_the_public_says_so_before_anything_else(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    plane = DataPlane(tmp_path_factory.mktemp("closed"))
    account = plane.account()
    gateway = plane.gateway()
    assert (
        await ask(gateway, account.path(MODELS), ("api-key", account.key), method="GET", body=None, query="")
    ).status == 200
    plane.change(account, publicNetworkAccess="Disabled")
    for headers in ([], [("api-key", account.key)]):
        answer = await ask(gateway, account.path(MODELS), *headers, method="GET", body=None, query="")
        assert (answer.status, answer.code) == (403, "403")
        assert answer.json["error"]["message"] == "Public access is disabled. Please configure private endpoint."
        assert answer.headers["policy-id"] == "ThrowExceptionDueToTrafficDenied"


async def test_rule_holds_on_the_regional_endpoint_too(guarded: tuple[DataPlane, Account, Gateway]) -> None:
    _, account, gateway = guarded
    for peer, status in (("203.0.113.9:1", 200), ("198.51.100.1:1", 403)):
        answer = await ask(gateway, MODELS, ("api-key", account.key), method="GET", body=None, query="", client=peer)
        assert answer.status == status


async def test_change_of_rules_is_in_force_for_the_next_request_of_every_worker(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    plane = DataPlane(tmp_path_factory.mktemp("change"))
    account = plane.account()
    workers = [plane.gateway() for _ in range(3)]

    async def statuses() -> set[int]:
        get = {"method": "GET", "body": None, "query": ""}
        return {
            (await ask(gateway, account.path(MODELS), ("api-key", account.key), **get)).status for gateway in workers
        }  # type: ignore[arg-type]

    assert await statuses() == {200}
    plane.change(account, networkAcls={"defaultAction": "Deny", "ipRules": [], "virtualNetworkRules": []})
    assert await statuses() == {403}
    plane.change(account, networkAcls={"defaultAction": "Allow", "ipRules": [], "virtualNetworkRules": []})
    assert await statuses() == {200}
    plane.change(account, disableLocalAuth=True)
    assert await statuses() == {403}
    plane.delete(account)
    assert await statuses() == {404}


async def test_addresses_callers_make_up_are_not_kept(ground: Ground) -> None:
    ground.gateway._source.current().memo.clear()
    for number in range(300):
        await ground.get(f"/one/{number}" + "x" * 1500)
        await ground.get("/one" + MODELS, host="h" * 10_000 + str(number))
    kept = sum(len(str(key)) for key in ground.gateway._source.current().memo)
    assert kept < 10_000
