"""The audit record: who, from where, what, on which resource, the decision and its outcome. No bodies, no secrets."""

from __future__ import annotations

from typing import Literal

import msgspec


class FetchedContent(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", kw_only=True, gc=False):
    """One content that was fetched for a request, or was not to be had. Never the URI: the host says where, the path which one."""

    path: str
    """Where in the request its URI stands."""
    host: str = ""
    """The last one that was asked."""
    bytes: int = 0
    hops: int = 0
    """Redirects that were followed."""
    ms: float = 0.0
    failed: str = ""
    """The kind of the failure, and why the platform would not go there where that was it."""


class AuditRecord(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", kw_only=True, gc=False):
    """One decision or one management change, as it is written to the audit log.

    category:  Azure Monitor's diagnostic categories; Audit for management and identity, RequestResponse for the data plane.
    phase:     `intent` before a management change is made, `outcome` after it; `decision` for data-plane requests and token issue.
    gc=False:  records wait by the thousand and hold no cycles, so the collector need not look at them.
    time:      seconds since the epoch, UTC.
    """

    time: float
    id: str
    """The decision id, as the caller sees it in `x-stockade-decision` or `apim-request-id`."""
    category: Literal["Audit", "RequestResponse"]
    phase: Literal["intent", "outcome", "decision"]
    operation: str
    """The operation's name (`ChatCompletions_Create`) or the ARM action (`Microsoft.CognitiveServices/accounts/write`)."""
    resource: str = ""
    caller_address: str = ""
    client: str = ""
    """The user agent, cut to 120 characters."""
    credential: str = ""
    """`Key1`, `Key2`, `token`, `sts`, `none`, `rejected:<reason>`."""
    principal: str = ""
    application: str = ""
    decision: Literal["allow", "deny", ""] = ""
    rule: str = ""
    """The rule that refused, or what admitted (a key slot, a role assignment)."""
    reason: str = ""
    status: int = 0
    outcome: str = ""
    """`success`, `failed:<kind>`, `cancelled`."""
    duration_ms: float = 0.0
    network: str = ""
    """What of the account's network let the request in, where not everyone is: `ipRules 203.0.113.0/24`, `bypass AzureServices: <resource>`."""
    because: dict[str, str] | None = None
    policy: int = 0
    """The generation of the policy it was decided by; 0 where it did not come to that."""
    receipt: str = ""
    """The signed receipt that the caller asked for, sealed: ARM opens it for whoever may read the record."""
    correlation: str = ""
    """What the caller of ARM joins several requests by (`x-ms-correlation-request-id`, a GUID); empty: this one stands alone."""
    fetched: list[FetchedContent] | None = None
    """What was fetched on behalf of the request."""
    reported: list[dict[str, str]] | None = None
    """What controls in `report` would have refused: rule, reason and what else `because` says, one object each."""
