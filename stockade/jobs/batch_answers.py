"""What the lines of a batch were answered: kept in parts while it runs, and read back in order for its files.

A part is a thing of the account's kind `batches` with a status of its own, which no list of batches shows. Its body has a row per line: `O` or
`E` (for the output or the error file), the line's number, and what the file will say; its metadata has the numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from stockade.content.item import AccountContent, Item
from stockade.jobs.batch_lines import lines
from stockade.jobs.batch_requests import Answer
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.services.dialect import STATUS
from stockade.services.openai.batches import KIND
from stockade.services.openai.bodies import encode

LONGEST_ROW: Final = 80 * 1024 * 1024
"""More than any reply that an engine may give (64 MiB) and what stands around it."""
PAGE: Final = 1000
_EXPIRED: Final = "This request could not be executed before the completion window expired."


@dataclass(frozen=True, slots=True)
class Answered:
    """One line and what its file says of it."""

    number: int
    kind: Literal["O", "E"]
    row: bytes
    tokens: tuple[int, int]
    """Of the prompt and of the completion."""


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class _Reply(msgspec.Struct):
    usage: _Usage | None = None


_decode_reply = msgspec.json.Decoder(_Reply).decode


def row_of(number: int, custom_id: str, answer: Answer) -> Answered:
    """Return what the file says of a line that was answered, well or not."""
    response = {"status_code": answer.status, "request_id": answer.request_id, "body": _in_a_row(answer.body)}
    row = encode({"id": _row_id(), "custom_id": custom_id, "response": response, "error": None})
    return Answered(number, "O" if answer.status == 200 else "E", row, _tokens(answer.body))


def unanswered_row(number: int, custom_id: str, fault: Fault) -> Answered:
    """Return what the file says of a line whose engine failed to the last."""
    error = {"code": fault.code or STATUS[fault.kind][1], "message": fault.message}
    row = encode({"id": _row_id(), "custom_id": custom_id, "response": None, "error": error})
    return Answered(number, "E", row, (0, 0))


def expired_row(custom_id: str) -> bytes:
    """Return what the error file says of a line that nobody came to, with its end of line."""
    error = {"code": "batch_expired", "message": _EXPIRED}
    return encode({"id": _row_id(), "custom_id": custom_id, "response": None, "error": error}) + b"\n"


class Parts:
    """The parts of one batch. expires_at: when what is left of them may be swept up."""

    def __init__(self, content: AccountContent, batch_id: str, *, expires_at: float) -> None:
        self._content, self._batch, self._expires_at = content, batch_id, expires_at
        self._status = f"part.{batch_id.removeprefix('batch_')}"
        self._kept: list[Item] = []
        self._done = bytearray()
        self._answered = self._failed = 0
        self._tokens = [0, 0]
        self._waiting: list[Answered] = []
        self._lock = asyncio.Lock()

    # What is there.

    async def load(self, last: int) -> None:
        """Find out which lines are answered. last: the number of the file's last line."""
        self._done = bytearray(last + 1)
        self._kept, self._answered, self._failed, self._tokens = [], 0, 0, [0, 0]
        after: str | None = None
        while True:
            found = await self._content.find(KIND, after=after, limit=PAGE, order="asc", statuses=(self._status,))
            for part in found:
                self._note(part)
            if len(found) < PAGE:
                return
            after = found[-1].id

    def has(self, number: int) -> bool:
        """Say whether a line stands in a part."""
        return bool(self._done[number])

    @property
    def done(self) -> int:
        """Lines that stand in parts."""
        return self._answered + self._failed

    def counts(self) -> dict[str, int]:
        return {"completed": self._answered, "failed": self._failed}

    def usage(self) -> dict[str, Any]:
        """Return the tokens of all answers, as a batch has them."""
        into, out = self._tokens
        usage = {
            "input_tokens": into,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": out,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": into + out,
        }
        return {"usage": usage}

    # What comes.

    @property
    def waiting_lines(self) -> int:
        return len(self._waiting)

    @property
    def waiting_bytes(self) -> int:
        return sum(len(one.row) for one in self._waiting)

    def add(self, answered: Answered) -> None:
        """Take an answer; it is kept with the next `keep`."""
        self._waiting.append(answered)

    async def keep(self) -> bool:
        """Keep what has been taken, as one part; False when there was nothing."""
        async with self._lock:
            if not self._waiting:
                return False
            taken, self._waiting = self._waiting, []
            metadata = {
                "answered": [one.number for one in taken if one.kind == "O"],
                "failed": [one.number for one in taken if one.kind == "E"],
                "tokens": [sum(one.tokens[side] for one in taken) for side in (0, 1)],
            }
            part_id = f"{self._batch}.{new_guid()}"
            try:
                part = await self._content.create(
                    KIND, part_id, metadata, _body(taken), status=self._status, expires_at=self._expires_at
                )
            except BaseException:
                self._waiting = [*taken, *self._waiting]
                raise
            self._note(part)
            return True

    # What becomes of it.

    async def rows(self, kind: Literal["O", "E"]) -> AsyncIterator[bytes]:
        """Yield one file's rows, each with its end of line, as they were answered; of a line that was answered twice the first."""
        given = bytearray(len(self._done))
        for part in self._kept:
            async for _, row in lines(self._content.read(part), LONGEST_ROW):
                which, number, said = row.split(b" ", 2)
                if not given[int(number)]:
                    given[int(number)] = 1
                    if which.decode() == kind:
                        yield said + b"\n"

    async def remove(self) -> None:
        """Remove every part; done twice is done once."""
        while True:
            found = await self._content.find(KIND, limit=PAGE, order="asc", statuses=(self._status,))
            for part in found:
                try:
                    await self._content.delete(part)
                except Fault as fault:
                    if fault.kind is not FaultKind.NOT_FOUND:
                        raise
            if len(found) < PAGE:
                return

    def _note(self, part: Item) -> None:
        self._kept.append(part)
        fresh = {"answered": 0, "failed": 0}
        for name in fresh:
            for number in part.metadata[name]:
                if not self._done[number]:
                    self._done[number] = 1
                    fresh[name] += 1
        self._answered += fresh["answered"]
        self._failed += fresh["failed"]
        for side in (0, 1):
            self._tokens[side] += int(part.metadata["tokens"][side])


async def _body(taken: list[Answered]) -> AsyncIterator[bytes]:
    for one in taken:
        yield b"%b %d %b\n" % (one.kind.encode(), one.number, one.row)


def _in_a_row(body: bytes) -> Any:
    """Return a reply's body as it stands in a row: as it is, without line breaks; what is no JSON as a text."""
    try:
        whole = msgspec.json.format(body, indent=-1)
        return msgspec.Raw(whole) if b"\n" not in whole else msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode(errors="replace")


def _tokens(body: bytes) -> tuple[int, int]:
    try:
        usage = _decode_reply(body).usage
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 0, 0
    if usage is None:
        return 0, 0
    return usage.prompt_tokens or usage.input_tokens, usage.completion_tokens or usage.output_tokens


def _row_id() -> str:
    return f"batch_req_{new_guid()}"
