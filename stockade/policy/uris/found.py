"""A URI in a request, before anybody has judged it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FoundUri:
    """One URI and where it stands.

    path:     the place in the caller's terms: `messages[0].content[1].image_url.url`, `query:callbackEndpoint`, `header:x-url`, `line 3: body.url`.
    uri:      as it stands there, whole. It may hold a secret, so it never leaves the request: refusals, records and explanations name the host.
    declared: the operation's table names the field, so that its value must be a URI; False: the deep scan came across it.
    inline:   content may stand in its place as a `data:` URI (`UriField.inline`).
    """

    path: str
    uri: str = field(repr=False)
    declared: bool = True
    inline: bool = False
