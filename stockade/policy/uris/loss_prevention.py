"""What an account demands of the URIs in requests: `restrictOutboundNetworkAccess`, `allowedFqdnList` and the extension, compiled."""

from __future__ import annotations

from dataclasses import dataclass

from stockade.policy.uris.allowed import AllowedHosts
from stockade.policy.uris.found import FoundUri


@dataclass(frozen=True, slots=True)
class RefusedUri:
    """Why a URI may not be carried.

    host:   "" where the value cannot be read as a URI; the rest of the URI is never told.
    reason: a short code for records and reports: `host`, `unreadable`.
    detail: what the message adds for reasons other than the host; never a part of the URI beyond its host.
    """

    host: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LossPrevention:
    """The whole of it.

    deep_scan: look for URIs in every string of a request, not only in the fields that the operation declares.
    inline:    fetch what an engine would fetch itself, and hand it over as content.
    """

    allowed: AllowedHosts
    deep_scan: bool = True
    inline: bool = True

    def refuse(self, found: FoundUri) -> RefusedUri | None:
        """Return why the URI may not be carried; None when it may."""
        host = self.allowed.refused_host(found.uri)
        if host is None:
            return None
        return RefusedUri(host, "host" if host else "unreadable")

    def names_http(self, uri: str) -> bool:
        """Say whether an entry that allows the URI names the scheme http; without one, content is fetched over https alone."""
        named = tuple(entry for entry in self.allowed.entries if entry.scheme == "http:")
        return AllowedHosts(named).refused_host(uri) is None
