"""Stored completions: chat completions that were asked for with `store`, kept, listed, and labelled with metadata.

Source: openai 3.54.0, `resources/chat/completions/completions.py`, `types/chat/completion_list_params.py`, `chat_completion_store_message.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from stockade.content.closed import storage_off
from stockade.content.item import Item
from stockade.kernel.faults import Fault, FaultKind
from stockade.policy.uris.found import FoundUri
from stockade.services.openai import bodies, pages
from stockade.services.openai.chat_stream import Collected, Events, chunk_of
from stockade.services.openai.pages import DAY_S
from stockade.services.openai.responses_request import read_metadata
from stockade.services.service import Call, Reply, Stream
from stockade.settings import Content

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Keeper:
    """Keeps one completion, before its caller has all of it. Raises Fault where the account keeps none, before anything is asked."""

    def __init__(self, call: Call, kept: Content, metadata: Any) -> None:
        if not call.account.keeps_content:
            raise storage_off()
        if not call.account.keeps_completions:
            message = "This resource stores no completions: its property 'storedCompletionsDisabled' is true. Send the request without 'store'."
            raise Fault(FaultKind.UNSUPPORTED, message, code="StoredCompletionsDisabled", target="store")
        if not pages.can_keep(call):
            raise Fault(
                FaultKind.UNSUPPORTED, "Completions are not stored from here; a batch keeps its own.", target="store"
            )
        self._content, self._call = pages.content_of(call), call
        self._days, self._metadata = kept.completions_days, read_metadata(metadata)
        self._id = pages.new_id("chatcmpl-")
        """Ours: engines give theirs as they please, some the same twice."""
        self.messages = msgspec.Raw(b"[]")
        """Of the request, as they were dispatched."""

    async def take(self, reply: Reply | Stream) -> Reply | Stream:
        """Return the engine's reply under the id that it is kept by."""
        if isinstance(reply, Stream):
            reply.chunks = self._streamed(reply.chunks)
            return reply
        if reply.status != 200:
            return reply
        try:
            completion = _members(reply.body)
        except (msgspec.DecodeError, RecursionError) as failure:
            raise Fault(FaultKind.UPSTREAM_FAILED, "The model server's reply is no JSON object.") from failure
        completion["id"] = msgspec.Raw(bodies.encode(self._id))
        await self._keep(completion)
        reply.body = bodies.encode(completion)
        return reply

    async def _streamed(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the events; the last one, `[DONE]`, only when the completion is kept. Fault(UPSTREAM_FAILED) for what cannot be read."""
        events, collected = Events(), Collected()
        async for piece in pieces:
            for data in events.feed(piece):
                chunk = chunk_of(data)
                if chunk is None:
                    await self._keep(collected.completion())
                    yield b"data: [DONE]\n\n"
                    return
                collected.add(chunk)
                chunk["id"] = self._id
                yield b"data: " + bodies.encode(chunk) + b"\n\n"
        raise Fault(FaultKind.UPSTREAM_FAILED, "The model server's reply could not be read: it broke off.")

    async def _keep(self, completion: Mapping[str, Any]) -> None:
        deployment = self._call.deployment.name if self._call.deployment is not None else ""
        kept = {**completion, "id": self._id, "object": "chat.completion"}
        await self._content.create(
            "completions",
            self._id,
            {"model": _text(completion.get("model")), "deployment": deployment, "metadata": self._metadata},
            pages.in_pieces(bodies.encode({"completion": kept, "messages": self.messages})),
            status="completed",
            expires_at=self._call.now + self._days * DAY_S if self._days else None,
        )


class StoredCompletions:
    """The stored completions of an account."""

    answers = frozenset(
        {"StoredCompletions_List", "StoredCompletions_Get", "StoredCompletions_Messages"}
        | {"StoredCompletions_Update", "StoredCompletions_Delete"}
    )

    def read(self, call: Call) -> None:
        """Parse the body of an update."""
        if call.operation.name == "StoredCompletions_Update":
            members = bodies.read_members(call.body)
            if set(members) != {"metadata"}:
                raise Fault(
                    FaultKind.INVALID, "Of a stored completion only 'metadata' can be changed.", target="metadata"
                )
            call.parsed = read_metadata(bodies.value(members["metadata"], "metadata"))

    def uris(self, call: Call, *, deep: bool) -> tuple[FoundUri, ...]:
        """Look at every string of an update, where that is wanted; its metadata leads nowhere."""
        members = bodies.read_members(call.body) if call.operation.name == "StoredCompletions_Update" else {}
        return bodies.find(call.operation, call.body, members, deep=deep) if members else ()

    def inline(self, call: Call, contents: Mapping[str, str]) -> None:
        """Nothing."""

    async def answer(self, call: Call) -> Reply | Stream:
        """Do what the operation says."""
        content = pages.content_of(call)
        if call.operation.name == "StoredCompletions_List":
            return await _list(call)
        item = await pages.one(call, "completions", call.values["completion_id"], "ChatCompletion")
        match call.operation.name:
            case "StoredCompletions_Delete":
                await content.delete(item)
                return bodies.json_reply({"object": "chat.completion.deleted", "id": item.id, "deleted": True})
            case "StoredCompletions_Update":
                item = await content.update(item, metadata={**item.metadata, "metadata": call.parsed})
            case "StoredCompletions_Messages":
                kept = _decode(await pages.whole_body(content, item))
                page = pages.read_page(call.query, default=20, maximum=100, order="asc")
                data, more = pages.cut(_messages(item.id, kept["messages"]), page)
                return bodies.json_reply(pages.listing(data, more))
        return bodies.json_reply(await _completion(call, item))


async def _list(call: Call) -> Reply:
    page = pages.read_page(call.query, default=20, maximum=100, order="asc")
    model, wanted = call.query.get("model"), _wanted(call.query_string)

    def fits(item: Item) -> bool:
        said = item.metadata
        if model is not None and model not in (said.get("model"), said.get("deployment")):
            return False
        return all(said.get("metadata", {}).get(name) == value for name, value in wanted.items())

    found, more = await pages.collect(pages.content_of(call), "completions", page, fits)
    return bodies.json_reply(pages.listing([await _completion(call, item) for item in found], more))


def _wanted(query_string: str) -> dict[str, str]:
    """Return the metadata that is asked for, `metadata[name]=value`, with names as they were spelled."""
    pairs = parse_qsl(query_string, keep_blank_values=True)
    return {name[9:-1]: value for name, value in pairs if name.lower().startswith("metadata[") and name.endswith("]")}


async def _completion(call: Call, item: Item) -> dict[str, Any]:
    kept = _decode(await pages.whole_body(pages.content_of(call), item))
    return {**kept["completion"], "metadata": item.metadata.get("metadata", {})}


def _messages(completion_id: str, messages: Any) -> list[dict[str, Any]]:
    shown = []
    for number, message in enumerate(messages if isinstance(messages, list) else []):
        if isinstance(message, dict):
            content = message.get("content")
            parts = content if isinstance(content, list) else None
            said = content if isinstance(content, str) else None
            shown.append({**message, "id": f"{completion_id}-{number}", "content": said, "content_parts": parts})
    return shown


def _text(model: Any) -> str:
    if isinstance(model, msgspec.Raw):
        model = msgspec.json.decode(model)
    return model if isinstance(model, str) else ""
