"""What happens to a request once it is admitted: its body, its engine, its reply, and the record of it."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from stockade.gateway.app import Gateway
from stockade.gateway.credential import Credentials
from stockade.kernel.faults import Fault, FaultKind
from stockade.services import dialect
from stockade.settings import Limits
from tests.factories.data_plane import CHAT, HELLO, JSON_TYPE, VERSION, Account, Answer, DataPlane, Scope, ask
from tests.factories.engine import Engine, Peer, answers, chunked, engine, reply

EVENTS = b'data: {"choices":[{"delta":{"content":"one"}}]}\n\ndata: {"choices":[{"delta":{"content":"tw\xc3\xb6"}}]}\n\ndata: [DONE]\n\n'
STREAM = HELLO[:-1] + b',"stream":true}'
SSE = b"content-type: text/event-stream\r\n"
NEEDED = {"strict-transport-security", "x-content-type-options", "apim-request-id", "x-ms-region", "content-type"}


class Ground:
    def __init__(self, folder: Path, running: Engine | None = None, **changes: Any) -> None:
        url = f"http://127.0.0.1:{running.port}/v1" if running else ""
        self.plane = DataPlane(folder, url, **changes)
        self.account: Account = self.plane.account(deployments=("chat", "vectors", "lost"))
        self.plane.deployment(self.account.id, "lost", model="withdrawn")
        self.gateway: Gateway = self.plane.gateway()

    async def chat(self, body: bytes = HELLO, *headers: tuple[str, str], path: str = CHAT, **more: Any) -> Answer:
        return await ask(
            self.gateway, self.account.path(path), ("api-key", self.account.key), *headers, body=body, **more
        )

    def record(self, answer: Answer) -> dict[str, Any]:
        return self.plane.record_of(self.gateway, answer)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("exchange"))


BAD_BODIES = {
    "nothing": b"",
    "no JSON": b"hello",
    "half an object": b'{"messages":',
    "an array": b"[]",
    "a string": b'"x"',
    "null": b"null",
    "two objects": b"{}{}",
    "a trailing comma": b'{"messages":[],}',
    "NaN": b'{"messages":NaN}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"messages":[]}'.encode("utf-16"),
    "no UTF-8 in a value": b'{"messages":[{"content":"\xff\xfe"}]}',
    "no UTF-8 in a name": b'{"messages":[],"\xff":1}',
    "an overlong slash": b'{"messages":["\xc0\xaf"]}',
    "an encoded surrogate": b'{"messages":["\xed\xa0\x80"]}',
    "deep arrays": b'{"messages":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deep objects": b'{"messages":' + b'{"a":' * 200_000 + b"1" + b"}" * 200_000 + b"}",
    "deep and unfinished": b'{"messages":' + b"[" * 500_000,
    "stream of the wrong type": b'{"messages":[],"stream":"yes"}',
    "stream as a number": b'{"messages":[],"stream":1}',
    "no messages": b"{}",
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
async def test_body_that_is_no_json_object_is_refused_in_the_services_words(ground: Ground, body: bytes) -> None:
    answer = await ground.chat(body)
    assert (answer.status, answer.code) == (400, "BadRequest")
    assert len(answer.body) < 1000


@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"model":null,"messages":[]}', b'{"model":["chat"],"messages":[]}'],
)
async def test_v1_request_names_its_deployment_as_a_string(ground: Ground, body: bytes) -> None:
    answer = await ground.chat(body, path="/openai/v1/chat/completions", query="")
    assert (answer.status, answer.json["error"]["param"]) == (400, "model")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("content-type", "text/plain")], 415),
        ([("content-type", "")], 415),
        ([("content-type", "application/x-www-form-urlencoded")], 415),
        ([("content-type", "multipart/form-data; boundary=x")], 415),
        ([("content-type", "application/json"), ("content-encoding", "gzip")], 415),
        ([("content-type", "application/json"), ("content-encoding", "identity, br")], 415),
        ([("content-type", "application/json"), ("content-length", "99999999999")], 413),
        ([("content-type", "application/json"), ("content-length", "9" * 5000)], 413),
        ([("content-type", "application/json"), ("content-length", "-1")], 400),
        ([("content-type", "application/json"), ("content-length", "\u00b2")], 400),
        ([("content-type", "application/json"), ("content-length", "1e9")], 400),
    ],
)
async def test_head_that_says_too_much_is_refused_before_the_body_is_read(
    ground: Ground, headers: list[tuple[str, str]], status: int
) -> None:
    answer = Answer([HELLO])
    key = ("api-key", ground.account.key)
    await ground.gateway.__rsgi__(Scope(ground.account.path(), headers=[key, *headers]), answer)
    assert (answer.status, answer.read) == (status, 0)
    assert "error" in answer.json


async def test_body_without_a_length_is_counted_as_it_arrives(ground: Ground) -> None:
    piece = b"x" * 65_536
    for headers in (
        [],
        [("content-length", "5"), ("transfer-encoding", "chunked")],
        [("transfer-encoding", "chunked"), ("content-length", "5")],
    ):
        answer = Answer([piece] * 4096)
        await ground.gateway.__rsgi__(
            Scope(ground.account.path(), headers=[("api-key", ground.account.key), JSON_TYPE, *headers]), answer
        )
        assert (answer.status, answer.code) == (413, "RequestTooLarge")
        assert answer.read <= 17 * 1024 * 1024


async def test_operation_without_a_body_reads_none(ground: Ground) -> None:
    answer = Answer([b"x" * 65_536] * 100)
    headers = [("api-key", ground.account.key), ("transfer-encoding", "chunked")]
    await ground.gateway.__rsgi__(Scope(ground.account.path("/openai/v1/models"), "GET", "", headers), answer)
    assert (answer.status, answer.read) == (200, 0)


@pytest.mark.parametrize("declared", [True, False])
async def test_body_that_does_not_come_is_given_up(tmp_path: Path, declared: bool) -> None:
    ground = Ground(tmp_path, limits=Limits(body_timeout_s=0.05))
    answer = Answer([b'{"mess'], stalled=True)
    headers = [("api-key", ground.account.key), JSON_TYPE] + ([("content-length", "500")] if declared else [])
    await ground.gateway.__rsgi__(Scope(ground.account.path(), headers=headers), answer)
    assert (answer.status, answer.code) == (408, "Timeout")
    assert ground.record(answer)["outcome"] == "failed:Timeout"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/openai/deployments/never/chat/completions", 404, "DeploymentNotFound"),
        ("/openai/deployments/vectors/chat/completions", 400, "OperationNotSupported"),
        ("/openai/deployments/chat/embeddings", 400, "OperationNotSupported"),
        ("/openai/deployments/lost/chat/completions", 503, "ServiceUnavailable"),
    ],
)
async def test_deployment_that_cannot_do_it_is_refused(ground: Ground, path: str, status: int, code: str) -> None:
    answer = await ground.chat(path=path)
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["x-stockade-decision"] == answer.headers["apim-request-id"]


@pytest.mark.parametrize("echo", ["client-1", "x" * 128, str(uuid.UUID(int=5))])
async def test_every_reply_and_refusal_carries_its_headers(ground: Ground, echo: str) -> None:
    mine = ("x-ms-client-request-id", echo)
    for answer in (
        await ground.chat(b"{}", mine),
        await ground.chat(HELLO, mine, path="/nothing"),
        await ask(ground.gateway, "/never/x", mine),
        await ask(ground.gateway, ground.account.path(), mine),
        await ask(
            ground.gateway,
            ground.account.path("/openai/v1/models"),
            mine,
            ("api-key", ground.account.key),
            method="GET",
            body=None,
            query="",
        ),
    ):
        assert set(answer.headers) >= NEEDED
        assert uuid.UUID(answer.headers["apim-request-id"]).version == 4
        assert answer.headers["x-ms-client-request-id"] == echo
        assert answer.headers["x-ms-region"] == "local"
        refused = answer.status >= 400
        assert (answer.headers.get("x-stockade-decision") == answer.headers["apim-request-id"]) is refused


@pytest.mark.parametrize("echo", ["x" * 129, "a\tb", "a\r\nset-cookie: x", "\u00e9", "\u6f22", "a\x00", "a\x7f"])
async def test_request_id_that_no_header_can_carry_is_not_echoed(ground: Ground, echo: str) -> None:
    answer = await ground.chat(b"{}", ("x-ms-client-request-id", echo))
    assert answer.status == 400
    assert "x-ms-client-request-id" not in answer.headers


async def test_health_page_carries_the_headers_too(ground: Ground) -> None:
    answer = await ask(ground.gateway, "/healthz", method="GET", body=None, query="")
    assert (answer.status, answer.body) == (200, b"ok")
    assert set(answer.headers) >= NEEDED


async def refused_by_every_worker(
    plane: DataPlane, account: Account, path: str, limit: int, body: bytes | None
) -> None:
    workers = [plane.gateway() for _ in range(3)]
    key = ("api-key", account.key)
    statuses = [(await ask(workers[n % 3], path, key, body=body)).status for n in range(limit)]
    assert set(statuses) == {200}
    for gateway in workers:
        answer = await ask(gateway, path, key, body=body)
        assert (answer.status, answer.code) == (429, "429")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert int(answer.headers["retry-after-ms"]) == 1000 * int(answer.headers["retry-after"])
        assert "Please retry after" in answer.json["error"]["message"]
        assert plane.record_of(gateway, answer)["rule"] == "quota"
    plane.clock.advance(float(answer.headers["retry-after"]))
    assert (await ask(workers[0], path, key, body=body)).status == 200


async def test_call_above_the_deployments_rate_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with engine(answers(reply(b"{}"))) as running:
        ground = Ground(tmp_path, running)
        ground.plane.deployment(ground.account.id, "tight", capacity=1)
        policy = ground.plane.gateway()._source.current().only("deployment", (ground.account.id, "tight"))
        path = ground.account.path("/openai/deployments/tight/chat/completions")
        await refused_by_every_worker(ground.plane, ground.account, path, policy.calls_per_minute, HELLO)


async def test_call_above_the_skus_rate_is_told_when_to_come_back(tmp_path: Path) -> None:
    plane = DataPlane(tmp_path)
    account = plane.account(kind="ComputerVision", sku="F0", deployments=())
    limit = plane.gateway()._source.current().only("account", account.id).calls_per_minute
    await refused_by_every_worker(plane, account, account.path("/sts/v1.0/issueToken"), limit, None)


async def test_only_the_model_is_changed_on_the_way_and_no_credential_passes(tmp_path: Path) -> None:
    body = b'{"model":"mine","temperature":1.10,"n":10000000000000000000000,"x":{"a":[1, 2]},"messages":[],"user":"\\u00e9","model":"last"}'
    async with engine(answers(reply(b"{}", b"content-type: application/json"))) as running:
        ground = Ground(tmp_path, running)
        _, token = ground.plane.caller()
        key = ground.account.key
        plain = [
            ("cookie", "a=b"),
            ("x-forwarded-for", "1.2.3.4"),
            ("authorization", ""),
            ("x-custom", "secret-header"),
        ]
        await ground.chat(body, *plain)
        await ask(ground.gateway, ground.account.path(), ("authorization", f"Bearer {token}"), body=body)
        await ask(ground.gateway, ground.account.path(), body=body, query=f"{VERSION}&subscription-key={key}")
    assert len(running.requests) == 3
    for seen in running.requests:
        assert seen.line == "POST /v1/chat/completions HTTP/1.1"
        assert set(seen.headers) == {"host", "content-type", "accept", "content-length"}
        assert not any(secret in seen.head.decode() for secret in (key, token, "secret-header", "1.2.3.4"))
        assert json.loads(seen.body)["model"] == "real-chatty"
        assert b'"temperature":1.10' in seen.body
        assert b'"n":10000000000000000000000' in seen.body
        assert b'"x":{"a":[1, 2]}' in seen.body
        assert seen.body.count(b'"model"') == 1


async def test_whole_reply_passes_byte_for_byte(tmp_path: Path) -> None:
    body = b'{"a":  1,\n"b":"\xc3\xa9"}'
    async with engine(
        answers(reply(body, b"content-type: application/json; charset=utf-8", b"set-cookie: engine=1", b"server: vLLM"))
    ) as running:
        answer = await Ground(tmp_path, running).chat()
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert not {"set-cookie", "server"} & set(answer.headers)


@pytest.mark.parametrize("cut", [1, 7, 40, len(EVENTS)])
async def test_stream_passes_byte_for_byte_however_it_is_cut(tmp_path: Path, cut: int) -> None:
    pieces = [EVENTS[at : at + cut] for at in range(0, len(EVENTS), cut)]

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n" + SSE + b"\r\n")
        for piece in pieces:
            await peer.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
            await asyncio.sleep(0)
        await peer.send(b"0\r\n\r\n")

    async with engine(talk) as running:
        ground = Ground(tmp_path, running)
        answer = await ground.chat(STREAM)
        assert (answer.status, answer.body) == (200, EVENTS)
        assert answer.headers["content-type"] == "text/event-stream"
        assert set(answer.headers) >= NEEDED
        assert ground.record(answer)["outcome"] == "success"


async def test_stream_that_breaks_ends_with_an_error_event_and_no_done(tmp_path: Path) -> None:
    begun = EVENTS[:20]

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked(begun, headers=SSE, end=b""))

    async with engine(talk) as running:
        ground = Ground(tmp_path, running)
        answer = await ground.chat(STREAM)
        assert answer.status == 200
        passed, _, last = answer.body.rpartition(b"data: ")
        assert passed == begun + b"\n\n", "the unfinished event is ended, so that clients read the next one"
        assert json.loads(last)["error"]["code"] == "BadGateway"
        assert last.endswith(b"\n\n")
        assert b"[DONE]" not in answer.body
        assert ground.record(answer)["outcome"] == "failed:UpstreamFailed"


async def test_stream_beyond_its_deadline_ends_with_an_error_event(tmp_path: Path) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked(b"data: 1\n\n", headers=SSE, end=b""))
        await peer.closed()

    async with engine(talk) as running:
        ground = Ground(tmp_path, running, limits=Limits(request_timeout_s=0.3))
        answer = await ground.chat(STREAM)
        await running.seen_closed.wait()
        assert json.loads(answer.body.rpartition(b"data: ")[2])["error"]["code"] == "GatewayTimeout"
        assert ground.record(answer)["outcome"] == "failed:UpstreamTimeout"


async def test_engine_beyond_the_deadline_is_a_504(tmp_path: Path) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.closed()

    async with engine(talk) as running:
        ground = Ground(tmp_path, running, limits=Limits(request_timeout_s=0.3))
        answer = await ground.chat()
        await running.seen_closed.wait()
        assert (answer.status, answer.code) == (504, "GatewayTimeout")


@pytest.mark.parametrize(
    "sent", [b"", chunked(b"data: 1\n\n", headers=SSE, end=b"")], ids=["before the head", "within the stream"]
)
async def test_client_who_leaves_ends_the_engines_work(tmp_path: Path, sent: bytes) -> None:
    asked = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)
        asked.set()
        await peer.closed()

    async with engine(talk) as running:
        ground = Ground(tmp_path, running)
        answer = Answer([STREAM])
        headers = [("api-key", ground.account.key), JSON_TYPE, ("content-length", str(len(STREAM)))]
        task = asyncio.create_task(ground.gateway.__rsgi__(Scope(ground.account.path(), headers=headers), answer))  # type: ignore[arg-type]
        await asked.wait()
        answer.disconnected.set()
        await running.seen_closed.wait()
        await task
        (record,) = ground.plane.audit_lines(ground.gateway)  # the answer may have no head that names it
        assert record["outcome"] == "cancelled"


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        (b"401 Unauthorized", 502, "BadGateway"),
        (b"403 Forbidden", 502, "BadGateway"),
        (b"500 Internal Server Error", 502, "BadGateway"),
        (b"502 Bad Gateway", 502, "BadGateway"),
        (b"503 Service Unavailable", 503, "ServiceUnavailable"),
        (b"302 Found", 502, "BadGateway"),
        (b"204 No Content", 502, "BadGateway"),
        (b"999 Odd", 502, "BadGateway"),
    ],
)
async def test_what_an_engine_says_of_itself_or_of_us_is_not_passed_on(
    tmp_path: Path, said: bytes, status: int, code: str
) -> None:
    secret = b'{"detail":"your key sk-123 is wrong","error":{"code":"x"}}'
    body = b"" if said.startswith(b"204") else secret
    whole = (b"HTTP/1.1 " + said + b"\r\n\r\n") if not body else reply(body, b"location: http://other/", status=said)
    async with engine(answers(whole)) as running:
        answer = await Ground(tmp_path, running).chat()
    assert (answer.status, answer.code) == (status, code)
    assert b"sk-123" not in answer.body
    assert "location" not in answer.headers
    assert ("retry-after" in answer.headers) is (status == 503)


@pytest.mark.parametrize("said", [b"400 Bad Request", b"404 Not Found", b"422 Unprocessable", b"413 Too Large"])
async def test_what_an_engine_says_of_the_request_is_passed_on(tmp_path: Path, said: bytes) -> None:
    async with engine(answers(reply(b'{"error":"of the caller"}', status=said))) as running:
        answer = await Ground(tmp_path, running).chat()
    assert (answer.status, answer.json) == (int(said[:3]), {"error": "of the caller"})


@pytest.mark.parametrize(
    ("said", "told"), [(b"5", "5"), (b"86400", "60"), (b"0", "1"), (b"soon", "1"), (b"\xb2", "1"), (b"-3", "1")]
)
async def test_engines_own_429_is_bounded(tmp_path: Path, said: bytes, told: str) -> None:
    async with engine(answers(reply(b"{}", b"retry-after: " + said, status=b"429 Too Many Requests"))) as running:
        answer = await Ground(tmp_path, running).chat()
    assert (answer.status, answer.headers["retry-after"], answer.headers["retry-after-ms"]) == (429, told, told + "000")


@pytest.mark.parametrize("content_type", [b"", b"\xff\xfe", b"x" * 5000])
async def test_content_type_that_no_header_should_carry_becomes_json(tmp_path: Path, content_type: bytes) -> None:
    async with engine(answers(reply(b"{}", b"content-type: " + content_type))) as running:
        answer = await Ground(tmp_path, running).chat()
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")


async def test_engine_that_is_not_there_is_a_503(tmp_path: Path) -> None:
    async with engine(answers(b"")) as running:
        pass
    answer = await Ground(tmp_path, running).chat()
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "ServiceUnavailable", "2")


async def test_bug_of_ours_is_a_500_that_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ground = Ground(tmp_path)

    def broken(*_: object, **__: object) -> None:
        raise KeyError("internal detail")

    monkeypatch.setattr(Credentials, "read", broken)
    answer = await ask(ground.gateway, ground.account.path(), ("api-key", "x"))
    assert (answer.status, answer.code) == (500, "InternalServerError")
    assert "internal detail" not in answer.body.decode()
    assert "internal detail" in caplog.text
    assert ground.record(answer)["outcome"] == f"failed:{FaultKind.INTERNAL.value}"


async def test_lost_database_refuses_once_a_newer_policy_is_known(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    get = {"path": "/openai/v1/models", "method": "GET", "query": ""}
    (tmp_path / "stockade.db").rename(tmp_path / "away")
    assert (await ground.chat(**get)).status == 200, "nothing has changed, as far as anyone could know"
    ground.plane.cell.publish(10_000)
    answer = await ground.chat(**get)
    assert (answer.status, answer.code) == (503, "ServiceUnavailable")
    assert answer.headers["retry-after"] == "1"
    for leftover in tmp_path.glob("stockade.db*"):  # noqa: ASYNC240 - a test's own files
        leftover.unlink()
    (tmp_path / "away").rename(tmp_path / "stockade.db")
    assert (await ground.chat(**get)).status == 200


async def test_unwritable_audit_log_refuses_and_keeps_memory_flat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground = Ground(tmp_path)
    audit = ground.gateway._audit
    monkeypatch.setattr("stockade.audit.spool.QUEUE_LIMIT", 100)
    monkeypatch.setattr(audit, "_write", lambda: False)
    audit._failed = "spool: No space left on device"
    statuses = {(await ground.chat(b"{}")).status for _ in range(500)}
    assert statuses == {503}
    assert len(audit._queue) == 100
    health = await ask(ground.gateway, "/healthz", method="GET", body=None, query="")
    assert (health.status, health.headers["retry-after"]) == (503, "5")
    assert b"No space left on device" in health.body


def test_every_fault_has_a_status_and_only_waits_carry_retry_after() -> None:
    assert set(dialect.STATUS) == set(FaultKind)
    for kind in FaultKind:
        status, code = dialect.STATUS[kind]
        assert 400 <= status <= 599
        assert code
        headers = dict(dialect.refusal_headers(dialect.Fault(kind, "x", retry_after_s=10_000)))
        assert ("retry-after" in headers) is (kind in {FaultKind.LIMIT, FaultKind.UNAVAILABLE})
        assert headers.get("retry-after", "60") == "60"
        assert headers.get("retry-after-ms", "60000") == "60000"


async def test_refusal_is_told_when_it_is_on_record_and_what_is_allowed_waits_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground, on_disk = Ground(tmp_path), asyncio.Event()
    get: dict[str, Any] = {"path": "/openai/v1/models", "method": "GET", "query": ""}
    waiting: list[Any] = []

    async def durable(record: Any) -> None:
        waiting.append(record)
        await on_disk.wait()

    monkeypatch.setattr(ground.gateway._audit, "durable", durable)
    wrong = [asyncio.create_task(ask(ground.gateway, ground.account.path(), ("api-key", "x"))) for _ in range(3)]
    while len(waiting) < 3:  # noqa: ASYNC110 - the records are the event
        await asyncio.sleep(0)
    assert (await ground.chat(**get)).status == 200
    assert not any(task.done() for task in wrong)
    on_disk.set()
    assert [answer.status for answer in await asyncio.gather(*wrong)] == [401] * 3
    assert [record.status for record in waiting] == [401] * 3


async def test_refusal_that_cannot_be_recorded_is_a_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ground = Ground(tmp_path)

    async def durable(_: Any) -> None:
        raise Fault(FaultKind.UNAVAILABLE, "The audit log cannot be written (spool: No space left).", retry_after_s=5)

    monkeypatch.setattr(ground.gateway._audit, "durable", durable)
    answer = await ask(ground.gateway, ground.account.path(), ("api-key", "x"))
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert "No space left" in answer.body.decode()
