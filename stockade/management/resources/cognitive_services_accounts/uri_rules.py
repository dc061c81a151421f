"""`properties.stockade.dlp.uriRules`: rules for path and query of URIs, as they are written and as they are compiled.

    [{"name": "images only", "hosts": ["*.images.example.com"], "paths": ["/public/**", "/thumb/*.png"], "allowedParameters": ["w"],
      "maxQueryLength": 40, "maxQueryEntropy": 4.2, "maxPathLength": 200, "refuseSecrets": true, "refuseEmails": true, "reason": "ask the team"}]

What each means: `policy/uris/patterns.py`. A rule that demands nothing is refused: it would look as if it were in force.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.resources.cognitive_services_accounts.fqdn import entry_problem
from stockade.policy.uris.allowed import compile_allowed
from stockade.policy.uris.patterns import UriRule

MAX_RULES = 100
MAX_STARS = 8
TARGET = "properties.stockade.dlp.uriRules"

_Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[\w .:()/\-]+$")]
_Pattern = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^/[^?#\\\s]*$")]
_Parameter = Annotated[str, Meta(max_length=128)]
_Length = Annotated[int, Meta(ge=0, le=8192)]


class WrittenRule(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """One rule as it is written and stored."""

    name: _Name
    hosts: Annotated[list[str], Meta(min_length=1, max_length=100)] | None = None
    paths: Annotated[list[_Pattern], Meta(min_length=1, max_length=50)] | None = None
    allowed_parameters: Annotated[list[_Parameter], Meta(max_length=100)] | None = None
    max_query_length: _Length | None = None
    max_query_entropy: Annotated[float, Meta(gt=0, le=8)] | None = None
    max_path_length: _Length | None = None
    refuse_secrets: bool | None = None
    refuse_emails: bool | None = None
    reason: Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = None


WrittenRules = Annotated[list[WrittenRule], Meta(max_length=MAX_RULES)]


def check_uri_rules(rules: Sequence[WrittenRule]) -> None:
    """Refuse what the shape alone does not show; Fault(INVALID)."""
    names = set()
    for number, rule in enumerate(rules):
        if rule.name.lower() in names:
            raise _invalid(number, "name", f"'{rule.name}' is the name of another rule")
        names.add(rule.name.lower())
        for entry in rule.hosts or ():
            problem = entry_problem(entry, strict=False)
            if problem is not None:
                raise _invalid(number, "hosts", f"'{entry[:120]}' {problem}")
        for pattern in rule.paths or ():
            segments = pattern.split("/")
            if pattern.count("*") > MAX_STARS or any("**" in segment for segment in segments[:-1]):
                raise _invalid(
                    number, "paths", f"'{pattern[:120]}' has more than {MAX_STARS} stars, or '**' before its end"
                )
            if "**" in segments[-1] and segments[-1] != "**":
                raise _invalid(number, "paths", f"'{pattern[:120]}' has '**' beside other characters")
        demands = (
            rule.paths, rule.allowed_parameters, rule.max_query_length, rule.max_query_entropy, rule.max_path_length,
            rule.refuse_secrets or None, rule.refuse_emails or None,
        )  # fmt: skip
        if all(demand is None for demand in demands):
            raise _invalid(number, "name", f"the rule '{rule.name}' demands nothing")


def compile_uri_rules(rules: Sequence[WrittenRule]) -> tuple[UriRule, ...]:
    """Compile checked rules."""
    return tuple(
        UriRule(
            name=rule.name,
            hosts=compile_allowed(rule.hosts) if rule.hosts is not None else None,
            paths=tuple(rule.paths) if rule.paths is not None else None,
            allowed_parameters=frozenset(rule.allowed_parameters) if rule.allowed_parameters is not None else None,
            max_query_length=rule.max_query_length,
            max_query_entropy=rule.max_query_entropy,
            max_path_length=rule.max_path_length,
            refuse_secrets=rule.refuse_secrets is True,
            refuse_emails=rule.refuse_emails is True,
            reason=rule.reason or "",
        )
        for rule in rules
    )


def _invalid(number: int, member: str, why: str) -> Fault:
    target = f"{TARGET}[{number}].{member}"
    message = f"The property '{target}' is invalid: {why}."
    return Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target=target)
