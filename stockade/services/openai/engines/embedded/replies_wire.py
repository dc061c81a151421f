"""Build OpenAI replies and server-sent events from what the engines produce. Source: the API reference's response objects."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from .catalogue import BuiltInModel

FinishReason = Literal["stop", "length"]

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens the model read and wrote, counted by its own tokenizer, template and special tokens included."""

    prompt_tokens: int
    completion_tokens: int

    def wire(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


class TextReply:
    """The replies to one request for text, all with the same id and creation time.

    created:       seconds since the epoch.
    include_usage: whether a stream ends with an event that carries the usage; the others then say `"usage": null`.
    """

    def __init__(
        self, operation: Literal["chat", "completion"], model: BuiltInModel, created: int, *, include_usage: bool
    ) -> None:
        self._chat = operation == "chat"
        self._usage: dict[str, Any] = {"usage": None} if include_usage else {}
        self._head = {
            "id": f"{'chatcmpl' if self._chat else 'cmpl'}-{secrets.token_hex(12)}",
            "created": created,
            "model": model.name,
            "system_fingerprint": model.fingerprint,
        }

    def whole(self, text: str, finish: FinishReason, usage: Usage) -> bytes:
        """Return the reply to a request that is not streamed."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "logprobs": None}
        choice |= {"message": {"role": "assistant", "content": text, "refusal": None}} if self._chat else {"text": text}
        kind = "chat.completion" if self._chat else "text_completion"
        return msgspec.json.encode({"object": kind, **self._head, "choices": [choice], "usage": usage.wire()})

    def opening(self) -> bytes:
        """Return the event before any text: a chat names its role, a completion has none."""
        return self._event({"role": "assistant", "content": ""}, "", None) if self._chat else b""

    def piece(self, text: str) -> bytes:
        return self._event({"content": text}, text, None)

    def closing(self, finish: FinishReason, usage: Usage) -> bytes:
        """Return the event with the reason, the one with the usage if it was asked for, and the end mark."""
        counted = self._data([], {"usage": usage.wire()}) if self._usage else b""
        return self._event({}, "", finish) + counted + DONE

    def _event(self, delta: dict[str, str], text: str, finish: FinishReason | None) -> bytes:
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "logprobs": None}
        return self._data([choice | ({"delta": delta} if self._chat else {"text": text})], self._usage)

    def _data(self, choices: list[dict[str, Any]], usage: dict[str, Any]) -> bytes:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        return b"data: " + msgspec.json.encode({"object": kind, **self._head, "choices": choices, **usage}) + b"\n\n"


def embeddings_reply(vectors: Sequence[Sequence[float] | str], tokens: int, model: BuiltInModel) -> bytes:
    """Return the reply with one vector per input, each a list of numbers or base64 of little-endian 32-bit floats."""
    data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return msgspec.json.encode({"object": "list", "data": data, "model": model.name, "usage": usage})


def models_reply(models: Iterable[BuiltInModel]) -> bytes:
    """Return the list of models, each with a plain word about what it is."""
    data = [
        {
            "id": model.name,
            "object": "model",
            "created": 0,
            "owned_by": "stockade-built-in",
            "description": model.label,
            "capabilities": sorted(model.capabilities),
            "context_tokens": model.context_tokens,
        }
        for model in models
    ]
    return msgspec.json.encode({"object": "list", "data": data})
