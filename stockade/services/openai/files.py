"""Files: uploaded, listed, read and deleted. Both directions are streamed, whatever their size.

Source: openai 3.54.0, `types/file_object.py`, `file_create_params.py`, `file_list_params.py`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import quote

from stockade.content.closed import storage_off
from stockade.content.item import Item
from stockade.kernel.faults import Fault, FaultKind
from stockade.services.openai import pages
from stockade.services.openai.bodies import encode, json_reply
from stockade.services.openai.handler import Bodiless
from stockade.services.openai.pages import DAY_S
from stockade.services.openai.upload import UploadForm
from stockade.services.service import Call, Reply, Stream
from stockade.settings import Content

PURPOSES: Final = frozenset({"assistants", "batch", "evals", "fine-tune", "user_data", "vision"})
"""What callers may upload for. `batch_output` and the like are this platform's own to write."""
MAX_LISTED: Final = 1000
EXPIRES_AFTER_S: Final = (3600, 30 * DAY_S)
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class Files(Bodiless):
    """The files of an account."""

    answers = frozenset({"Files_Create", "Files_List", "Files_Get", "Files_Content", "Files_Delete"})

    def __init__(self, kept: Content) -> None:
        self._days = kept.files_days

    async def answer(self, call: Call) -> Reply | Stream:
        """Do what the operation says."""
        match call.operation.name:
            case "Files_Create":
                return await self._create(call)
            case "Files_List":
                return await _list(call)
        item = await pages.one(call, "files", call.values["file_id"], "File")
        match call.operation.name:
            case "Files_Content":
                return _content(call, item)
            case "Files_Delete":
                await pages.content_of(call).delete(item)
                return json_reply({"id": item.id, "object": "file", "deleted": True})
        return json_reply(file_object(item))

    async def _create(self, call: Call) -> Reply:
        content = pages.content_of(call)
        if not call.account.keeps_content:
            raise storage_off()  # before anything of the file is read
        if call.upload is None:
            raise Fault(FaultKind.INVALID, "The request has no body.")
        form = UploadForm(call.content_type, call.upload)
        await form.begin()
        metadata: dict[str, Any] = {"filename": form.filename}
        if "purpose" in form.fields:
            _purpose(form.fields)

        async def file() -> AsyncIterator[bytes]:
            size = 0
            async for piece in form.file():
                size += len(piece)
                yield piece
            if size == 0:
                raise Fault(FaultKind.INVALID, "The file is empty.", target="file")
            metadata["purpose"] = _purpose(form.fields)
            _expires_after_s(form.fields)

        expires_at = self._expires_at(call, form)
        item = await content.create(
            "files", pages.new_id("file-"), metadata, file(), status="processed", expires_at=expires_at
        )
        if self._expires_at(call, form) != expires_at:  # the form has said so after the file
            item = await content.update(item, metadata=metadata, expires_at=self._expires_at(call, form))
        return json_reply(file_object(item))

    def _expires_at(self, call: Call, form: UploadForm) -> float | None:
        """Return when a file goes: as the form says, and no later than this platform keeps files."""
        limits = [after for after in (_expires_after_s(form.fields), self._days * DAY_S) if after]
        return call.now + min(limits) if limits else None


async def _list(call: Call) -> Reply:
    page = pages.read_page(call.query, default=MAX_LISTED, maximum=MAX_LISTED)
    purpose = call.query.get("purpose")
    found, more = await pages.collect(
        pages.content_of(call), "files", page, lambda item: purpose is None or item.metadata.get("purpose") == purpose
    )
    return json_reply(pages.listing([file_object(item) for item in found], more))


def _content(call: Call, item: Item) -> Reply | Stream:
    name = quote(str(item.metadata.get("filename", item.id)), safe="")
    headers = [("accept-ranges", "bytes"), ("content-disposition", f"attachment; filename*=UTF-8''{name}")]
    # What models have answered is looked at by the output filter, so it has to be what it is; what was uploaded is nobody's business.
    lines = str(item.metadata.get("purpose", "")).endswith("_output")
    start, end, status = 0, item.size, 200
    # Where that filter looks, such a file is given out whole: a URI in two parts would pass it.
    wanted = _range(call.headers, item.size) if not lines or call.account.output is None else None
    if wanted is not None:
        start, end = wanted
        if start >= end:
            error = {"error": {"code": "InvalidRange", "message": f"The file has {item.size} bytes."}}
            return Reply(416, encode(error), headers=[("content-range", f"bytes */{item.size}")])
        status = 206
        headers.append(("content-range", f"bytes {start}-{end - 1}/{item.size}"))
    headers.append(("content-length", str(end - start)))
    media = "application/jsonl" if lines else "application/octet-stream"
    return Stream(status, pages.content_of(call).read(item, start, end), _nothing, media, headers)


def _range(headers: Any, size: int) -> tuple[int, int] | None:
    """Return start and end of the one range that is asked for; None for the whole, which is also what odd wishes get (RFC 9110, section 14.2)."""
    asked = _RANGE.fullmatch(headers.get("range", "").strip())
    if asked is None or "if-range" in headers or asked[0] == "bytes=-":
        return None
    first, last = asked[1], asked[2]
    if not first:
        return max(0, size - int(last)), size if int(last) else 0
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1 if last else size)


def file_object(item: Item) -> dict[str, Any]:
    """Return a file as the wire has it."""
    shown: dict[str, Any] = {
        "id": item.id,
        "object": "file",
        "bytes": item.size,
        "created_at": int(item.created_at),
        "filename": item.metadata.get("filename", ""),
        "purpose": item.metadata.get("purpose", ""),
        "status": item.status or "processed",
    }
    if item.expires_at is not None:
        shown["expires_at"] = int(item.expires_at)
    return shown


def _purpose(fields: dict[str, str]) -> str:
    purpose = fields.get("purpose", "")
    if purpose not in PURPOSES:
        said = f"'{purpose[:40]}' is no purpose" if purpose else "The form field 'purpose' is missing"
        raise Fault(FaultKind.INVALID, f"{said}; it can be {', '.join(sorted(PURPOSES))}.", target="purpose")
    return purpose


def _expires_after_s(fields: dict[str, str]) -> int | None:
    anchor, text = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and text is None:
        return None
    if anchor != "created_at":
        raise Fault(FaultKind.INVALID, "'expires_after' can only count from 'created_at'.", target="expires_after")
    least, most = EXPIRES_AFTER_S
    seconds = int(text) if text and text.isascii() and text.isdigit() and len(text) < 9 else 0
    if not least <= seconds <= most:
        raise Fault(
            FaultKind.INVALID, f"'expires_after' must be {least} to {most} seconds.", target="expires_after[seconds]"
        )
    return seconds


def _nothing() -> None:
    """There is nothing to give up."""
