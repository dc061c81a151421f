"""A log line is one JSON object without credentials."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from stockade.identity import client_secrets
from stockade.keys import subscription
from stockade.serve.logs import JsonLines, configuration


def formatted(message: str, *arguments: object, **extra: object) -> dict[str, Any]:
    record = logging.LogRecord("name", logging.WARNING, "file", 1, message, arguments, None)
    vars(record).update(extra)
    line = JsonLines("data").format(record)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def test_line_says_when_what_and_where() -> None:
    line = formatted("a %s\nb", "message", plane="data", status=3)
    assert line["message"] == "a message\nb"
    assert (line["level"], line["process"], line["plane"], line["status"]) == ("warning", "data", "data", 3)
    assert line["time"].endswith("Z")


def test_traceback_is_part_of_the_line() -> None:
    try:
        raise ValueError("broken")
    except ValueError as failure:
        record = logging.LogRecord("n", logging.ERROR, "f", 1, "m", (), (ValueError, failure, failure.__traceback__))
    assert "ValueError: broken" in json.loads(JsonLines().format(record))["exception"]


@pytest.mark.parametrize(
    "secret",
    [
        subscription.generate().reveal_text(),
        client_secrets.generate().reveal_text(),
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJodHRwczovL21hbmFnZW1lbnQifQ.c2lnbmF0dXJl",
    ],
    ids=["subscription key", "client secret", "token"],
)
def test_what_looks_like_a_credential_is_cut(secret: str) -> None:
    line = formatted("got %s there", secret, value={"header": secret})
    assert secret[:20] not in json.dumps(line)
    assert line["message"] == "got [cut] there"


def test_what_json_does_not_know_is_written_as_text() -> None:
    assert formatted("m", value=ValueError("x"))["value"] == "x"


def test_access_log_is_off_at_every_level() -> None:
    for level in ("debug", "info", "warning", "error"):
        assert configuration("data", level)["loggers"]["granian.access"]["level"] == "CRITICAL"
