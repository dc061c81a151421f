import asyncio
import base64
import json
import struct

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.services.openai.engines.embedded import app as app_module
from stockade.services.openai.engines.embedded.app import MAX_BODY_BYTES, App
from stockade.services.openai.engines.embedded.catalogue import MINILM, SMOLLM2
from stockade.services.openai.engines.embedded.engine import Accepted, Finished, Text
from stockade.services.openai.engines.embedded.replies_wire import DONE, Usage

CHAT = {"messages": [{"role": "user", "content": "hello"}]}
WHOLE = (Accepted(), Text("Hel"), Text("lo"), Finished("stop", Usage(5, 2)))


class Script:
    """A text engine that plays its pieces, raises what it is told to raise, and notes whether it was closed."""

    def __init__(self, *pieces, forever=False):
        self.pieces = pieces
        self.forever = forever
        self.closed = asyncio.Event()

    async def generate(self, request):
        try:
            for piece in self.pieces:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
            if self.forever:
                await asyncio.Event().wait()
        finally:
            self.closed.set()


class Halves:
    """An embedding engine whose every vector is (0.5, -0.5)."""

    async def embed(self, texts):
        return [struct.pack("<2f", 0.5, -0.5) for _ in texts], 3 * len(texts)


class Connection:
    """One HTTP request to the application and what came back; `leave` is the caller hanging up."""

    def __init__(
        self,
        app,
        path="/v1/chat/completions",
        body=b"",
        *,
        method="POST",
        content_type=b"application/json",
        chunks=None,
    ):
        self.app = app
        self.scope = {"type": "http", "path": path, "method": method, "headers": [(b"content-type", content_type)]}
        chunks = chunks or [body if isinstance(body, bytes) else json.dumps(body).encode()]
        self.incoming: asyncio.Queue = asyncio.Queue()
        for i, chunk in enumerate(chunks):
            self.incoming.put_nowait({"type": "http.request", "body": chunk, "more_body": i + 1 < len(chunks)})
        self.sent: list[dict] = []
        self.first_sent = asyncio.Event()

    async def run(self):
        await self.app(self.scope, self.incoming.get, self._send)
        return self

    async def _send(self, message):
        self.sent.append(message)
        if message["type"] == "http.response.body":
            self.first_sent.set()

    def leave(self):
        self.incoming.put_nowait({"type": "http.disconnect"})

    @property
    def status(self):
        assert [message["type"] for message in self.sent].count("http.response.start") == 1
        return self.sent[0]["status"]

    @property
    def headers(self):
        return dict(self.sent[0]["headers"])

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def json(self):
        return json.loads(self.body)


async def answer(engine, *arguments, **options):
    return await Connection(App(SMOLLM2, text=engine), *arguments, **options).run()


async def test_a_whole_answer_is_its_pieces_joined():
    got = await answer(Script(*WHOLE), body=CHAT)
    assert got.status == 200
    assert got.json["choices"][0]["message"]["content"] == "Hello"
    assert got.json["usage"]["total_tokens"] == 7
    assert got.headers[b"content-length"] == str(len(got.body)).encode()


async def test_a_streamed_answer_is_sent_piece_by_piece():
    got = await answer(Script(*WHOLE), body=CHAT | {"stream": True})
    assert got.headers[b"content-type"].startswith(b"text/event-stream")
    assert len(got.sent) == 1 + 4  # head; role, two texts, end
    assert got.body.endswith(DONE)


async def test_completions_stream_too():
    got = await answer(Script(*WHOLE), "/v1/completions", {"prompt": "Once", "stream": True})
    assert b'"text":"Hel"' in got.body
    assert got.body.endswith(DONE)


async def test_a_fault_before_the_first_piece_is_a_status_even_for_a_stream():
    got = await answer(Script(Fault(FaultKind.LIMIT, "busy", retry_after_s=2)), body=CHAT | {"stream": True})
    assert got.status == 429
    assert got.headers[b"retry-after"] == b"2"
    assert got.json["error"]["message"] == "busy"


async def test_a_fault_in_the_middle_of_a_stream_is_its_last_event_and_no_end_mark_follows():
    got = await answer(Script(Accepted(), Text("a"), Fault(FaultKind.INTERNAL, "broke")), body=CHAT | {"stream": True})
    last = got.body.split(b"\n\n")[-2]
    assert json.loads(last.removeprefix(b"data: "))["error"]["message"] == "broke"
    assert DONE not in got.body
    assert got.sent[-1].get("more_body", False) is False


async def test_an_unexpected_failure_shows_nothing_of_the_request_to_the_caller_or_the_log(caplog):
    got = await answer(Script(Accepted(), ValueError("quoting: hello-secret")), body=CHAT)
    assert got.status == 500
    assert "secret" not in got.body.decode() + caplog.text
    assert "ValueError" in caplog.text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_who_hangs_up_stops_the_engine(stream):
    engine = Script(Accepted(), Text("a"), forever=True)
    connection = Connection(App(SMOLLM2, text=engine), body=CHAT | {"stream": stream})
    running = asyncio.create_task(connection.run())
    if stream:
        await connection.first_sent.wait()
    connection.leave()
    await asyncio.wait_for(running, 5)
    assert engine.closed.is_set()


async def test_a_server_that_ends_stops_the_engine():
    engine = Script(Accepted(), forever=True)
    running = asyncio.create_task(Connection(App(SMOLLM2, text=engine), body=CHAT | {"stream": True}).run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.wait_for(engine.closed.wait(), 5)


async def test_embeddings_as_numbers_and_as_base64_are_the_same_vectors():
    app = App(MINILM, embeddings=Halves())
    numbers = await Connection(app, "/v1/embeddings", {"input": ["a", "b"]}).run()
    packed = await Connection(app, "/v1/embeddings", {"input": "a", "encoding_format": "base64"}).run()
    assert [entry["embedding"] for entry in numbers.json["data"]] == [[0.5, -0.5], [0.5, -0.5]]
    assert [entry["index"] for entry in numbers.json["data"]] == [0, 1]
    assert numbers.json["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    assert struct.unpack("<2f", base64.b64decode(packed.json["data"][0]["embedding"])) == (0.5, -0.5)


async def test_the_wrong_operation_for_a_model_is_told_apart_from_an_unknown_path():
    wrong = await answer(Script(), "/v1/embeddings", {"input": "a"})
    assert (wrong.status, wrong.json["error"]["code"]) == (400, "OperationNotSupported")
    for path in ("/", "/v1/chat/completions/", "/v1//models", "/slots", "/props", "/metrics", "/V1/models"):
        assert (await answer(Script(), path)).status == 404
    assert (await answer(Script(), "/v1/models")).status == 405
    assert (await answer(Script(), method="GET")).status == 405


async def test_health_and_models_need_no_engine():
    health = await answer(Script(), "/healthz", method="GET")
    models = await answer(Script(), "/v1/models", method="GET")
    assert health.status == 200
    assert models.json["data"][0]["description"] == SMOLLM2.label


async def test_health_tells_how_long_nobody_has_used_the_model():
    now = 100.0
    app = App(SMOLLM2, text=Script(Accepted(), forever=True), clock=lambda: now)

    async def idle_s():
        return (await Connection(app, "/healthz", method="GET").run()).json["idleSeconds"]

    now = 160.0
    assert await idle_s() == 60
    connection = Connection(app, body=CHAT | {"stream": True})
    running = asyncio.create_task(connection.run())
    await connection.first_sent.wait()
    now = 1000.0
    assert await idle_s() == 0, "an engine at work is not idle, however long it takes"
    connection.leave()
    await running
    now = 1007.0
    assert await idle_s() == 7


async def test_a_body_above_the_limit_is_refused_while_it_is_still_arriving():
    chunks = [b" " * (MAX_BODY_BYTES // 2)] * 5
    connection = Connection(App(SMOLLM2, text=Script()), chunks=chunks)
    await connection.run()
    assert connection.status == 413
    assert connection.incoming.qsize() == 2


async def test_a_body_that_is_not_json_by_its_own_word_is_not_read():
    assert (await answer(Script(), body=CHAT, content_type=b"text/plain")).status == 415


async def test_a_body_that_never_ends_is_given_up(monkeypatch):
    monkeypatch.setattr(app_module, "BODY_TIMEOUT_S", 0.01)
    connection = Connection(App(SMOLLM2, text=Script()), chunks=[b"{", b"}"])
    await connection.incoming.get()
    await connection.incoming.get()
    assert (await connection.run()).status == 408
