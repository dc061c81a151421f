"""Content handed over inline: what an engine would fetch itself is fetched here, through the one way out, and given to it as a `data:` URI.

So the engine needs no way out of its own, sees no URI, and cannot be sent elsewhere by a redirect or a name server. On by default for accounts
that restrict outbound access (`properties.stockade.dlp.inlineContent`). Every hop is decided on like the request itself, by `decide`.
Where the account's loss prevention only reports, a URI whose content is not to be had passes as it came, and why is recorded.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from stockade.egress.fetch import Budget, Content, Fetcher, Trail
from stockade.kernel.control import Control
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.record import FetchedContent
from stockade.kernel.verdict import Allow, Deny
from stockade.policy.decide import decide
from stockade.policy.facts import Facts
from stockade.policy.rules.outbound import EGRESS
from stockade.policy.uris.found import FoundUri
from stockade.policy.uris.loss_prevention import LossPrevention
from stockade.services.service import Call

PARALLEL: Final = 4
"""Contents of one request that are fetched at a time."""


@dataclass(frozen=True, slots=True)
class _Failed:
    fault: Fault
    denied: Deny | None


class Noted(Protocol):
    """What is known of a request while it runs; what becomes of its contents is noted there. A caller's `Exchange`, or a job's own."""

    denied: Deny | None
    reported: tuple[Deny, ...]
    fetched: tuple[FetchedContent, ...]


class Holder(Protocol):
    """What contents are given to: a service, for the body of a call, or a session, for one message of it."""

    def inline(self, call: Call, contents: Mapping[str, str]) -> None:
        """As `Service.inline`."""
        ...


class InlineContent:
    """Fetches for the requests of one process."""

    def __init__(self, fetcher: Fetcher, max_per_request: int) -> None:
        self._fetcher, self._max_per_request = fetcher, max_per_request

    async def hand_over(self, exchange: Noted, facts: Facts, call: Call, holder: Holder, limit: int) -> None:
        """Fetch every content that may stand inline and give it to whoever holds the request.

        limit: bytes of a whole body; contents that would make the body larger raise Fault(TOO_LARGE). Fault(OUTBOUND_DENIED) and others as
        `Fetcher.fetch`, with the place of the URI as target. Two places with one URI are fetched once.
        """
        outbound = call.account.outbound
        places: dict[str, list[str]] = {}
        for found in facts.uris:
            if found.inline and found.uri[:5].lower() != "data:":
                places.setdefault(found.uri, []).append(found.path)
        if not places or outbound is None:
            return
        if len(places) > self._max_per_request:
            message = f"The request names more contents than the limit of {self._max_per_request}."
            raise Fault(FaultKind.TOO_LARGE, message)
        fetching = _Fetching(self._fetcher, exchange, facts, call, outbound, Budget((limit - len(call.body)) * 3 // 4))
        contents = await fetching.all(places)
        if contents:
            holder.inline(call, contents)


class _Fetching:
    """The contents of one request."""

    def __init__(
        self, fetcher: Fetcher, exchange: Noted, facts: Facts, call: Call, outbound: LossPrevention, budget: Budget
    ) -> None:
        self._fetcher, self._exchange, self._facts, self._call = fetcher, exchange, facts, call
        self._outbound, self._budget = outbound, budget
        self._parallel = asyncio.Semaphore(PARALLEL)
        self._reports = call.account.mode(Control.DLP) == "report"

    async def all(self, places: dict[str, list[str]]) -> dict[str, str]:
        """Return the `data:` URI for each URI; the first failure ends the others, unless failures are only reported."""
        tasks = {asyncio.create_task(self._one(uri, paths)): uri for uri, paths in places.items()}
        pending, contents = set(tasks), dict[str, str]()
        try:
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    result = task.result()
                    if isinstance(result, str):
                        contents[tasks[task]] = result
                    elif not self._reports:
                        self._exchange.denied = result.denied
                        raise result.fault
                    elif result.denied is not None:
                        self._exchange.reported = (*self._exchange.reported, result.denied)
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        return contents

    async def _one(self, uri: str, paths: list[str]) -> str | _Failed:
        loop = asyncio.get_running_loop()
        async with self._parallel:
            trail, began, failed = Trail(), loop.time(), ""
            hop = _Hop(self._facts, self._call, paths[0])
            try:
                content = await self._fetcher.fetch(
                    uri,
                    allow=hop.allow,
                    http=self._outbound.names_http,
                    account=self._call.account.id,
                    budget=self._budget,
                    trail=trail,
                )
                self._budget.take(len(content.data) * (len(paths) - 1))
                return _data_uri(content)
            except Fault as fault:
                failed = f"{fault.kind.value} {trail.refused}".rstrip()
                fault.target = paths[0]
                return _Failed(fault, self._denied(fault, trail, hop))
            finally:
                if trail.host:  # nobody was asked otherwise
                    ms = round((loop.time() - began) * 1000, 3)
                    done = FetchedContent(
                        path=paths[0], host=trail.host, bytes=trail.size, hops=trail.hops, ms=ms, failed=failed
                    )
                    self._exchange.fetched = (*self._exchange.fetched, done)

    def _denied(self, fault: Fault, trail: Trail, hop: _Hop) -> Deny | None:
        """Return the refusal that a failed fetch is; None when it merely failed, or when the request's own URI has been reported already."""
        if hop.denied is not None:
            return hop.denied if trail.hops or not self._reports else None
        if fault.kind is not FaultKind.OUTBOUND_DENIED:
            return None
        return Deny(EGRESS, fault, {"path": fault.target, "host": trail.host, "why": trail.refused, "hops": trail.hops})


class _Hop:
    """Decides on where one fetch goes next."""

    def __init__(self, facts: Facts, call: Call, path: str) -> None:
        self._facts, self._call, self._path = facts, call, path
        self.denied: Deny | None = None

    def allow(self, uri: str) -> None:
        facts = replace(self._facts, uris=(FoundUri(self._path, uri, inline=True),))
        match decide(self._call.snapshot, facts, "body"):
            case Deny() as denied:
                self.denied = denied
            case Allow(reported=(denied, *_)):
                self.denied = denied
        if self.denied is not None:
            raise self.denied.fault


def _data_uri(content: Content) -> str:
    return f"data:{content.media_type};base64,{base64.b64encode(content.data).decode('ascii')}"
