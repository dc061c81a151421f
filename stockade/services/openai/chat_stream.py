"""A streamed chat completion, read: its events, and the completion that they make up.

Source: HTML, section 9.2 (server-sent events); openai 3.54.0, `types/chat/chat_completion_chunk.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from stockade.kernel.faults import Fault, FaultKind

MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
MAX_COLLECTED: Final = 16 * 1024 * 1024
"""Characters of one collected reply."""
MAX_CALLS: Final = 256

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Events:
    """Cuts a stream into its events' data, however it comes in pieces."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that are whole by now. Fault(UPSTREAM_FAILED) for one that is too large."""
        self._pending += chunk
        found: list[bytes] = []
        *lines, rest = bytes(self._pending).replace(b"\r\n", b"\n").split(b"\n")
        # A CR at the very end may be half of a CR LF, and stays.
        self._pending = bytearray(rest)
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line.strip() and self._data:
                found.append(b"\n".join(self._data))
                self._data = []
        if len(self._pending) + sum(map(len, self._data)) > MAX_EVENT_BYTES:
            raise _failed("an event is too large")
        return found


def chunk_of(data: bytes) -> dict[str, Any] | None:
    """Return a chunk of a completion; None for `[DONE]`. Fault(UPSTREAM_FAILED) for anything else, an error that the engine reports among it."""
    if data.strip() == b"[DONE]":
        return None
    try:
        chunk = _decode(data)
    except (msgspec.DecodeError, RecursionError) as failure:
        raise _failed("an event is no JSON object") from failure
    if chunk.get("error") is not None:
        raise _failed("it reports an error")
    return chunk


async def chunks_of(pieces: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """Yield the chunks of a stream; Fault(UPSTREAM_FAILED) when it ends before `[DONE]`."""
    events = Events()
    async for piece in pieces:
        for data in events.feed(piece):
            chunk = chunk_of(data)
            if chunk is None:
                return
            yield chunk
    raise _failed("it broke off")


class Collected:
    """A completion, as its chunks make it up: every choice's message, with what its pieces add up to."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._size = 0
        self.usage: dict[str, Any] | None = None

    def add(self, chunk: dict[str, Any]) -> None:
        """Take the next chunk. Fault(UPSTREAM_FAILED) above MAX_COLLECTED."""
        if not self._head:
            self._head = {
                name: chunk[name] for name in ("id", "created", "model", "system_fingerprint") if name in chunk
            }
        if isinstance(chunk.get("usage"), dict):
            self.usage = chunk["usage"]
        for number, part in enumerate(_objects(chunk.get("choices"))):
            index = part.get("index", number)
            if not isinstance(index, int) or len(self._choices) >= MAX_CALLS:
                raise _failed("its choices cannot be told apart")
            choice = self._choices.setdefault(
                index, {"index": index, "message": {"role": "assistant", "content": None}, "finish_reason": None}
            )
            if part.get("finish_reason") is not None:
                choice["finish_reason"] = part["finish_reason"]
            delta = part.get("delta")
            if isinstance(delta, dict):
                self._delta(choice["message"], delta)

    def completion(self) -> dict[str, Any]:
        """Return the `chat.completion`."""
        choices = [self._choices[index] for index in sorted(self._choices)]
        whole = {**self._head, "object": "chat.completion", "choices": choices}
        return {**whole, "usage": self.usage} if self.usage is not None else whole

    def _delta(self, message: dict[str, Any], delta: dict[str, Any]) -> None:
        for name in ("content", "refusal"):
            text = delta.get(name)
            if isinstance(text, str):
                message[name] = (message.get(name) or "") + self._counted(text)
        for number, part in enumerate(_objects(delta.get("tool_calls"))):
            calls: list[dict[str, Any]] = message.setdefault("tool_calls", [])
            index = part.get("index", number)
            if not isinstance(index, int) or not 0 <= index <= len(calls) or index >= MAX_CALLS:
                raise _failed("its tool calls cannot be told apart")
            if index == len(calls):
                calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
            call, function = calls[index], part.get("function")
            if isinstance(part.get("id"), str):
                call["id"] = call["id"] or self._counted(part["id"])
            if isinstance(function, dict):
                for name in ("name", "arguments"):
                    if isinstance(function.get(name), str):
                        call["function"][name] += self._counted(function[name])

    def _counted(self, text: str) -> str:
        self._size += len(text)
        if self._size > MAX_COLLECTED:
            raise _failed("it is too long to be kept")
        return text


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _failed(why: str) -> Fault:
    return Fault(FaultKind.UPSTREAM_FAILED, f"The model server's reply could not be read: {why}.")
