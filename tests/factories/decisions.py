"""A control plane with an account, and decisions about it as a worker would have written them."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import msgspec

from stockade.decisions.record import Decision, Refusal, UriSeen
from stockade.decisions.ring import findings
from stockade.decisions.store import DecisionStore, Finding, Row
from tests.factories.control_plane import RG, ControlPlane

ACCOUNT = f"{RG}/providers/Microsoft.CognitiveServices/accounts/a1"


class DecidedPlane(ControlPlane):
    """With the account `a1`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        body = {
            "kind": "OpenAI",
            "location": "local",
            "sku": {"name": "S0"},
            "properties": {"customSubDomainName": "a1"},
        }
        self.ok("PUT", ACCOUNT, body)

    def decide(self, **changes: Any) -> str:
        """Keep a decision, an allowed one by Key1 unless it is said otherwise, and return its id."""
        known: dict[str, Any] = {
            "id": str(uuid.uuid4()), "time": self.clock.now() + 1, "account": ACCOUNT.lower(), "account_id": ACCOUNT, "kind": "OpenAI", "sku": "S0",
            "generation": 1, "method": "POST", "operation": "ChatCompletions_Create", "deployment": "chat",
            "template": "/openai/deployments/{deployment}/chat/completions", "data_action": "OpenAI/deployments/chat/completions/action",
            "address": "192.0.2.7", "peer": "192.0.2.7:1", "credential": "key", "slot": "Key1", "allowed": True, "point": "body", "status": 200,
            "outcome": "success", "agent": "agent/1",
        }  # fmt: skip
        made = Decision(**(known | changes))
        counted = {key: Finding(key, 1, made.time, made.time, made.id) for key in findings(made)}
        rule = made.refusal.rule if made.refusal is not None else ""
        row = Row(
            made.id,
            made.account,
            made.time,
            rule,
            "allow" if made.allowed else "deny",
            made.known,
            msgspec.msgpack.encode(made),
        )
        with DecisionStore(self.settings.data_dir, self.settings.decisions) as store:
            store.write([row], counted, made.time)
        return made.id

    def refuse(self, rule: str, reason: str, because: dict[str, str] | None = None, **changes: Any) -> str:
        told = Refusal(rule, reason, "No.", because or {})
        point = "body" if rule == "outbound" else "head"
        return self.decide(
            **(
                {"refusal": told, "allowed": False, "status": 403, "outcome": f"failed:{reason}", "point": point}
                | changes
            )
        )

    def refuse_host(self, host: str, **changes: Any) -> str:
        uri = UriSeen("messages[0].content[0].image_url.url", "https", host, refused="host")
        because = {"host": host, "why": "host"}
        return self.refuse("outbound", "OutboundDenied", because, looked=True, deep=True, uris=(uri,), **changes)
