"""Files over the gateway, with what accounts keep in memory: forms, limits, ranges, evidence, and what breaks off."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from stockade.gateway.kept import KeptContent
from stockade.gateway.transfers import OF_ONE_ACCOUNT
from stockade.kernel.evidence import CallerKey, CallerToken
from stockade.kernel.faults import Fault, FaultKind
from stockade.settings import Content, Limits
from tests.factories.data_plane import VERSION, Account, Answer, DataPlane, Scope, ask

FILES = "/openai/files"
BOUNDARY = "mark"
LINES = b'{"custom_id":"a"}\n' * 100


def form(*parts: tuple[str, bytes] | tuple[str, bytes, str]) -> bytes:
    """Return a form; a part of three is a file and its name."""
    out = []
    for name, data, *filename in parts:
        file = f'; filename="{filename[0]}"' if filename else ""
        out.append(f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data)
    return b"\r\n".join(out) + f"\r\n--{BOUNDARY}--\r\n".encode()


PURPOSE = ("purpose", b"batch")
FILE = ("file", LINES, "lines.jsonl")
TYPE = ("content-type", f"multipart/form-data; boundary={BOUNDARY}")


class Ground:
    def __init__(self, folder: Path, **changes: Any) -> None:
        self.plane = DataPlane(folder, **changes)
        self.account: Account = self.plane.account()
        self.gateway = self.plane.gateway()

    async def upload(
        self, body: bytes, *headers: tuple[str, str], chunks: Sequence[bytes] | None = None, path: str = FILES
    ) -> Answer:
        answer = Answer(chunks if chunks is not None else [body])
        sent = [("api-key", self.account.key), TYPE, *headers]
        await self.gateway.__rsgi__(Scope(self.account.path(path), "POST", VERSION, sent), answer)
        return answer

    async def get(self, path: str, *headers: tuple[str, str], query: str = VERSION, method: str = "GET") -> Answer:
        return await ask(
            self.gateway,
            self.account.path(path),
            ("api-key", self.account.key),
            *headers,
            body=None,
            query=query,
            method=method,
        )

    async def made(self, data: bytes = LINES, purpose: bytes = b"batch") -> str:
        answer = await self.upload(form(("purpose", purpose), ("file", data, "f.bin")))
        assert answer.status == 200, answer.body
        return str(answer.json["id"])


LIMITS = Limits(max_body_bytes=1000, body_timeout_s=0.3)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("files"), content=Content(max_file_bytes=300_000), limits=LIMITS)


@pytest.fixture
def own(tmp_path: Path) -> Ground:
    """One whose requests are timed: timers belong to a test's own loop."""
    return Ground(tmp_path, limits=LIMITS)


async def test_file_comes_and_goes(ground: Ground) -> None:
    answer = await ground.upload(form(PURPOSE, FILE))
    assert answer.status == 200
    made = answer.json
    file_id = made["id"]
    assert made == {
        "id": file_id,
        "object": "file",
        "bytes": len(LINES),
        "created_at": int(ground.plane.clock.now()),
        "filename": "lines.jsonl",
        "purpose": "batch",
        "status": "processed",
    }
    assert (await ground.get(f"{FILES}/{file_id}")).json == made
    content = await ground.get(f"{FILES}/{file_id}/content")
    assert (content.status, content.body, content.headers["content-length"]) == (200, LINES, str(len(LINES)))
    assert content.headers["content-type"] == "application/octet-stream"
    assert file_id in [one["id"] for one in (await ground.get(FILES)).json["data"]]
    gone = await ground.get(f"{FILES}/{file_id}", method="DELETE")
    assert gone.json == {"id": file_id, "object": "file", "deleted": True}
    for path in (f"{FILES}/{file_id}", f"{FILES}/{file_id}/content"):
        assert (await ground.get(path)).status == 404


@pytest.mark.parametrize("size", [1, 7, 100, 4096])
@pytest.mark.parametrize("parts", [(PURPOSE, FILE), (FILE, PURPOSE)], ids=["purpose first", "file first"])
async def test_form_may_come_in_any_pieces_and_order(ground: Ground, parts: Any, size: int) -> None:
    body = form(*parts)
    answer = await ground.upload(b"", chunks=[body[at : at + size] for at in range(0, len(body), size)])
    assert (answer.status, answer.json["purpose"], answer.json["bytes"]) == (200, "batch", len(LINES))


WRONG = {
    "no file": form(PURPOSE),
    "no purpose": form(FILE),
    "a purpose that is the platform's own": form(("purpose", b"batch_output"), FILE),
    "a purpose after the file that is none": form(FILE, ("purpose", b"nonsense")),
    "an empty file": form(PURPOSE, ("file", b"", "a")),
    "two files": form(PURPOSE, FILE, FILE),
    "another file": form(PURPOSE, ("other", b"x", "a"), FILE),
    "two purposes": form(PURPOSE, ("Purpose", b"batch"), FILE),
    "a file without a name": form(PURPOSE, ("file", b"x")),
    "a purpose that is no text": form(("purpose", b"\xff"), FILE),
    "a long field": form(("purpose", b"x" * 100_000), FILE),
    "many fields": form(*((f"f{number}", b"") for number in range(100)), PURPOSE, FILE),
    "a long name": form(PURPOSE, ("file", b"x", "n" * 600)),
    "no end": form(PURPOSE, FILE)[:-20],
    "no form": b"hello",
    "nothing": b"",
    "an expiry that is none": form(("expires_after[anchor]", b"created_at"), ("expires_after[seconds]", b"5"), PURPOSE, FILE),
    "an expiry from elsewhere": form(("expires_after[anchor]", b"now"), ("expires_after[seconds]", b"5000"), PURPOSE, FILE),
}  # fmt: skip


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
async def test_form_that_is_wrong_is_refused_and_leaves_nothing(ground: Ground, body: bytes) -> None:
    before = ground.plane.contents.ids("files")
    answer = await ground.upload(body)
    assert answer.status == 400, answer.body
    assert ground.plane.contents.ids("files") == before


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/form-data", "multipart/mixed; boundary=mark"])
async def test_body_that_is_no_form_is_refused(ground: Ground, kind: str) -> None:
    answer = Answer([form(PURPOSE, FILE)])
    sent = [("api-key", ground.account.key), ("content-type", kind)]
    await ground.gateway.__rsgi__(Scope(ground.account.path(FILES), "POST", VERSION, sent), answer)
    assert answer.status in (400, 415)


async def test_upload_is_bounded_by_the_size_of_files_and_not_by_that_of_bodies(ground: Ground) -> None:
    assert len(LINES) > 1000
    whole = form(PURPOSE, ("file", b"x" * 500_000, "big"))
    declared = await ground.upload(whole, ("content-length", str(len(whole))))
    assert (declared.status, declared.read) == (413, 0)
    pieces = [whole[at : at + 10_000] for at in range(0, len(whole), 10_000)]
    counted = await ground.upload(b"", chunks=pieces)
    assert counted.status == 413
    assert counted.read < 400_000


async def test_sender_that_stalls_is_ended_and_leaves_nothing(own: Ground) -> None:
    before = own.plane.contents.ids("files")
    answer = Answer([form(PURPOSE, FILE)[:200]], stalled=True)
    sent = [("api-key", own.account.key), TYPE]
    await own.gateway.__rsgi__(Scope(own.account.path(FILES), "POST", VERSION, sent), answer)
    assert answer.status == 408
    assert own.plane.contents.ids("files") == before


async def test_upload_may_take_longer_than_a_body_as_long_as_something_comes(own: Ground) -> None:
    whole = form(PURPOSE, FILE)

    class Slow(Answer):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for at in range(0, len(whole), 200):
                await asyncio.sleep(0.04)
                yield whole[at : at + 200]

    answer = Slow()
    sent = [("api-key", own.account.key), TYPE]
    await own.gateway.__rsgi__(Scope(own.account.path(FILES), "POST", VERSION, sent), answer)
    assert answer.status == 200


async def test_client_that_goes_away_in_the_middle_leaves_nothing(ground: Ground) -> None:
    """The server then says only that no more comes."""
    before = ground.plane.contents.ids("files")
    whole = form(PURPOSE, FILE)
    for headers in ((), (("content-length", str(len(whole))),)):
        answer = await ground.upload(b"", *headers, chunks=[whole[:300]])
        assert answer.status == 400
    # With its last boundary, and yet less than the head has promised.
    answer = await ground.upload(whole, ("content-length", str(len(whole) + 5)))
    assert answer.status == 400
    assert ground.plane.contents.ids("files") == before


@pytest.mark.parametrize(
    ("wanted", "status", "start", "end"),
    [
        ("bytes=0-9", 206, 0, 10),
        ("bytes=1000-", 206, 1000, 1800),
        ("bytes=-5", 206, 1795, 1800),
        ("bytes=-99999", 206, 0, 1800),
        ("bytes=1799-99999", 206, 1799, 1800),
        ("bytes=9-5", 200, 0, 1800),
        ("bytes=0-1,5-6", 200, 0, 1800),
        ("bytes=-", 200, 0, 1800),
        ("bytes=a-b", 200, 0, 1800),
        ("lines=0-1", 200, 0, 1800),
    ],
)
async def test_part_of_a_file(ground: Ground, wanted: str, status: int, start: int, end: int) -> None:
    file_id = await ground.made()
    answer = await ground.get(f"{FILES}/{file_id}/content", ("range", wanted))
    assert (answer.status, answer.body) == (status, LINES[start:end])
    assert answer.headers["content-length"] == str(end - start)
    if status == 206:
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/1800"


@pytest.mark.parametrize("wanted", ["bytes=1800-", "bytes=5000-6000", "bytes=-0"])
async def test_part_that_is_not_there(ground: Ground, wanted: str) -> None:
    file_id = await ground.made()
    answer = await ground.get(f"{FILES}/{file_id}/content", ("range", wanted))
    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */1800")


async def test_list_is_paged_and_filtered_by_purpose(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ids = [await ground.made(purpose=b"batch" if number % 2 else b"assistants") for number in range(6)]
    first = (await ground.get(FILES, query=f"{VERSION}&limit=2")).json
    assert ([one["id"] for one in first["data"]], first["has_more"]) == ([ids[5], ids[4]], True)
    rest = (await ground.get(FILES, query=f"{VERSION}&limit=9&after={first['last_id']}")).json
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (ids[3::-1], False)
    batch = (await ground.get(FILES, query=f"{VERSION}&purpose=batch&order=asc&limit=3")).json
    assert ([one["id"] for one in batch["data"]], batch["has_more"]) == ([ids[1], ids[3], ids[5]], False)
    none = (await ground.get(FILES, query=f"{VERSION}&purpose=evals")).json
    assert none == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=-1", "limit=99999999999", "order=up", "after=nothing"])
async def test_list_with_a_query_that_says_nothing_is_refused(ground: Ground, query: str) -> None:
    assert (await ground.get(FILES, query=f"{VERSION}&{query}")).status == 400


async def test_file_expires_as_its_form_says_and_no_later_than_the_settings(tmp_path: Path) -> None:
    ground = Ground(tmp_path, content=Content(files_days=1))
    now = int(ground.plane.clock.now())
    after = (("expires_after[anchor]", b"created_at"), ("expires_after[seconds]", b"7200"))
    assert (await ground.upload(form(*after, PURPOSE, FILE))).json["expires_at"] == now + 7200
    assert (await ground.upload(form(PURPOSE, FILE, *after))).json["expires_at"] == now + 7200
    file_id = (await ground.upload(form(PURPOSE, FILE))).json["id"]
    assert (await ground.get(f"{FILES}/{file_id}")).json["expires_at"] == now + 24 * 3600
    ground.plane.clock.advance(24 * 3600 + 1)
    assert (await ground.get(f"{FILES}/{file_id}")).status == 404


async def test_broker_is_shown_what_the_caller_presented(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    account, opened = ground.account, ground.plane.contents.opened
    _, token = ground.plane.caller()
    path, v1 = account.path(FILES), account.path("/openai/v1/files")
    for headers in ([("api-key", account.key)], [("api-key", account.key)]):  # the second time it is remembered
        await ask(ground.gateway, path, *headers, body=None, method="GET")
    await ask(ground.gateway, path, ("authorization", f"Bearer {token}"), body=None, method="GET")
    await ask(ground.gateway, path, ("authorization", f"Bearer aad#{account.id}#{token}"), body=None, method="GET")
    await ask(ground.gateway, v1, ("authorization", f"Bearer {account.key}"), body=None, method="GET", query="")
    issued = await ask(ground.gateway, account.path("/sts/v1.0/issueToken"), ("api-key", account.key), query="")
    session = issued.body.decode()
    listed = await ask(ground.gateway, path, ("authorization", f"Bearer {session}"), body=None, method="GET")
    assert listed.status == 200
    keys = [one.evidence.key.reveal_text() for one in opened if isinstance(one.evidence, CallerKey)]
    tokens = [one.evidence.token.reveal_text() for one in opened if isinstance(one.evidence, CallerToken)]
    assert (keys, tokens) == ([account.key] * 3, [token, token, session])
    assert {(one.account_id, one.data_action, one.asked_by) for one in opened} == {
        (account.id.lower(), "OpenAI/files/read", "data-worker Files_List")
    }


async def test_download_that_breaks_off_is_cut_and_one_that_cannot_begin_is_refused(ground: Ground) -> None:
    file_id, kept = await ground.made(b"x" * 200_000), ground.plane.contents
    kept.failure, kept.breaks_after = Fault(FaultKind.UNAVAILABLE, "The key broker does not answer."), 100_000
    try:
        answer = await ground.get(f"{FILES}/{file_id}/content")
        assert answer.status == 200
        assert (len(answer.body), answer.body.strip(b"x")) == (131_072, b"")  # and nothing is added that says why
        kept.breaks_after = 0
        refused = await ground.get(f"{FILES}/{file_id}/content")
        assert (refused.status, refused.code) == (503, "ServiceUnavailable")
    finally:
        kept.failure = kept.breaks_after = None
    assert (await ground.get(f"{FILES}/{file_id}/content")).body == b"x" * 200_000
    outcomes = [line["outcome"] for line in ground.plane.audit_lines(ground.gateway)]
    assert outcomes[-3:] == ["failed:Unavailable", "failed:Unavailable", "success"]


async def test_reader_that_has_gone_ends_its_download(ground: Ground) -> None:
    file_id = await ground.made(b"x" * 200_000)
    answer = Answer()
    answer.disconnected.set()
    sent = [("api-key", ground.account.key)]
    await ground.gateway.__rsgi__(
        Scope(ground.account.path(f"{FILES}/{file_id}/content"), "GET", VERSION, sent), answer
    )
    assert ground.plane.record_of(ground.gateway, answer)["outcome"] == "cancelled"


async def test_reader_that_stalls_is_cut(own: Ground) -> None:
    class Stalled(Answer):
        async def send_bytes(self, data: bytes) -> None:
            await asyncio.Event().wait()

    file_id = await own.made(b"x" * 200_000)
    answer = Stalled()
    sent = [("api-key", own.account.key)]
    await own.gateway.__rsgi__(Scope(own.account.path(f"{FILES}/{file_id}/content"), "GET", VERSION, sent), answer)
    assert (answer.status, answer.body) == (200, b"")
    assert own.plane.record_of(own.gateway, answer)["outcome"] == "failed:Timeout"


async def test_account_whose_storage_is_off_takes_no_file_and_gives_back_what_it_has(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    file_id = await ground.made()
    ground.plane.change(ground.account, stockade={"content": {"store": "off"}})
    refused = await ground.upload(form(PURPOSE, FILE))
    assert (refused.status, refused.code, refused.read) == (400, "ContentStorageDisabled", 0)
    assert (await ground.get(f"{FILES}/{file_id}/content")).body == LINES
    assert (await ground.get(f"{FILES}/{file_id}", method="DELETE")).status == 200
    assert ground.plane.contents.items == {}


async def test_roles_say_who_may_read_write_and_delete(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    file_id = await ground.made()
    _, reader = ground.plane.caller("reader")  # Cognitive Services OpenAI User: OpenAI/*/read, and no files/write
    bearer = ("authorization", f"Bearer {reader}")
    path = ground.account.path(f"{FILES}/{file_id}")
    assert (await ask(ground.gateway, path, bearer, body=None, method="GET")).status == 200
    assert (await ask(ground.gateway, path, bearer, body=None, method="DELETE")).status == 401
    answer = Answer([form(PURPOSE, FILE)])
    await ground.gateway.__rsgi__(Scope(ground.account.path(FILES), "POST", VERSION, [bearer, TYPE]), answer)
    assert (answer.status, answer.read) == (401, 0)


async def test_process_that_keeps_nothing_says_so_and_answers_chats_all_the_same(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.gateway._requests._kept = KeptContent(None, 1000)
    assert (await ground.get(FILES)).status == 503
    assert (await ground.get("/openai/v1/models", query="")).status == 200


async def test_output_filter_looks_at_what_models_answered_and_not_at_what_was_uploaded(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    lines = b'{"response":{"body":{"choices":[{"message":{"content":"https://leak.example/x"}}]}}}\n'
    file_id = await ground.made(lines)
    ground.plane.change(
        ground.account, restrictOutboundNetworkAccess=True, stockade={"controls": {"output": "enforce"}}
    )
    path = f"{FILES}/{file_id}/content"
    assert (await ground.get(path)).body == lines
    for key, (item, data) in list(ground.plane.contents.items.items()):  # a job of this platform has written it
        ground.plane.contents.items[key] = (
            dataclasses.replace(item, metadata={**item.metadata, "purpose": "batch_output"}),
            data,
        )
    for wanted in ([], [("range", "bytes=0-60")]):  # a part would let pass what is a URI only with its other part
        looked_at = await ground.get(path, *wanted)
        assert looked_at.status == 200
        assert b"leak.example" not in looked_at.body
        assert "content-length" not in looked_at.headers
        assert json.loads(looked_at.body)


async def test_files_that_go_up_and_down_at_a_time_are_few(ground: Ground) -> None:
    file_id = await ground.made()
    with ExitStack() as others:
        for _ in range(OF_ONE_ACCOUNT):
            others.enter_context(ground.gateway._requests._transfers.one(ground.account.id.lower()))
        for answer in (await ground.upload(form(PURPOSE, FILE)), await ground.get(f"{FILES}/{file_id}/content")):
            assert (answer.status, answer.headers["retry-after"], answer.read) == (429, "1", 0)
        assert (await ground.get(f"{FILES}/{file_id}")).status == 200
    assert (await ground.get(f"{FILES}/{file_id}/content")).body == LINES
