"""Responses: made by the deployment's chat engine, kept unless the caller or the account says otherwise, and gone on from.

A response is kept with its own input alone: what it goes on from is read from the responses before it, so that deleting one deletes what it held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from stockade.kernel.control import Control
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.verdict import Deny
from stockade.policy.facts import Facts
from stockade.policy.rules import outbound
from stockade.policy.uris.found import FoundUri
from stockade.policy.uris.scan import scan_json
from stockade.services.openai import bodies, pages, responses_reply
from stockade.services.openai.deployments import Deployments, Served
from stockade.services.openai.inference import ask
from stockade.services.openai.pages import DAY_S
from stockade.services.openai.responses_items import unsupported
from stockade.services.openai.responses_request import Wanted, chat_members, read_wanted
from stockade.services.service import Call, Reply, Stream
from stockade.settings import Content

MAX_CHAIN: Final = 200
"""Responses that one goes on from, all in a row."""
MAX_CONTEXT_BYTES: Final = 16 * 1024 * 1024
CHAT: Final = "/chat/completions"

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_Items = list[dict[str, Any]]


@dataclass(slots=True)
class _Parsed:
    members: dict[str, msgspec.Raw]
    served: Served


class Responses:
    """The responses of an account."""

    answers = frozenset(
        {"Responses_Create", "Responses_Get", "Responses_Delete", "Responses_Cancel", "Responses_InputItems"}
    )

    def __init__(self, deployments: Deployments, kept: Content) -> None:
        self._deployments, self._days = deployments, kept.responses_days

    def read(self, call: Call) -> None:
        """Parse the body and find the deployment. What it asks for is read when it is answered, of what was looked at."""
        if call.operation.name != "Responses_Create":
            return
        members = bodies.read_members(call.body)
        name = bodies.text(members, "model")
        if name is None:
            raise Fault(FaultKind.INVALID, "The parameter 'model' is required and names a deployment.", target="model")
        served = self._deployments.find(call, name, "chatCompletion")
        if "input" not in members:
            raise Fault(FaultKind.INVALID, "Missing required parameter: 'input'.", target="input")
        call.parsed = _Parsed(members, served)

    def uris(self, call: Call, *, deep: bool) -> tuple[FoundUri, ...]:
        """Look into the members that may carry URIs."""
        if call.operation.name != "Responses_Create":
            return ()
        parsed: _Parsed | None = call.parsed
        members = parsed.members if parsed is not None else bodies.read_members(call.body)
        return bodies.find(call.operation, call.body, members, deep=deep)

    def inline(self, call: Call, contents: Mapping[str, str]) -> None:
        """Put images in the place of their URIs; so they are kept too."""
        parsed: _Parsed = call.parsed
        bodies.put_inline(call.operation, parsed.members, contents)

    async def answer(self, call: Call) -> Reply | Stream:
        """Do what the operation says."""
        if call.operation.name == "Responses_Create":
            return await self._create(call)
        item = await pages.one(call, "responses", call.values["response_id"], "Response")
        content = pages.content_of(call)
        match call.operation.name:
            case "Responses_Delete":
                await content.delete(item)
                return bodies.json_reply({"id": item.id, "object": "response", "deleted": True})
            case "Responses_Cancel":
                message = "Cannot cancel a synchronous response: only responses in the background can be, and this platform has none."
                raise Fault(FaultKind.UNSUPPORTED, message)
        if call.query.get("stream", "false").lower() == "true":
            raise Fault(FaultKind.UNSUPPORTED, "A response that is kept is not streamed again.", target="stream")
        kept = _decode(await pages.whole_body(content, item))
        if call.operation.name == "Responses_Get":
            return bodies.json_reply(kept["response"])
        data, more = pages.cut(kept["input"], pages.read_page(call.query, default=20, maximum=100))
        return bodies.json_reply(pages.listing(data, more))

    async def _create(self, call: Call) -> Reply | Stream:
        parsed: _Parsed = call.parsed
        wanted = read_wanted(parsed.members)
        store = wanted.store and call.account.keeps_content and pages.can_keep(call)
        before = await _before(call, wanted.previous) if wanted.previous is not None else []
        members = {name: msgspec.Raw(bodies.encode(said)) for name, said in chat_members(wanted, before).items()}
        loop = asyncio.get_running_loop()
        began = loop.time()
        response = responses_reply.begun(wanted, pages.new_id("resp_"), call.now, stored=store)

        def now() -> float:
            return call.now + loop.time() - began

        async def keep(finished: dict[str, Any]) -> None:
            if store:
                await self._keep(call, wanted, finished)

        reply = await ask(parsed.served, CHAT, members, stream=wanted.stream)
        if isinstance(reply, Stream):
            events = responses_reply.Stream(response, now, keep).events(reply.chunks)
            return Stream(200, events, reply.close)
        if reply.status != 200:
            return reply
        if wanted.stream:
            raise Fault(FaultKind.UPSTREAM_FAILED, "The model server does not stream.")
        try:
            completion = _decode(reply.body)
        except (msgspec.DecodeError, RecursionError) as failure:
            raise Fault(FaultKind.UPSTREAM_FAILED, "The model server's reply is no JSON object.") from failure
        finished = responses_reply.whole(response, completion, now())
        await keep(finished)
        return bodies.json_reply(finished)

    async def _keep(self, call: Call, wanted: Wanted, response: dict[str, Any]) -> None:
        expires_at = call.now + self._days * DAY_S if self._days else None
        body = bodies.encode({"response": response, "input": wanted.items})
        await pages.content_of(call).create(
            "responses",
            response["id"],
            {"model": wanted.model},
            pages.in_pieces(body),
            status=response["status"],
            expires_at=expires_at,
        )


async def _before(call: Call, response_id: str) -> _Items:
    """Return the items of the responses that one goes on from, oldest first."""
    if not pages.can_keep(call):
        raise unsupported("previous_response_id", "Responses are not gone on from here.")
    turns: list[_Items] = []
    given: _Items = []
    size, following = 0, response_id
    while following:
        try:
            item = await pages.one(call, "responses", following, "Response")
        except Fault as fault:
            if fault.kind is not FaultKind.NOT_FOUND:
                raise
            raise Fault(
                FaultKind.INVALID,
                f"Previous response with id '{following[:80]}' not found.",
                code="previous_response_not_found",
                target="previous_response_id",
            ) from fault
        size += item.size
        if size > MAX_CONTEXT_BYTES or len(turns) >= MAX_CHAIN:
            message = (
                f"What the response goes on from is too long: above {MAX_CHAIN} responses or {MAX_CONTEXT_BYTES} bytes."
            )
            raise Fault(FaultKind.INVALID, message, target="previous_response_id")
        kept = _decode(await pages.whole_body(pages.content_of(call), item))
        turns.append([*kept["input"], *kept["response"]["output"]])
        given += kept["input"]
        following = kept["response"]["previous_response_id"]
    _judge(call, given)
    return [item for turn in reversed(turns) for item in turn]


def _judge(call: Call, items: _Items) -> None:
    """Refuse URIs in earlier input that the account's list does not allow now: what is uploaded is judged whenever it is used."""
    account = call.account
    if account.outbound is None or account.mode(Control.DLP) != "enforce":
        return
    document = {"input": items}
    found = list(bodies.found_in(call.operation.uris, document))
    if account.outbound.deep_scan:
        known = {one.uri for one in found}
        found += [one for one in scan_json(bodies.encode(document)) if one.uri not in known]
    facts = Facts(call.now, "", account, False, call.credential, call.operation, call.operation.path, "POST")
    facts.uris = tuple(found)
    denied = outbound.decide(call.snapshot, facts)
    if isinstance(denied, Deny):
        raise denied.fault
