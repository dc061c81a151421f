"""The lines of a batch's input file: read one by one within bounds, and checked before any of them is answered.

Codes of errors are Azure OpenAI's (`invalid_json_line`, `duplicate_custom_id`, `url_mismatch`, `model_mismatch`, `model_not_found`,
`too_many_tasks`, `empty_batch`, `invalid_request`).
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from stockade.services.openai.batches import plain

MAX_CUSTOM_ID: Final = 512
MAX_ERRORS: Final = 100
"""Errors that are told; more than one page nobody reads."""
_DIGEST: Final = 16


class Line(msgspec.Struct):
    """One request, as the file has it."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _Model(msgspec.Struct):
    model: str


_decode_line = msgspec.json.Decoder(Line).decode
_decode_model = msgspec.json.Decoder(_Model).decode


class LineError(Exception):
    """What is wrong with a line. Says nothing of what stands in it but names of members."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param

    def told(self, number: int | None) -> dict[str, Any]:
        """Return the error as a batch has it."""
        return {"code": self.code, "message": self.message, "param": self.param, "line": number}


async def lines(pieces: AsyncIterator[bytes], longest: int) -> AsyncIterator[tuple[int, bytes]]:
    """Yield number (from 1) and bytes of each line that is not empty. LineError for one above `longest` bytes; `args` then end with its number."""
    number, held = 1, bytearray()
    async for piece in pieces:
        held += piece
        start = 0
        while (end := held.find(b"\n", start)) >= 0:
            line = bytes(held[start:end]).strip()
            start = end + 1
            if len(line) > longest:
                raise _too_long(number, longest)
            if line:
                yield number, line
            number += 1
        del held[:start]
        if len(held) > longest:
            raise _too_long(number, longest)
    line = bytes(held).strip()
    if line:
        yield number, line


def read_line(data: bytes) -> Line:
    """Return what a line says; LineError when it cannot be read."""
    try:
        data.decode()
        line = _decode_line(data)
    except msgspec.ValidationError as failure:
        raise LineError(
            "invalid_request", "A line must be an object with 'custom_id', 'method', 'url' and 'body'."
        ) from failure
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as failure:
        raise LineError("invalid_json_line", "The line is not valid JSON.") from failure
    if not 0 < len(line.custom_id) <= MAX_CUSTOM_ID:
        raise LineError("invalid_request", f"'custom_id' must have 1 to {MAX_CUSTOM_ID} characters.", param="custom_id")
    if line.method != "POST":
        raise LineError("invalid_request", "'method' can only be POST.", param="method")
    if not bytes(line.body).lstrip().startswith(b"{"):
        raise LineError("invalid_request", "'body' must be an object.", param="body")
    return line


@dataclass(slots=True)
class Checked:
    """What was found of a whole file. model: the deployment that all its lines name; last: the number of the last line."""

    total: int = 0
    last: int = 0
    model: str = ""
    errors: list[dict[str, Any]] = field(default_factory=list)


async def check(
    found: AsyncIterator[tuple[int, bytes]], endpoint: str, deployed: Callable[[str], bool], most: int
) -> Checked:
    """Look at every line of a file. deployed: whether the account has a deployment of that name. most: lines that a batch may have."""
    checked, seen, wanted = Checked(), set[bytes](), plain(endpoint)
    try:
        async for number, data in found:
            checked.total += 1
            checked.last = number
            if checked.total > most:
                checked.errors.append(
                    LineError("too_many_tasks", f"A batch can have {most} requests at most.").told(None)
                )
                return checked
            try:
                line = read_line(data)
                _check_whole(line, wanted, seen, deployed, checked)
            except LineError as error:
                if len(checked.errors) < MAX_ERRORS:
                    checked.errors.append(error.told(number))
    except LineError as error:  # a line that is too long, after which nothing can be read
        checked.errors.append(error.told(error.args[-1]))
    if not checked.total and not checked.errors:
        checked.errors.append(LineError("empty_batch", "The input file has no requests.").told(None))
    return checked


def _check_whole(line: Line, wanted: str, seen: set[bytes], deployed: Callable[[str], bool], checked: Checked) -> None:
    if plain(line.url) != wanted:
        raise LineError("url_mismatch", "'url' is not the endpoint of the batch.", param="url")
    digest = hashlib.blake2b(line.custom_id.encode(), digest_size=_DIGEST).digest()  # 100,000 of them in ten megabytes
    if digest in seen:
        raise LineError("duplicate_custom_id", "Another line has this 'custom_id' too.", param="custom_id")
    seen.add(digest)
    try:
        model = _decode_model(line.body).model
    except (msgspec.MsgspecError, RecursionError) as failure:
        raise LineError("invalid_request", "'body.model' must name a deployment.", param="body.model") from failure
    if not checked.model:
        if not deployed(model):
            raise LineError("model_not_found", "The resource has no deployment of this name.", param="body.model")
        checked.model = model
    elif model.lower() != checked.model.lower():
        raise LineError("model_mismatch", "All lines of a batch must name one deployment.", param="body.model")


def _too_long(number: int, longest: int) -> LineError:
    error = LineError("invalid_request", f"The line has more than {longest} bytes.")
    error.args = (*error.args, number)
    return error
