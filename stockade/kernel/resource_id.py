"""Azure resource ids: parsed once, compared without regard to case, echoed as they came.

Source: ARM resource id grammar as the SDKs build it (contracts, control-plane section 1.1): segments arrive in mixed case
(`/resourcegroups/` and `/resourceGroups/`), so everything compares on the lower-case form and the stored spelling is kept for display.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from stockade.kernel.faults import Fault, FaultKind

MAX_LENGTH = 2048
GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
# Names of resources, groups and providers. Control characters, slashes, query and fragment marks and backslashes never belong to a name.
_SEGMENT = re.compile(r"[^\x00-\x20\x7f/\\?#%&<>\"]+(?: [^\x00-\x20\x7f/\\?#%&<>\"]+)*")


def is_guid(text: str) -> bool:
    """Say whether the text is a GUID in the 8-4-4-4-12 form."""
    return GUID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class ResourceId:
    """A parsed ARM id: tenant root, subscription, resource group, resource or extension resource.

    segments: `(("subscriptions", id), ("resourceGroups", rg))` and then, per `/providers/`, the namespace and its type/name pairs.
    """

    text: str
    """As spelled by whoever stored or sent it, without a trailing slash; "/" for the tenant root."""
    subscription: str | None
    resource_group: str | None
    type: str | None
    """`Microsoft.CognitiveServices/accounts/deployments`, in the sender's case; None for a subscription or group scope."""
    names: tuple[str, ...]
    """One name per type segment."""
    parent: str
    """The scope one level up, as text: the parent resource, the group, the subscription or "/"."""

    @property
    def key(self) -> str:
        """The lower-case form that identity is decided on."""
        return self.text.lower()

    @property
    def name(self) -> str:
        return self.names[-1] if self.names else (self.resource_group or self.subscription or "")

    @classmethod
    def parse(cls, text: str) -> ResourceId:
        """Parse an id or scope; Fault(INVALID) when it is not one."""
        if len(text) > MAX_LENGTH:
            raise Fault(
                FaultKind.INVALID, f"The resource id is longer than {MAX_LENGTH} characters.", code="InvalidResourceId"
            )
        trimmed = "/" + text.strip("/") if text.startswith("/") else text
        if trimmed == "/":
            return cls("/", None, None, None, (), "/")
        parts = trimmed.split("/")
        if (
            parts[0] != ""
            or len(parts) < 2
            or any(not _SEGMENT.fullmatch(part) or part in {".", ".."} for part in parts[1:])
        ):
            raise _malformed(text)
        return _Parser(trimmed, parts[1:]).parse()

    def within(self, scope: str) -> bool:
        """Say whether this id is the scope or lies below it (scope in lower case)."""
        return scope in ("/", self.key) or self.key.startswith(scope + "/")


def scope_chain(key: str) -> tuple[str, ...]:
    """Return every scope a resource inherits from, nearest first, ending in "/".

    key: a lower-case id. Type segments without a name are not scopes: `.../accounts/a1/deployments/d1` yields the deployment, the account,
    the group, the subscription and the root. An extension resource inherits from what it extends.
    """
    chain: list[str] = []
    current = key
    while current not in {"/", ""}:
        chain.append(current)
        current = ResourceId.parse(current).parent
    chain.append("/")
    return tuple(chain)


class _Parser:
    def __init__(self, text: str, parts: list[str]) -> None:
        self.text, self.parts = text, parts

    def parse(self) -> ResourceId:
        parts, index = self.parts, 0
        subscription = group = None
        parent = "/"
        if parts[0].lower() == "subscriptions":
            if len(parts) < 2 or not is_guid(parts[1]):
                raise _malformed(self.text)
            subscription, index = parts[1], 2
            if len(parts) > 2 and parts[2].lower() == "resourcegroups":
                if len(parts) < 4:
                    raise _malformed(self.text)
                parent, group, index = self._join(2), parts[3], 4
        kind: str | None = None
        names: tuple[str, ...] = ()
        while index < len(parts):
            if parts[index].lower() != "providers" or len(parts) - index < 4:
                raise _malformed(self.text)
            parent = self._join(index)
            namespace, index = parts[index + 1], index + 2
            types: list[str] = []
            found: list[str] = []
            while index < len(parts) and parts[index].lower() != "providers":
                if index + 1 >= len(parts):
                    raise _malformed(self.text)
                if types:
                    parent = self._join(index)
                types.append(parts[index])
                found.append(parts[index + 1])
                index += 2
            if not types:
                raise _malformed(self.text)
            kind, names = "/".join((namespace, *types)), tuple(found)
        if kind is None and subscription is None:
            raise _malformed(self.text)
        return ResourceId(self.text, subscription, group, kind, names, parent)

    def _join(self, end: int) -> str:
        return "/" + "/".join(self.parts[:end]) if end else "/"


def _malformed(text: str) -> Fault:
    return Fault(FaultKind.INVALID, f"'{text[:200]}' is not a valid resource id.", code="InvalidResourceId")
