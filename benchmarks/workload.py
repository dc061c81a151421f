"""What is asked of every server, and what a right answer holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

EVENTS = 200
"""Server-sent events in one streamed answer, the closing `[DONE]` not counted."""

PACE_S = 0.004
"""Pause between two events of one paced stream.

Models send no bursts, and a burst flatters a slow server: it finds many events in one read and pays for them once.
"""

MARKER = "palisade"
"""The word that every answer, and every event of a streamed one, carries exactly once: a count that holds whoever re-wrote the JSON."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Describe one kind of traffic: a model name the backend understands, and how many connections ask for it.

    `against` names what its figures are compared with: contenders, or a check of the same contender. `question` is what is asked.
    """

    name: str
    about: str
    connections: int
    streamed: bool
    against: tuple[str, ...] = ("nginx", "Envoy")
    question: str = field(default="What keeps a gate?", repr=False)

    @property
    def markers(self) -> int:
        """Count the markers a whole answer holds."""
        return EVENTS if self.streamed else 1

    @property
    def body(self) -> str:
        """Build the JSON body of one request, the same bytes for every server."""
        request: dict[str, object] = {
            "model": self.name,
            "messages": [{"role": "user", "content": self.question}],
        }
        if self.streamed:
            request["stream"] = True
        return json.dumps(request, separators=(",", ":"))


CHAT = Workload("chat", "small JSON in, small JSON out", connections=32, streamed=False)
STREAM = Workload("stream", f"{EVENTS} events, as fast as they are taken", connections=16, streamed=True)
PACED = Workload("paced", f"{EVENTS} events, one every {PACE_S * 1000:.0f} ms", connections=32, streamed=True)
WORKLOADS = (CHAT, STREAM, PACED)
"""What every contender is asked."""

NO_CONTROL = "no control"
"""The check that the controls of one server are compared with: an account on which none is set."""
LINK = "https://docs.example.com/gates/palings.html"
"""Every asked text holds it once: loss prevention has something to find and to judge."""
_SENTENCE = "Stakes are driven side by side into the ground, sharpened above, and held together by rails of split oak. "


def _text(size: int) -> str:
    return f"See {LINK} first. " + (_SENTENCE * (size // len(_SENTENCE) + 1))[:size]


LETTER = Workload(
    "letter", "1 KB of JSON in, small JSON out", 32, streamed=False, against=(NO_CONTROL,), question=_text(850)
)
DOCUMENT = Workload(
    "document", "1 MB of JSON in, small JSON out", 4, streamed=False, against=(NO_CONTROL,), question=_text(2**20 - 180)
)
EVENTS_OUT = Workload("events", f"{EVENTS} events, as fast as they are taken", 16, streamed=True, against=(NO_CONTROL,))
CONTROL_WORKLOADS = (LETTER, DOCUMENT, EVENTS_OUT)
"""What Stockade alone is asked, with one control after the other."""
ALL_WORKLOADS = (*WORKLOADS, *CONTROL_WORKLOADS)


@dataclass(frozen=True, slots=True)
class Target:
    """Name one of the addresses a load goes to in turn: a path with its query, and the headers that carry the credential for it."""

    path: str
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """Say where one contender takes a workload: the port of its TLS listener on localhost, and targets to be asked in turn.

    `check` names the contender's way of checking a caller (`key`, `token`), or is `-` where nothing is checked.
    """

    workload: Workload
    check: str
    port: int
    targets: tuple[Target, ...]


OPENAI_PATH = "/v1/chat/completions"


def everywhere(check: str, port: int, headers: Mapping[str, str]) -> list[Request]:
    """Ask every workload of a contender that takes all of them at the path of the OpenAI API."""
    return [Request(workload, check, port, (Target(OPENAI_PATH, headers),)) for workload in WORKLOADS]
