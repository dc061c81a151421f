"""The head of every reply.

Source: choices.md (rows "Every refusal" and "Every reply") and contracts, data-plane section 2 (common response headers).
"""

from __future__ import annotations

from typing import TypeAlias

from stockade.kernel.clock import SIMULATED_HEADER, SimulatedClock, iso

Headers: TypeAlias = list[tuple[str, str]]

MAX_ECHO = 128


class ReplyHeaders:
    """Builds heads; what never changes is kept ready."""

    def __init__(self, location: str, simulated: SimulatedClock | None = None) -> None:
        """Take what all replies say. simulated: the clock, where time can be moved; then every reply shows it."""
        self._simulated = simulated
        self._fixed = (
            ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
            ("x-content-type-options", "nosniff"),
            ("x-ms-region", location),
        )

    def build(self, request_id: str, client_request_id: str, content_type: str, extra: Headers) -> Headers:
        """Return the headers of one reply. client_request_id: the caller's own, echoed when it is short and printable."""
        headers = [("content-type", content_type), ("apim-request-id", request_id), *self._fixed, *extra]
        if 0 < len(client_request_id) <= MAX_ECHO and client_request_id.isascii() and client_request_id.isprintable():
            headers.append(("x-ms-client-request-id", client_request_id))
        if self._simulated is not None:
            headers.append((SIMULATED_HEADER, iso(self._simulated.now())))
        return headers
