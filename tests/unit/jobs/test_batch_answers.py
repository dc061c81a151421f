"""What lines were answered: kept once, read back in the order of their answers, the first answer where there were two."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stockade.jobs.batch_answers import Answered, Parts, expired_row, row_of, unanswered_row
from stockade.jobs.batch_requests import Answer
from stockade.kernel.evidence import JobGrant
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from tests.factories.content import KeptInMemory

BATCH = "batch_00000000-0000-4000-8000-000000000000"


def parts(kept: KeptInMemory) -> Parts:
    content = kept.of("account", JobGrant(Secret(b"g")), "OpenAI/batches/write", "test")
    return Parts(content, BATCH, expires_at=2e9)


def answered(number: int, kind: Any = "O", text: str = "") -> Answered:
    return Answered(number, kind, json.dumps({"said": text or number}).encode(), (3, 4))


async def said(found: Parts, kind: Any) -> list[Any]:
    return [json.loads(row)["said"] async for row in found.rows(kind)]


async def test_what_is_kept_is_there_for_the_next_process_and_what_is_not_is_not() -> None:
    kept = KeptInMemory(lambda: 1e9)
    first = parts(kept)
    await first.load(5)
    for one in (answered(2), answered(1, "E")):
        first.add(one)
    assert await first.keep()
    first.add(answered(3))

    second = parts(kept)
    await second.load(5)
    assert [number for number in range(1, 6) if second.has(number)] == [1, 2]
    assert second.counts() == {"completed": 1, "failed": 1}
    assert second.usage()["usage"]["total_tokens"] == 14
    assert (await said(second, "O"), await said(second, "E")) == ([2], [1])
    assert not await second.keep()


async def test_of_a_line_answered_twice_the_first_answer_counts_in_whatever_file_it_is() -> None:
    kept = KeptInMemory(lambda: 1e9)
    one, other = parts(kept), parts(kept)
    await one.load(3)
    await other.load(3)
    one.add(answered(1, "E", "first"))
    one.add(answered(2, text="first"))
    other.add(answered(1, text="second"))
    other.add(answered(3, text="second"))
    await one.keep()
    await other.keep()

    third = parts(kept)
    await third.load(3)
    assert (await said(third, "O"), await said(third, "E")) == (["first", "second"], ["first"])
    assert third.counts() == {"completed": 2, "failed": 1}


async def test_answers_that_could_not_be_kept_are_kept_later() -> None:
    kept = KeptInMemory(lambda: 1e9)
    found = parts(kept)
    await found.load(1)
    found.add(answered(1))
    kept.failure = Fault(FaultKind.CUSTOMER_KEY_UNAVAILABLE, "away")
    with pytest.raises(Fault):
        await found.keep()
    kept.failure = None
    assert await found.keep()
    assert await said(found, "O") == [1]


async def test_removing_parts_leaves_the_batch_and_others_parts() -> None:
    kept = KeptInMemory(lambda: 1e9)
    content = kept.of("account", JobGrant(Secret(b"g")), "", "test")
    await content.create("batches", BATCH, {}, status="completed")
    mine, theirs = parts(kept), Parts(content, BATCH[:-1] + "1", expires_at=2e9)
    for one in (mine, theirs):
        await one.load(1)
        one.add(answered(1))
        await one.keep()
    await mine.remove()
    await mine.remove()
    assert len(kept.ids("batches")) == 2


def test_an_answer_is_one_row_whatever_the_engine_sent() -> None:
    pretty = json.dumps({"text": "a\nb", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}, indent=2).encode()
    row = row_of(1, "id", Answer(200, pretty, "r"))
    assert b"\n" not in row.row
    assert row.tokens == (3, 4)
    assert row.kind == "O"
    found = json.loads(row.row)
    assert found["id"].startswith("batch_req_")
    assert (found["custom_id"], found["error"]) == ("id", None)
    assert found["response"] == {"status_code": 200, "request_id": "r", "body": json.loads(pretty)}


@pytest.mark.parametrize(
    "body", [b"", b"plain\ntext", b"\xff\xfe", b"[" * 100_000], ids=["empty", "text", "bytes", "deep"]
)
def test_an_answer_that_is_no_json_is_a_text(body: bytes) -> None:
    row = row_of(1, "id", Answer(502, body, "r"))
    assert b"\n" not in row.row
    assert row.kind == "E"
    assert json.loads(row.row)["response"]["body"] == body.decode(errors="replace")


def test_lines_without_an_answer_say_why() -> None:
    failed = json.loads(unanswered_row(1, "id", Fault(FaultKind.UPSTREAM_FAILED, "broke off")).row)
    assert (failed["response"], failed["error"]) == (None, {"code": "BadGateway", "message": "broke off"})
    expired = json.loads(expired_row("id"))
    assert (expired["custom_id"], expired["error"]["code"]) == ("id", "batch_expired")
