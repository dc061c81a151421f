"""A response as the wire has it, made of what a chat engine answers: whole, or event by event.

Source: openai 3.54.0, `types/responses/response.py` and the `response_*_event.py` beside it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from stockade.kernel.faults import Fault, FaultKind
from stockade.services.openai.bodies import encode
from stockade.services.openai.chat_stream import Collected, chunks_of
from stockade.services.openai.pages import new_id
from stockade.services.openai.responses_request import Wanted

Document = dict[str, Any]


def begun(wanted: Wanted, response_id: str, now: float, *, stored: bool) -> Document:
    """Return a response that nothing has been answered of."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(now),
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": wanted.instructions,
        "max_output_tokens": wanted.max_output_tokens,
        "max_tool_calls": None,
        "model": wanted.model,
        "output": [],
        "parallel_tool_calls": wanted.parallel_tool_calls,
        "previous_response_id": wanted.previous,
        "reasoning": {"effort": wanted.reasoning.get("effort"), "summary": None},
        "service_tier": "default",
        "store": stored,
        "temperature": wanted.temperature if wanted.temperature is not None else 1.0,
        "text": wanted.text,
        "tool_choice": wanted.tool_choice,
        "tools": wanted.tools,
        "top_p": wanted.top_p if wanted.top_p is not None else 1.0,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": wanted.metadata,
    }


def ended(response: Document, output: Sequence[Document], finish_reason: Any, usage: Any, now: float) -> Document:
    """Return the response with its output. An engine that stopped at a limit makes it `incomplete`."""
    reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
    reason = reasons.get(finish_reason) if isinstance(finish_reason, str) else None
    status = "incomplete" if reason else "completed"
    for item in output:
        item["status"] = status
    return {
        **response,
        "status": status,
        "completed_at": int(now) if reason is None else None,
        "incomplete_details": {"reason": reason} if reason else None,
        "output": list(output),
        "usage": _usage(usage),
    }


def whole(response: Document, completion: Mapping[str, Any], now: float) -> Document:
    """Return the response that a chat completion is; Fault(UPSTREAM_FAILED) for one without a choice."""
    choices = completion.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise Fault(FaultKind.UPSTREAM_FAILED, "The model server's reply could not be read: it has no choice.")
    output = [_message([part])] if (part := _part(message)) is not None else []
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            output.append(
                _function_call(
                    str(call.get("id", "")), str(function.get("name", "")), str(function.get("arguments", ""))
                )
            )
    return ended(response, output, choice.get("finish_reason"), completion.get("usage"), now)


class Stream:
    """A response event by event. finish: keeps the response before its last event says that it is there."""

    def __init__(
        self, response: Document, now: Callable[[], float], finish: Callable[[Document], Awaitable[None]]
    ) -> None:
        self._response, self._now, self._finish = response, now, finish
        self._number = 0
        self._collected = Collected()
        self._output: list[Document] = []
        self._message_at: int | None = None
        self._part_kind = ""
        self._calls: dict[int, int] = {}
        """From the engine's index of a tool call to its place in the output."""

    async def events(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the events. Fault(UPSTREAM_FAILED) when the engine breaks off: then nothing is kept."""
        yield self._event("response.created", response=self._response)
        yield self._event("response.in_progress", response=self._response)
        finish_reason = None
        async for chunk in chunks_of(pieces):
            self._collected.add(chunk)
            choices = chunk.get("choices")
            choice = choices[0] if isinstance(choices, list) and choices else None
            if not isinstance(choice, dict):
                continue
            finish_reason = choice.get("finish_reason") or finish_reason
            delta = choice.get("delta")
            if isinstance(delta, dict):
                said = b"".join(self._delta(delta))
                if said:
                    yield said
        last = b"".join(self._close_message()) + b"".join(self._close_calls())
        response = ended(self._response, self._output, finish_reason, self._collected.usage, self._now())
        await self._finish(response)
        yield last + self._event(f"response.{response['status']}", response=response)

    def _delta(self, delta: Mapping[str, Any]) -> Iterator[bytes]:
        for kind, name in (("output_text", "content"), ("refusal", "refusal")):
            text = delta.get(name)
            if isinstance(text, str) and text:
                yield from self._say(kind, text)
        calls = delta.get("tool_calls")
        for number, call in enumerate(calls if isinstance(calls, list) else []):
            if isinstance(call, dict):
                yield from self._call(call.get("index", number), call)

    def _say(self, kind: str, text: str) -> Iterator[bytes]:
        if self._message_at is None or self._part_kind != kind:
            yield from self._close_message()
            self._message_at, self._part_kind = len(self._output), kind
            item = _message([])
            self._output.append(item)
            yield self._event("response.output_item.added", output_index=self._message_at, item=item)
            item["content"] = [_text_part("")] if kind == "output_text" else [{"type": "refusal", "refusal": ""}]
            yield self._event("response.content_part.added", **self._place(), part=item["content"][0])
        part = self._output[self._message_at]["content"][0]
        part["text" if kind == "output_text" else "refusal"] += text
        more: Document = {"logprobs": []} if kind == "output_text" else {}
        yield self._event(f"response.{kind}.delta", **self._place(), delta=text, **more)

    def _close_message(self) -> Iterator[bytes]:
        if self._message_at is None:
            return
        item, at = self._output[self._message_at], self._message_at
        part = item["content"][0]
        item["status"] = "completed"
        if self._part_kind == "output_text":
            yield self._event("response.output_text.done", **self._place(), text=part["text"], logprobs=[])
        else:
            yield self._event("response.refusal.done", **self._place(), refusal=part["refusal"])
        yield self._event("response.content_part.done", **self._place(), part=part)
        yield self._event("response.output_item.done", output_index=at, item=item)
        self._message_at = None

    def _call(self, index: Any, call: Mapping[str, Any]) -> Iterator[bytes]:
        function = call.get("function")
        if not isinstance(function, dict) or not isinstance(index, int):
            return
        if index not in self._calls:
            yield from self._close_message()
            self._calls[index] = len(self._output)
            item = _function_call(str(call.get("id", "")), str(function.get("name", "")), "")
            self._output.append(item)
            yield self._event("response.output_item.added", output_index=self._calls[index], item=item)
        at = self._calls[index]
        text = function.get("arguments")
        if isinstance(text, str) and text:
            item = self._output[at]
            item["arguments"] += text
            yield self._event("response.function_call_arguments.delta", item_id=item["id"], output_index=at, delta=text)

    def _close_calls(self) -> Iterator[bytes]:
        for at in self._calls.values():
            item = self._output[at]
            item["status"] = "completed"
            yield self._event(
                "response.function_call_arguments.done",
                item_id=item["id"],
                output_index=at,
                name=item["name"],
                arguments=item["arguments"],
            )
            yield self._event("response.output_item.done", output_index=at, item=item)

    def _place(self) -> Document:
        assert self._message_at is not None
        return {"item_id": self._output[self._message_at]["id"], "output_index": self._message_at, "content_index": 0}

    def _event(self, kind: str, **members: Any) -> bytes:
        event = {"type": kind, "sequence_number": self._number, **members}
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + encode(event) + b"\n\n"


def _part(message: Mapping[str, Any]) -> Document | None:
    content, refusal = message.get("content"), message.get("refusal")
    if isinstance(content, str) and content:
        return _text_part(content)
    if isinstance(refusal, str) and refusal:
        return {"type": "refusal", "refusal": refusal}
    return None


def _text_part(text: str) -> Document:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(content: list[Document]) -> Document:
    return {"id": new_id("msg_"), "type": "message", "status": "in_progress", "role": "assistant", "content": content}


def _function_call(call_id: str, name: str, arguments: str) -> Document:
    return {
        "id": new_id("fc_"),
        "type": "function_call",
        "status": "in_progress",
        "call_id": call_id or new_id("call_"),
        "name": name,
        "arguments": arguments,
    }


def _usage(usage: Any) -> Document | None:
    if not isinstance(usage, dict):
        return None

    def count(holder: Any, name: str) -> int:
        found = holder.get(name) if isinstance(holder, dict) else None
        return found if isinstance(found, int) else 0

    read, written = count(usage, "prompt_tokens"), count(usage, "completion_tokens")
    return {
        "input_tokens": read,
        "input_tokens_details": {
            "cached_tokens": count(usage.get("prompt_tokens_details"), "cached_tokens"),
            "cache_write_tokens": 0,
        },
        "output_tokens": written,
        "output_tokens_details": {
            "reasoning_tokens": count(usage.get("completion_tokens_details"), "reasoning_tokens")
        },
        "total_tokens": count(usage, "total_tokens") or read + written,
    }
