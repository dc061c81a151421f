"""ARM as the person who is signed in: what boot hands over sends a request through the management pipeline, like any client's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from stockade.kernel.secret import Secret

Json: TypeAlias = dict[str, Any]

API_VERSION: Final = "2025-09-01"
MAX_PAGES: Final = 20
"""Of one list. What comes after is not shown, and the page says so."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request to ARM. path: quoted, with its query. body: JSON, empty for none. address, client: the browser's."""

    method: str
    path: str
    body: bytes
    token: Secret
    address: str = ""
    client: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What ARM replied. body: JSON as it would be sent, None for none."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


Ask: TypeAlias = Callable[[Question], Answer]
"""Sends one request and returns its answer, whatever it is. Called in threads."""


class Refused(Exception):
    """ARM's refusal, in ARM's words."""

    def __init__(self, status: int, code: str, message: str, error: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.error = status, code, message, error


@dataclass(frozen=True, slots=True)
class Arm:
    """ARM for one person's requests. Refusals are raised as `Refused`."""

    ask: Ask
    token: Secret
    address: str = ""
    client: str = ""

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: str) -> Json:
        """Send one request and return the JSON object it is answered with, {} for none.

        path: quoted (`below`), without a query. query: `filter` is sent as `$filter`.
        """
        return self._call(method, path, body, {_SPELLED.get(name, name): value for name, value in query.items()})

    def get(self, path: str, **query: str) -> Json:
        return self.call("GET", path, None, **query)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Json:
        return self.call("POST", path, body or {})

    def listed(self, path: str, **query: str) -> tuple[list[Json], bool]:
        """Return the entries of a list, and whether there are more than were read."""
        found: list[Json] = []
        sent = {_SPELLED.get(name, name): value for name, value in query.items()}
        for _ in range(MAX_PAGES):
            answer = self._call("GET", path, None, sent)
            found += [one for one in answer.get("value", ()) if isinstance(one, dict)]
            following = answer.get("nextLink")
            if not following:
                return found, False
            parts = urlsplit(str(following))
            path, sent = parts.path, dict(parse_qsl(parts.query, keep_blank_values=True))
        return found, True

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, str]) -> Json:
        asked = {"api-version": API_VERSION, **query}
        content = b"" if body is None else json.dumps(body).encode()
        whole = f"{path}?{urlencode(asked, quote_via=quote)}"
        answer = self.ask(Question(method, whole, content, self.token, self.address, self.client))
        found = answer.body if isinstance(answer.body, dict) else {}
        if answer.status < 400:
            return found
        error = found.get("error")
        error = error if isinstance(error, dict) else {}
        message = str(error.get("message") or "The request was refused.")
        raise Refused(answer.status, str(error.get("code", "")), message, error)


def below(*segments: str) -> str:
    """Return a path of segments that may hold anything, quoted; an ARM id is taken apart at its slashes."""
    return "".join("/" + quote(part, safe="") for segment in segments for part in segment.split("/") if part)


_SPELLED: Final = {"filter": "$filter", "top": "$top", "select": "$select", "skiptoken": "$skiptoken"}
