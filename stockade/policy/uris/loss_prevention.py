"""What an account demands of the URIs in requests: `restrictOutboundNetworkAccess`, `allowedFqdnList` and the extension, compiled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stockade.policy.uris.allowed import WEB, AllowedHosts
from stockade.policy.uris.found import FoundUri
from stockade.policy.uris.parse import ParsedUri, parse
from stockade.policy.uris.patterns import UriRule, secret_problem

HOST, UNREADABLE, SCHEME, CREDENTIALS, AMBIGUOUS = "host", "unreadable", "scheme", "credentials", "ambiguous"
SECRET, RULE = "secret", "rule"

_DETAILS: Final = {
    SCHEME: "its scheme is not one that the list names",
    CREDENTIALS: "it carries a user name or password",
    AMBIGUOUS: "it is spelled so that programs disagree on which host it names",
}


@dataclass(frozen=True, slots=True)
class RefusedUri:
    """Why a URI may not be carried.

    host:   "" where the value cannot be read as a URI; the rest of the URI is never told.
    reason: a short code for records and reports: `host` (not on the list), `unreadable`, `scheme`, `credentials`, `ambiguous`, `secret` (or an
            e-mail address), `rule`. Only for `host` would another entry of the list help.
    detail: what the message says instead, for reasons other than the host; never a part of the URI.
    """

    host: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LossPrevention:
    """The whole of it.

    deep_scan: look for URIs in every string of a request, not only in the fields that the operation declares.
    inline:    fetch what an engine would fetch itself, and hand it over as content.
    refuse_secrets, refuse_emails: refuse URIs that hold a known form of secret, or an e-mail address, whatever their host.
    rules:     what path and query may hold beyond that.
    """

    allowed: AllowedHosts
    deep_scan: bool = True
    inline: bool = True
    refuse_secrets: bool = False
    refuse_emails: bool = False
    rules: tuple[UriRule, ...] = ()

    def refuse(self, found: FoundUri) -> RefusedUri | None:
        """Return why the URI may not be carried; None when it may.

        A reference without a scheme (`//host/path`) in some text is judged as if it were https, and its host has to be allowed without an entry's
        naming a scheme: whoever follows it may follow it by any. In a declared field it is not a URI.
        """
        text = found.uri
        if text[:5].lower() == "data:":
            return None
        if not found.declared and text[:1] in ("/", "\\"):
            parsed = parse(f"https:{text}")
            other = parse(f"http:{text}")
            if (
                parsed is not None
                and other is not None
                and self.allowed.allows(parsed)
                and not self.allowed.allows(other)
            ):
                return RefusedUri(parsed.host, HOST)
        else:
            parsed = parse(text)
        if parsed is None:
            return RefusedUri("", UNREADABLE)
        return self._refuse(parsed)

    def names_http(self, uri: str) -> bool:
        """Say whether an entry that allows the URI names the scheme http; without one, content is fetched over https alone."""
        parsed = parse(uri)
        return parsed is not None and parsed.scheme == "http" and self.allowed.names_scheme(parsed)

    def _refuse(self, uri: ParsedUri) -> RefusedUri | None:
        if not uri.host:  # `file:///`, `javascript:`, `mailto:`: places that no list can name
            return RefusedUri("", SCHEME, _DETAILS[SCHEME])
        if not uri.plain or uri.has_credentials:
            reason = CREDENTIALS if uri.has_credentials else AMBIGUOUS
            return RefusedUri(uri.host, reason, _DETAILS[reason])
        if self.allowed.allows(uri):
            return self._refuse_rest(uri)
        if uri.scheme not in WEB and uri.scheme not in self.allowed.schemes:
            return RefusedUri(uri.host, SCHEME, _DETAILS[SCHEME])
        return RefusedUri(uri.host, HOST)

    def _refuse_rest(self, uri: ParsedUri) -> RefusedUri | None:
        if self.refuse_secrets or self.refuse_emails:
            problem = secret_problem(uri, secrets=self.refuse_secrets, emails=self.refuse_emails)
            if problem is not None:
                return RefusedUri(uri.host, SECRET, problem)
        for rule in self.rules:
            problem = rule.problem(uri)
            if problem is not None:
                told = f" ({rule.reason})" if rule.reason else ""
                return RefusedUri(uri.host, RULE, f"{problem}, by the rule '{rule.name}'{told}")
        return None
