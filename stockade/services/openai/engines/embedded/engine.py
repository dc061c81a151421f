"""What the HTTP side asks of an engine, and what an engine gives back. Imports no engine library."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from .replies_wire import FinishReason, Usage
from .requests_wire import Generation


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request was taken and its prompt is being read."""


@dataclass(frozen=True, slots=True)
class Text:
    """Some of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of the answer, why, and what it took."""

    reason: FinishReason
    usage: Usage


Piece = Accepted | Text | Finished


class TextEngine(Protocol):
    """Writes text. Every method is for the event loop and blocks it nowhere."""

    def generate(self, request: Generation) -> AsyncGenerator[Piece, None]:
        """Yield Accepted at least once, then texts, then one Finished.

        Closing the generator or cancelling its task stops the model at its next token; its place is free when it has really stopped.
        Raises Fault(LIMIT) when too many requests wait, Fault(INVALID) when the prompt does not fit the model's context,
        Fault(INTERNAL) when the engine breaks off.
        """
        ...

    def close(self) -> None:
        """Wait for the requests at work, whose callers are gone by now, and unload the model."""
        ...


class EmbeddingEngine(Protocol):
    """Turns texts into vectors. Every method is for the event loop and blocks it nowhere."""

    async def embed(self, texts: Sequence[str]) -> tuple[list[bytes], int]:
        """Return one vector per text, in order, as little-endian 32-bit floats of length 1, and the number of tokens read.

        Cancelling the task stops the work at the next text. Raises Fault(LIMIT) when too many requests wait, Fault(INVALID) when a text
        or the request is too long.
        """
        ...

    def close(self) -> None:
        """Wait for the requests at work, whose callers are gone by now, and unload the model."""
        ...
