"""Batches: many requests in one file, answered within a day by the jobs process (`jobs/work/batches.py`).

Source: openai 3.54.0, `types/batch.py`, `batch_create_params.py`, `batch_list_params.py`, `batch_error.py`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from stockade.content.item import Item
from stockade.content.job_grants import JobStarter
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.kernel.operation import Operation
from stockade.keys.broker import JobScope
from stockade.policy.uris.found import FoundUri
from stockade.services.openai import bodies, pages
from stockade.services.openai.bodies import json_reply
from stockade.services.openai.handler import Bodiless
from stockade.services.service import Call, Reply, Stream
from stockade.settings import Content

DAY_S: Final = 24 * 3600
KIND: Final = "batches"
WINDOW_S: Final = 24 * 3600.0
"""`completion_window` "24h", the only one there is."""
GRANT_S: Final = 6 * 24 * 3600.0
"""How long the job may go on writing what it has: longer than the window, for an account whose key is away when that ends."""
DATA_ACTION: Final = "OpenAI/batches/write"
RUNNING: Final = ("validating", "in_progress", "finalizing", "cancelling")
ENDED: Final = ("failed", "completed", "expired", "cancelled")
STATUSES: Final = (*RUNNING, *ENDED)
CANCELLABLE: Final = ("validating", "in_progress")
MAX_LISTED: Final = 100
DEFAULT_LISTED: Final = 20
MAX_METADATA: Final = 16
UPDATE_TRIES: Final = 20
ENDPOINTS: Final[Mapping[str, str]] = {
    "/chat/completions": "ChatCompletions_Create",
    "/completions": "Completions_Create",
    "/embeddings": "Embeddings_Create",
    "/responses": "Responses_Create",
}
"""Per endpoint, without `/v1`, the operation that answers its lines."""
_ID = re.compile(r"batch_[0-9a-f-]{36}")
_TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


class _ExpiresAfter(msgspec.Struct):
    anchor: Literal["created_at"]
    seconds: Annotated[int, msgspec.Meta(ge=3600, le=30 * 24 * 3600)]


class _Create(msgspec.Struct):
    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[Annotated[str, msgspec.Meta(max_length=64)], Annotated[str, msgspec.Meta(max_length=512)]] | None = (
        None
    )
    output_expires_after: _ExpiresAfter | None = None
    input_blob: Any = None
    output_folder: Any = None


_decode_create = msgspec.json.Decoder(_Create).decode


class Batches(Bodiless):
    """The batches of an account."""

    answers = frozenset({"Batches_Create", "Batches_List", "Batches_Get", "Batches_Cancel"})

    def __init__(self, kept: Content) -> None:
        self._days = kept.batches_days

    def read(self, call: Call) -> None:
        """Parse and check what a batch is to be."""
        if call.operation.name == "Batches_Create":
            call.parsed = _read_create(call.body)

    def uris(self, call: Call, *, deep: bool) -> tuple[FoundUri, ...]:
        """Look into the members that name places on blob storage. What the lines carry is looked at when they are answered."""
        if call.operation.name != "Batches_Create":
            return ()
        return bodies.find(call.operation, call.body, bodies.read_members(call.body), deep=deep)

    async def answer(self, call: Call) -> Reply | Stream:
        """Do what the operation says."""
        match call.operation.name:
            case "Batches_Create":
                return await self._create(call)
            case "Batches_List":
                return await _list(call)
        batch_id = call.values["batch_id"]
        if not _ID.fullmatch(batch_id):
            raise _missing(batch_id)
        item = await pages.one(call, KIND, batch_id, "Batch")
        if call.operation.name == "Batches_Cancel":
            item = await _cancel(call, item)
        return json_reply(batch_object(item, call.now))

    async def _create(self, call: Call) -> Reply:
        asked: _Create = call.parsed
        content, jobs = pages.content_of(call), _jobs_of(call)
        file = await pages.one(call, "files", asked.input_file_id, "File")
        if file.metadata.get("purpose") != "batch":
            raise Fault(
                FaultKind.INVALID, "The input file was not uploaded with the purpose 'batch'.", target="input_file_id"
            )
        batch_id = f"batch_{new_guid()}"
        metadata: dict[str, Any] = {
            "endpoint": asked.endpoint,
            "input_file_id": file.id,
            "completion_window": asked.completion_window,
            "expires_at": call.now + WINDOW_S,
        }
        if asked.metadata is not None:
            metadata["metadata"] = asked.metadata
        if asked.output_expires_after is not None:
            metadata["output_expires_after_s"] = asked.output_expires_after.seconds
        expires_at = call.now + self._days * DAY_S if self._days else None
        # Whatever becomes of the rest, a job that finds no batch ends by itself; a batch that has no job would stand there for ever.
        scope = JobScope((f"files/{file.id}",), ("files/*", f"{KIND}/*"), call.now + GRANT_S)
        await jobs.start(KIND, batch_id, scope)
        try:
            item = await content.create(KIND, batch_id, metadata, status="validating", expires_at=expires_at)
        except BaseException:
            await asyncio.shield(jobs.give_up(KIND, batch_id))
            raise
        return json_reply(batch_object(item, call.now))


def endpoint_operation(operations: tuple[Operation, ...], endpoint: str) -> Operation | None:
    """Return the operation that answers an endpoint's lines, `/chat/completions` or `/v1/chat/completions`; None for no endpoint of batches."""
    name = ENDPOINTS.get(plain(endpoint))
    if name is None:
        return None
    path = "/openai/v1" + plain(endpoint)
    return next((one for one in operations if one.name == name and one.path == path), None)


def plain(endpoint: str) -> str:
    """Return an endpoint, or a line's `url`, without what stands before it in one dialect and not in the other."""
    return endpoint.removeprefix("/openai").removeprefix("/v1")


def batch_object(item: Item, now: float) -> dict[str, Any]:
    """Return a batch as the wire has it. One whose time has run out while nobody could write that down is shown as expired."""
    said = item.metadata
    shown: dict[str, Any] = {
        "id": item.id,
        "object": "batch",
        "endpoint": said["endpoint"],
        "input_file_id": said["input_file_id"],
        "completion_window": said["completion_window"],
        "status": item.status,
        "created_at": int(item.created_at),
        "expires_at": int(said["expires_at"]),
        "output_file_id": said.get("output_file_id"),
        "error_file_id": said.get("error_file_id"),
        "metadata": said.get("metadata"),
        "model": said.get("model"),
        "errors": None,
        "request_counts": {name: said.get("counts", {}).get(name, 0) for name in ("total", "completed", "failed")},
    }
    for name in _TIMES:
        at = said.get(f"{name}_at")
        shown[f"{name}_at"] = int(at) if at is not None else None
    if said.get("errors"):
        shown["errors"] = {"object": "list", "data": said["errors"]}
    if "usage" in said:
        shown["usage"] = said["usage"]
    if item.status in RUNNING and now >= said["expires_at"] + GRANT_S:
        shown |= {"status": "expired", "expired_at": shown["expires_at"]}
    return shown


def _read_create(body: bytes) -> _Create:
    try:
        asked = _decode_create(body)
    except msgspec.ValidationError as failure:
        where = re.search(r"`\$\.([a-z_]+)", str(failure)) or re.search(r"field `([a-z_]+)`", str(failure))
        raise Fault(
            FaultKind.INVALID, f"The batch cannot be read: {failure}.", target=where[1] if where else None
        ) from failure
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as failure:
        raise Fault(FaultKind.INVALID, "The request body is not a valid JSON object.") from failure
    if asked.input_blob is not None or asked.output_folder is not None:
        raise Fault(
            FaultKind.UNSUPPORTED, "Batches on blob storage are not offered here; upload a file.", target="input_blob"
        )
    if plain(asked.endpoint) not in ENDPOINTS:
        offered = ", ".join(f"'/v1{name}'" for name in ENDPOINTS)
        raise Fault(FaultKind.INVALID, f"'endpoint' can be {offered}, with or without '/v1'.", target="endpoint")
    if asked.completion_window != "24h":
        raise Fault(FaultKind.INVALID, "'completion_window' can only be '24h'.", target="completion_window")
    if asked.metadata is not None and len(asked.metadata) > MAX_METADATA:
        raise Fault(FaultKind.INVALID, f"'metadata' can have {MAX_METADATA} pairs.", target="metadata")
    return asked


async def _list(call: Call) -> Reply:
    page = pages.read_page(call.query, default=DEFAULT_LISTED, maximum=MAX_LISTED)
    found = await pages.content_of(call).find(
        KIND, after=page.after, limit=page.limit + 1, order=page.order, statuses=STATUSES
    )
    shown = [batch_object(item, call.now) for item in found[: page.limit]]
    return json_reply(pages.listing(shown, len(found) > page.limit))


async def _cancel(call: Call, item: Item) -> Item:
    content = pages.content_of(call)
    for _ in range(UPDATE_TRIES):
        if item.status in ("cancelling", "cancelled"):
            return item
        if item.status not in CANCELLABLE:
            raise Fault(FaultKind.CONFLICT, f"A batch with the status '{item.status}' cannot be cancelled.")
        try:
            return await content.update(
                item, metadata={**item.metadata, "cancelling_at": call.now}, status="cancelling"
            )
        except Fault as fault:
            if fault.kind is not FaultKind.CONFLICT:
                raise
        item = await content.get(KIND, item.id)  # the job had just written how far it is
    raise Fault(FaultKind.CONFLICT, "The batch is changing too fast; please try again.")


def _jobs_of(call: Call) -> JobStarter:
    if call.jobs is None:
        raise Fault(FaultKind.UNAVAILABLE, "This process of the platform starts no jobs.")
    return call.jobs


def _missing(batch_id: str) -> Fault:
    return Fault(FaultKind.NOT_FOUND, f"No such Batch object: {batch_id[:80]}", target="id")
