"""`POST /sts/v1.0/issueToken`: takes a subscription key, answers a bare JWT."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.operation import KiB, Operation
from stockade.kernel.principal import KeyCredential
from stockade.keys.root import RootKey
from stockade.keys.session_token import SessionTokens
from stockade.policy.uris.found import FoundUri
from stockade.services.dialect import gateway_body
from stockade.services.service import Call, Reply, Stream
from stockade.settings import Settings

PURPOSE = "session-token/1"

OPERATIONS = (
    Operation(
        name="IssueToken",
        method="POST",
        path="/sts/v1.0/issueToken",
        data_action="sts/issueToken/action",
        body="binary",
        max_body_bytes=4 * KiB,
        versioned=False,
    ),
)


class SessionTokenService:
    """The exchange as the gateway sees it."""

    name = "session_tokens"
    kinds: frozenset[str] = frozenset()
    operations = OPERATIONS

    def __init__(self, settings: Settings) -> None:
        self._tokens: SessionTokens | None = None

    def lend(self, keys: RootKey) -> None:
        self._tokens = SessionTokens(keys.derive(PURPOSE))

    def read(self, call: Call) -> None:
        """Take keys only: an identity token needs no exchange, and a session token must not renew itself."""
        if not isinstance(call.credential, KeyCredential) or call.credential.via_token:
            raise Fault(FaultKind.KEY_REJECTED, "A token is issued for a subscription key only.")

    def uris(self, call: Call, *, deep: bool) -> tuple[FoundUri, ...]:
        return ()

    def inline(self, call: Call, contents: Mapping[str, str]) -> None:
        """Nothing that it reads is fetched by anyone."""

    async def answer(self, call: Call) -> Reply | Stream:
        assert isinstance(call.credential, KeyCredential)
        assert self._tokens is not None
        credential, location = call.credential, call.account.location
        token = await asyncio.to_thread(self._tokens.issue, credential, location, call.now)
        return Reply(200, token.encode(), "application/jwt; charset=us-ascii")

    def refuse(self, fault: Fault, status: int, request_id: str = "") -> Mapping[str, Any]:
        return gateway_body(fault, request_id)

    async def close(self) -> None:
        return


PLUGIN = SessionTokenService
