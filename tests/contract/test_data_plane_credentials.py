"""Every form of credential of contracts, data-plane section 1.1, and every way to get one wrong. Each row of choices.md is a test."""

from __future__ import annotations

import pytest

from stockade.gateway.app import Gateway
from stockade.keys import subscription
from stockade.policy.rules.credential import KEY_REJECTED, SUBDOMAIN_REQUIRED, UNAUTHORIZED
from tests.factories.data_plane import HELLO, OPENAI_USER, VERSION, Account, Answer, DataPlane, ask

KEY_NAMES = ["api-key", "Ocp-Apim-Subscription-Key"]
MODELS = "/openai/v1/models"


class Ground:
    """One data plane for the whole file: nothing here changes it."""

    def __init__(self, plane: DataPlane) -> None:
        self.plane = plane
        self.one, self.two = plane.account("one"), plane.account("two")
        self.keyless = plane.account("keyless", disableLocalAuth=True)
        self.bare = plane.account("bare", customSubDomainName=None)
        _, self.token = plane.caller()
        self.outsider, self.outsiders_token = plane.caller("outsider", None)
        self.gateway: Gateway = plane.gateway()

    async def models(
        self, *headers: tuple[str, str], query: str = "", account: Account | None = None, path: str = ""
    ) -> Answer:
        target = path or (account or self.one).path(MODELS)
        return await ask(self.gateway, target, *headers, method="GET", body=None, query=query)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(DataPlane(tmp_path_factory.mktemp("credentials")))


def bearer(token: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {token}")


def is_missing(answer: Answer) -> bool:
    return answer.status == 401 and answer.json == {"statusCode": 401, "message": UNAUTHORIZED}


def is_wrong_key(answer: Answer) -> bool:
    return answer.status == 401 and answer.json == {"error": {"code": "401", "message": KEY_REJECTED}}


@pytest.mark.parametrize("name", KEY_NAMES)
@pytest.mark.parametrize("slot", [0, 1])
async def test_either_key_opens_the_account_in_either_header(ground: Ground, name: str, slot: int) -> None:
    assert (await ground.models((name, ground.one.keys[slot]))).status == 200


@pytest.mark.parametrize("name", ["subscription-key", "Subscription-Key", "SUBSCRIPTION-KEY", "sUBSCRIPTION%2dkey"])
async def test_key_in_the_query_opens_the_account_in_any_case(ground: Ground, name: str) -> None:
    assert (await ground.models(query=f"{name}={ground.one.key}")).status == 200


async def test_key_from_the_query_is_nowhere_afterwards(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    answers = [
        await ground.models(query=f"subscription-key={ground.one.key}&{VERSION}"),
        await ground.models(query=f"subscription-key={ground.one.key}x"),
        await ground.models(query=f"subscription-key={ground.one.key}&a=1&a=2"),
        await ground.models(query=f"subscription-key={ground.one.key}&%ff=1"),
        await ground.models(("api-key", ground.two.key), query=f"subscription-key={ground.one.key}"),
    ]
    assert [answer.status for answer in answers] == [200, 401, 400, 400, 400]
    kept = "".join(str(ground.plane.audit_lines(ground.gateway)))
    kept += caplog.text + "".join(str(answer.headers) + answer.body.decode() for answer in answers)
    kept += repr(ground.gateway._source.current().memo) + repr(ground.gateway._queries)
    assert ground.one.key[:20] not in kept


async def test_key_as_bearer_opens_v1_and_nothing_else(ground: Ground) -> None:
    assert (await ground.models(bearer(ground.one.key))).status == 200
    assert is_missing(
        await ground.models(bearer(ground.one.key), path=ground.one.path("/openai/models"), query=VERSION)
    )
    assert is_wrong_key(await ground.models(bearer("sk-something")))


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer  "])
async def test_bearer_is_read_in_any_case(ground: Ground, scheme: str) -> None:
    assert (await ground.models(("authorization", f"{scheme} {ground.token}"))).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("api-key", "")],
        [("api-key", "   ")],
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("ocp-apim-subscription-key", ""), ("authorization", "Bearer ")],
    ],
)
async def test_blank_credential_is_no_credential(ground: Ground, headers: list[tuple[str, str]]) -> None:
    assert is_missing(await ground.models(*headers))


async def test_blank_companion_does_not_spoil_a_credential(ground: Ground) -> None:
    assert (
        await ground.models(("ocp-apim-subscription-key", ground.one.key), ("authorization", "Bearer "))
    ).status == 200
    assert (await ground.models(("ocp-apim-subscription-key", ""), bearer(ground.token))).status == 200
    assert (await ground.models(("api-key", ground.one.key), query="subscription-key=")).status == 200


async def test_same_key_said_twice_is_one_credential(ground: Ground) -> None:
    key = ground.one.key
    assert (await ground.models(("api-key", key), ("api-key", key))).status == 200
    assert (
        await ground.models(("api-key", key), ("ocp-apim-subscription-key", key), query=f"subscription-key={key}")
    ).status == 200
    assert (await ground.models(("api-key", key), bearer(key))).status == 200


async def test_two_credentials_that_disagree_are_refused_whichever_would_work(ground: Ground) -> None:
    good, other = ground.one.keys
    tries = [
        [("api-key", good), ("api-key", other)],
        [("api-key", good), ("ocp-apim-subscription-key", "wrong")],
        [("ocp-apim-subscription-key", "wrong"), ("api-key", good)],
        [("api-key", good), bearer(ground.token)],
        [("api-key", good), bearer("wrong")],
        [("api-key", good), ("authorization", "Basic dTpw")],
        [bearer(ground.token), bearer(ground.outsiders_token)],
    ]
    for headers in tries:
        answer = await ground.models(*headers)
        assert (answer.status, answer.code) == (400, "BadRequest"), headers[0][0]
    assert (await ground.models(("api-key", good), query=f"subscription-key={other}")).status == 400
    assert (await ground.models(query=f"subscription-key={good}&subscription-key={other}")).status == 400


async def test_wrong_key_of_any_kind_gets_one_answer(ground: Ground) -> None:
    key = ground.one.key
    wrong = [
        ground.two.key, subscription.generate().reveal_text(), "x", key[:-1], key + "x", key.lower(), key.swapcase(), key + "\u00a0",
        "k" * 10_000, "\x7f", "ключ", "0" * 58,
    ]  # fmt: skip
    bodies = {(await ground.models(("api-key", text))).body for text in wrong}
    assert len(bodies) == 1
    assert is_wrong_key(await ground.models(("api-key", wrong[0])))


async def test_key_while_local_authentication_is_off_is_refused_and_a_token_is_not(ground: Ground) -> None:
    answer = await ground.models(("api-key", ground.keyless.key), account=ground.keyless)
    assert (answer.status, answer.code) == (403, "AuthenticationTypeDisabled")
    assert "retry-after" not in answer.headers
    assert is_wrong_key(await ground.models(("api-key", ground.one.key), account=ground.keyless))
    assert (await ground.models(bearer(ground.token), account=ground.keyless)).status == 200


async def test_record_of_an_admitted_token_names_the_role_that_admitted_it(ground: Ground) -> None:
    answer = await ground.models(bearer(ground.token))
    assert answer.status == 200
    record = ground.plane.record_of(ground.gateway, answer)
    assert (record["decision"], record["credential"]) == ("allow", "token")
    assert record["rule"].startswith(f"{OPENAI_USER} at /subscriptions/")


@pytest.mark.parametrize("scheme", ["Basic", "Digest", "Negotiate", "AWS4-HMAC-SHA256", "aad#"])
async def test_other_schemes_are_no_credential_here(ground: Ground, scheme: str) -> None:
    assert is_missing(await ground.models(("authorization", f"{scheme} {ground.token}")))


@pytest.mark.parametrize(
    "token", ["a.b.c", "..", "x" * 20_000 + ".y.z", "eyJhbGciOiJub25lIn0.e30.", "\u0442.\u0435.\u0441\u0442"]
)
async def test_bearer_that_is_no_token_of_ours_is_refused(ground: Ground, token: str) -> None:
    assert is_missing(await ground.models(bearer(token)))


async def test_bearer_of_twenty_kilobytes_is_refused_on_v1_and_elsewhere(ground: Ground) -> None:
    assert is_wrong_key(await ground.models(bearer("x" * 20_000)))
    assert is_missing(await ground.models(bearer("x" * 40_000), path=ground.one.path("/openai/models"), query=VERSION))


async def test_token_with_a_damaged_signature_is_refused(ground: Ground) -> None:
    head, claims, signature = ground.token.split(".")
    for broken in (f"{head}.{claims}.{signature[:-8]}AAAAAAAA", f"{head}.{claims}.", f"{head}.{claims}.{signature}.x"):
        assert is_missing(await ground.models(bearer(broken), path=ground.one.path("/openai/models"), query=VERSION))


async def test_speech_form_names_its_resource(ground: Ground) -> None:
    token, right = ground.token, ground.one.id
    for resource in (right, right.upper(), right + "/"):
        assert (await ground.models(bearer(f"aad#{resource}#{token}"))).status == 200
    for wrong in (
        f"aad#{ground.two.id}#{token}",
        f"aad##{token}",
        f"aad#{right}",
        f"aad#{right}#{token}#x",
        f"aad#{right}#x.y.z",
    ):
        assert is_missing(await ground.models(bearer(wrong)))
    assert is_missing(await ground.models(bearer(f"aad#{right}#{ground.one.key}")))


async def issue(ground: Ground, *headers: tuple[str, str], path: str = "", query: str = "") -> Answer:
    return await ask(
        ground.gateway,
        path or ground.one.path("/sts/v1.0/issueToken"),
        *headers,
        ("content-length", "0"),
        body=None,
        query=query,
    )


async def test_key_is_exchanged_for_a_ten_minute_token(ground: Ground) -> None:
    issued = await issue(ground, ("ocp-apim-subscription-key", ground.one.key))
    assert (issued.status, issued.headers["content-type"].split(";")[0]) == (200, "application/jwt")
    token = bearer(issued.body.decode())
    assert (await ground.models(token)).status == 200
    assert (await ground.models(token, path=MODELS)).status == 200, "also on the regional endpoint"
    assert is_wrong_key(await ground.models(token, account=ground.two))
    assert ground.one.key not in issued.body.decode()
    last = (await issue(ground, query=f"subscription-key={ground.one.key}")).status
    assert last == 200


async def test_token_buys_no_token(ground: Ground) -> None:
    issued = (await issue(ground, ("api-key", ground.one.key))).body.decode()
    answer = await issue(ground, bearer(issued))
    assert (answer.status, answer.code) == (401, "401")
    assert (await issue(ground, bearer(ground.token))).status == 401
    assert (await issue(ground)).status == 401


async def test_regional_endpoint_takes_keys_and_refuses_identities(ground: Ground) -> None:
    assert (await ground.models(("api-key", ground.one.key), path=MODELS)).status == 200
    assert (await ground.models(("api-key", ground.bare.key), path=MODELS)).status == 200
    answer = await ground.models(bearer(ground.token), path=MODELS)
    assert (answer.status, answer.json) == (400, {"error": {"code": "BadRequest", "message": SUBDOMAIN_REQUIRED}})
    assert is_wrong_key(await ground.models(("api-key", "x"), path=MODELS))
    assert is_missing(await ground.models(path=MODELS))
    keyless = await ground.models(("api-key", ground.keyless.key), path=MODELS)
    assert keyless.status == 403


async def test_refusal_names_principal_action_scope_and_the_smallest_role(ground: Ground) -> None:
    answer = await ask(ground.gateway, ground.one.path(), bearer(ground.outsiders_token))
    assert (answer.status, answer.code) == (401, "PermissionDenied")
    message = answer.json["error"]["message"]
    for said in (
        ground.outsider.object_id,
        "Microsoft.CognitiveServices/accounts/OpenAI/deployments/chat/completions/action",
        "Microsoft.CognitiveServices/accounts/one",
        "'Cognitive Services OpenAI User'",
    ):
        assert said in message
    assert "retry-after" not in answer.headers


async def test_reader_of_the_account_has_no_data_access(tmp_path_factory: pytest.TempPathFactory) -> None:
    plane = DataPlane(tmp_path_factory.mktemp("reader"))
    account = plane.account()
    _, owner = plane.caller("owner", "Owner")
    answer = await ask(plane.gateway(), account.path(), bearer(owner))
    assert (answer.status, answer.code) == (401, "PermissionDenied")


async def test_session_token_dies_with_its_key_and_with_its_time(tmp_path_factory: pytest.TempPathFactory) -> None:
    plane = DataPlane(tmp_path_factory.mktemp("session"))
    account = plane.account()
    gateway = plane.gateway()

    async def issued(key: str) -> str:
        answer = await ask(
            gateway,
            account.path("/sts/v1.0/issueToken"),
            ("api-key", key),
            ("content-length", "0"),
            body=None,
            query="",
        )
        return answer.body.decode()

    async def status(token: str) -> int:
        return (await ask(gateway, account.path(MODELS), bearer(token), method="GET", body=None, query="")).status

    first, second = await issued(account.keys[0]), await issued(account.keys[1])
    assert [await status(first), await status(second)] == [200, 200]
    plane.regenerate(account, "Key1")
    assert [await status(first), await status(second)] == [401, 200]
    plane.clock.advance(599)
    assert await status(second) == 200
    plane.clock.advance(1)
    assert await status(second) == 401
    plane.change(account, disableLocalAuth=True)
    plane.clock.advance(-10)
    assert await status(second) == 403


async def test_old_key_dies_at_once_and_the_other_goes_on(tmp_path_factory: pytest.TempPathFactory) -> None:
    plane = DataPlane(tmp_path_factory.mktemp("rotation"))
    account = plane.account()
    workers = [plane.gateway(), plane.gateway()]
    for slot, name in enumerate(("Key1", "Key2")):
        before = account
        account = plane.regenerate(account, name)
        for gateway in workers:
            statuses = [
                (await ask(gateway, account.path(MODELS), ("api-key", key), method="GET", body=None, query="")).status
                for key in (before.keys[slot], account.keys[slot], account.keys[1 - slot])
            ]
            assert statuses == [401, 200, 200]


async def test_audit_says_who_and_never_the_credential(tmp_path_factory: pytest.TempPathFactory) -> None:
    plane = DataPlane(tmp_path_factory.mktemp("audit"))
    account = plane.account()
    principal, token = plane.caller()
    gateway = plane.gateway()
    get = {"method": "GET", "body": None, "query": ""}
    for headers in ([("api-key", account.keys[1])], [bearer(token)], [("api-key", "wrong")], [], [bearer("a.b.c")]):
        await ask(gateway, account.path(MODELS), *headers, **get)  # type: ignore[arg-type]
    lines = plane.audit_lines(gateway)
    assert [line["credential"] for line in lines[:3]] == ["Key2", "token", "rejected:unknown_key"]
    assert [line["decision"] for line in lines] == ["allow", "allow", "deny", "deny", "deny"]
    assert lines[1]["principal"] == principal.object_id
    assert lines[1]["application"] == principal.app_id
    assert lines[3]["credential"] == "none"
    assert lines[4]["credential"].startswith("rejected:")
    assert {line["rule"] for line in lines[2:]} == {"credential"}
    text = str(lines)
    assert not any(secret in text for secret in (*account.keys, token, HELLO.decode()))
