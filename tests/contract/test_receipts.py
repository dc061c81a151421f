"""Signed receipts: what they say of whole replies, streams and refusals is true, and another JOSE library verifies them."""

from __future__ import annotations

import base64
import json
import secrets
from hashlib import sha256
from typing import Any

import jwt
import pytest
from jwt.algorithms import OKPAlgorithm

from stockade.gateway import receipts
from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.request_receipts import bound_to, jwk
from tests.contract.test_kept_responses import SSE, completion, events
from tests.factories.data_plane import CHAT, HELLO, VERSION, Account, Answer, DataPlane, Scope, ask
from tests.factories.engine import answers, chunked, engine, reply, says_and_closes
from tests.live import free_ports

ASKED = ("x-stockade-receipt", "1")
BOUNDARY = "mark"
UPLOAD = (
    f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="file"; filename="l.jsonl"\r\n\r\n'
    f'{{"custom_id":"a"}}\n\r\n--{BOUNDARY}--\r\n'
).encode()
FORM = ("content-type", f"multipart/form-data; boundary={BOUNDARY}")


[PORT] = free_ports(1)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> DataPlane:
    return DataPlane(tmp_path_factory.mktemp("receipts"), f"http://127.0.0.1:{PORT}/v1")


class Ground:
    """An account of its own on a data plane that the tests of this file share, and a gateway of this test's loop."""

    def __init__(self, plane: DataPlane, **properties: Any) -> None:
        self.plane = plane
        plane.contents.items.clear()
        self.account: Account = plane.account(f"a{secrets.token_hex(4)}", **properties)
        self.gateway = plane.gateway()
        broker = self.gateway._requests._receipts._broker._broker
        self.key = OKPAlgorithm.from_jwk(json.dumps(jwk(broker.request_receipt_key())))

    async def ask(self, path: str = CHAT, *headers: tuple[str, str], **more: Any) -> Answer:
        return await ask(self.gateway, self.account.path(path), ("api-key", self.account.key), *headers, **more)

    def claims(self, answer: Answer, path: str = CHAT, body: bytes | None = HELLO, **more: Any) -> dict[str, Any]:
        """Verify an answer's receipt, compare what all say, and return the claims."""
        signed = answer.headers.get("x-stockade-receipt") or comment(answer)
        claims: dict[str, Any] = jwt.decode(signed, self.key, algorithms=["EdDSA"], options={"verify_iat": False})
        method, query = more.get("method", "POST"), more.get("query", VERSION)
        assert claims["request"] == hashed(method, self.account.path(path), query, body or b"")
        assert claims["body"] is (body is not None)
        assert (claims["method"], claims["path"], claims["status"]) == (method, self.account.path(path), answer.status)
        assert claims["jti"] == answer.headers["apim-request-id"]
        assert claims["iss"] == self.plane.settings.arm_endpoint
        return claims

    def record(self, answer: Answer) -> dict[str, Any]:
        """Return the request's record, whose receipt only the platform opens and is the one that was given."""
        found = self.plane.record_of(self.gateway, answer)
        sealed = base64.b64decode(found["receipt"])
        signed = answer.headers.get("x-stockade-receipt") or comment(answer)
        keys = self.gateway._requests._receipts._keys
        assert keys.unseal(sealed, bound_to(found["id"])).reveal().decode() == signed
        with pytest.raises(Fault):
            keys.unseal(sealed, bound_to("another"))
        assert signed.split(".")[1] not in json.dumps(found)
        return found


def comment(answer: Answer) -> str:
    """Return the receipt at the end of a stream of events."""
    last = answer.body.decode().rstrip("\n").rsplit("\n", 1)[-1]
    assert last.startswith(": x-stockade-receipt: ")
    return last.removeprefix(": x-stockade-receipt: ")


def hashed(method: str, path: str, query: str, body: bytes) -> str:
    """The hash of a request, as docs/audit.md defines it."""
    parts = b"".join(sha256(one).digest() for one in (method.encode(), path.encode(), query.encode(), body))
    return base64.urlsafe_b64encode(sha256(parts).digest()).decode().rstrip("=")


async def test_whole_reply(plane: DataPlane) -> None:
    async with engine(answers(completion()), port=PORT):
        ground = Ground(plane)
        answer = await ground.ask(CHAT, ASKED)
        claims = ground.claims(answer)
        assert (claims["stored"], claims["outcome"]) == ("none", "success")
        assert claims["account"].lower() == ground.account.id
        assert claims["policy"] == ground.gateway.policy().generation > 0
        assert ground.record(answer)["policy"] == claims["policy"]


async def test_who_does_not_ask_gets_none(plane: DataPlane) -> None:
    async with engine(answers(completion()), port=PORT):
        ground = Ground(plane)
        answer = await ground.ask()
        assert "x-stockade-receipt" not in answer.headers
        assert "receipt" not in ground.plane.record_of(ground.gateway, answer)
        wrong = await ground.ask(CHAT, ("x-stockade-receipt", "yes"))
        assert wrong.status == 400
        assert "x-stockade-receipt" not in wrong.headers


async def test_stream_ends_with_it(plane: DataPlane) -> None:
    body = HELLO[:-1] + b',"stream":true}'
    sent = events({"content": "Hel"}, {"content": "lo"})
    async with engine(answers(chunked(*sent, headers=SSE)), port=PORT):
        ground = Ground(plane)
        answer = await ground.ask(CHAT, ASKED, body=body)
        assert "x-stockade-receipt" not in answer.headers
        assert answer.body.startswith(b"".join(sent))
        assert ground.claims(answer, body=body)["stored"] == "none"
        ground.record(answer)


async def test_stream_that_breaks_says_so(plane: DataPlane) -> None:
    body = HELLO[:-1] + b',"stream":true}'
    async with engine(says_and_closes(chunked(b"data: 1\n\n", headers=SSE, end=b"")), port=PORT):
        ground = Ground(plane)
        answer = await ground.ask(CHAT, ASKED, body=body)
        assert ground.claims(answer, body=body)["outcome"] == "failed:UpstreamFailed"
        assert ground.record(answer)["outcome"] == "failed:UpstreamFailed"


async def test_streams_of_other_types_have_it_in_their_head(plane: DataPlane) -> None:
    async with engine(answers(chunked(b"sound", headers=b"content-type: audio/mpeg\r\n")), port=PORT):
        ground = Ground(plane)
        body = HELLO[:-1] + b',"stream":true}'
        answer = await ground.ask(CHAT, ASKED, body=body)
        assert (answer.status, answer.body) == (200, b"sound")
        ground.claims(answer, body=body)


async def test_engines_refusal(plane: DataPlane) -> None:
    async with engine(
        answers(reply(b'{"error":{}}', b"content-type: application/json", status=b"400 Bad Request")), port=PORT
    ):
        ground = Ground(plane)
        answer = await ground.ask(CHAT, ASKED)
        assert ground.claims(answer)["outcome"] == "failed:engine"


async def test_refusals(plane: DataPlane) -> None:
    ground = Ground(plane)
    unread = {"body": None}
    wrong = await ask(ground.gateway, ground.account.path(), ("api-key", "x" * 32), ASKED)
    assert ground.claims(wrong, **unread)["outcome"] == "failed:KeyRejected"
    assert ground.record(wrong)["decision"] == "deny"
    nowhere = await ground.ask("/openai/nothing", ASKED)
    assert (nowhere.status, ground.claims(nowhere, "/openai/nothing", **unread)["stored"]) == (404, "none")
    bad = await ground.ask(CHAT, ASKED, body=b"{}")
    assert ground.claims(bad, body=b"{}")["status"] == 400
    ground.plane.change(ground.account, publicNetworkAccess="Disabled")
    closed = await ground.ask(CHAT, ASKED)
    claims = ground.claims(closed, **unread)
    assert (claims["status"], claims["outcome"]) == (403, "failed:PublicAccessDisabled")
    other = await ask(ground.gateway, "/nobody/openai/x", ASKED)
    decoded = jwt.decode(
        other.headers["x-stockade-receipt"], ground.key, algorithms=["EdDSA"], options={"verify_iat": False}
    )
    assert decoded["account"] == ""


async def uploaded(ground: Ground) -> Answer:
    answer = Answer([UPLOAD[:50], UPLOAD[50:]])
    sent = [("api-key", ground.account.key), FORM, ASKED]
    await ground.gateway.__rsgi__(Scope(ground.account.path("/openai/files"), "POST", VERSION, sent), answer)
    return answer


async def test_what_was_stored_is_named(plane: DataPlane) -> None:
    ground = Ground(plane)
    made = await uploaded(ground)
    assert made.status == 200
    path = f"files/{made.json['id']}"
    assert ground.claims(made, "/openai/files", UPLOAD)["stored"] == [path]
    for method, below in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        where = f"/openai/{path}{below}"
        answer = await ground.ask(where, ASKED, body=None, method=method)
        assert answer.status == 200
        assert ground.claims(answer, where, None, method=method)["stored"] == "none"


async def test_what_could_not_be_stored_is_not_said_to_be(plane: DataPlane) -> None:
    ground = Ground(plane, stockade={"content": {"store": "off"}})
    refused = await uploaded(ground)
    claims = ground.claims(refused, "/openai/files", None)  # refused before it was read
    assert (claims["status"] >= 400, claims["stored"]) == (True, "none")
    assert ground.plane.contents.items == {}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("store", [False, True], ids=["kept", "not kept"])
async def test_responses_are_stored_or_not_as_asked(plane: DataPlane, stream: bool, store: bool) -> None:
    sent = chunked(*events({"content": "Hello."}), headers=SSE) if stream else completion()
    async with engine(answers(sent), port=PORT):
        ground = Ground(plane)
        body = json.dumps({"model": "chat", "input": "hello", "store": store, "stream": stream}).encode()
        answer = await ground.ask("/openai/responses", ASKED, body=body)
        assert answer.status == 200, answer.body
        kept = [f"responses/{one}" for one in ground.plane.contents.ids("responses")]
        assert len(kept) == int(store)
        assert ground.claims(answer, "/openai/responses", body)["stored"] == (kept or "none")


async def test_an_upload_that_is_refused_half_read_counts_as_unread(plane: DataPlane) -> None:
    ground = Ground(plane)
    answer = Answer([UPLOAD])
    sent = [("api-key", ground.account.key), FORM, ASKED, ("content-length", str(len(UPLOAD) + 5))]
    await ground.gateway.__rsgi__(Scope(ground.account.path("/openai/files"), "POST", VERSION, sent), answer)
    assert answer.status == 400
    assert ground.claims(answer, "/openai/files", None)["stored"] == "none"


async def test_query_and_path_count_and_a_key_is_not_shown(plane: DataPlane) -> None:
    async with engine(answers(completion()), port=PORT):
        ground = Ground(plane)
        query = f"{VERSION}&subscription-key={ground.account.key}"
        answer = await ask(ground.gateway, ground.account.path(), ASKED, query=query)
        assert answer.status == 200
        claims = ground.claims(answer, query=query)
        assert ground.account.key not in json.dumps(claims)


async def test_nothing_is_stored_behind_a_receipt(plane: DataPlane) -> None:
    draft = receipts.Draft()
    draft.signed = "signed"
    with pytest.raises(Fault) as caught:
        await receipts._Watched(plane.contents.of("/a", None, "", ""), draft).create("files", "f", {})  # type: ignore[arg-type]
    assert caught.value.kind is FaultKind.INTERNAL


async def test_without_the_key_broker_the_reply_has_none(plane: DataPlane) -> None:
    async with engine(answers(completion()), port=PORT):
        ground = Ground(plane)
        ground.gateway._requests._receipts._broker._broker.seal()
        answer = await ground.ask(CHAT, ASKED)
        assert answer.status == 200
        assert "x-stockade-receipt" not in answer.headers
