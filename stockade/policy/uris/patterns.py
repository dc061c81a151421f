r"""Rules beyond host names: what path and query of a URI may hold, because the URI itself may carry the secret.

A rule applies to the hosts it names, and every rule that applies must be kept. Paths and queries are judged decoded: percent-encoding is undone
until nothing changes, three times over at most; what is still encoded then is refused by a rule that looks at it. Nothing here costs more than
time proportional to the URI: path patterns are segments with stars, matched from left to right, and no expression repeats a repetition. They are
no regular expressions on purpose: those would let whoever sets a rule stop the gateway with one pattern.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, unquote_plus

from stockade.policy.uris.allowed import AllowedHosts
from stockade.policy.uris.parse import ParsedUri

ROUNDS: Final = 3
MIN_ENTROPY_LENGTH: Final = 20
"""Characters from which the entropy of a value says something: shorter ones cannot reach four bits per character."""

SECRETS: Final = (
    ("a shared access signature", re.compile(r"(?<![A-Za-z0-9])sig=[A-Za-z0-9+/%]{40,128}", re.IGNORECASE)),
    ("a storage account key", re.compile(r"(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{40,128}", re.IGNORECASE)),
    ("an Azure key", re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9]{52}JQQJ99[A-Za-z0-9]{26}(?![A-Za-z0-9])")),
    ("an Entra client secret", re.compile(r"(?<![A-Za-z0-9_~.\-])[A-Za-z0-9_~.\-]{3}[0-9]Q~[A-Za-z0-9_~.\-]{31,34}(?![A-Za-z0-9_~.\-])")),
    ("a Stockade key", re.compile(r"stockade_[A-Za-z0-9]{40}")),
    ("an AWS access key", re.compile(r"(?<![A-Z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}(?![A-Z0-9])")),
    ("a GitHub token", re.compile(r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{40})")),
    ("a GitLab token", re.compile(r"(?<![A-Za-z0-9])glpat-[A-Za-z0-9_\-]{20}")),
    ("a Slack token", re.compile(r"(?<![A-Za-z0-9])xox[abeprs]-[A-Za-z0-9\-]{10}|hooks\.slack\.com/services/T[A-Z0-9]{6}")),
    ("a Google API key", re.compile(r"(?<![A-Za-z0-9_\-])AIza[A-Za-z0-9_\-]{35}")),
    ("an OpenAI or Anthropic key", re.compile(r"(?<![A-Za-z0-9])sk-(?:proj-|ant-|svcacct-)?[A-Za-z0-9_\-]{20}")),
    ("a Hugging Face token", re.compile(r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{30}")),
    ("a Stripe key", re.compile(r"(?<![A-Za-z0-9])[rs]k_(?:live|test)_[A-Za-z0-9]{20}")),
    ("a JSON web token", re.compile(r"(?<![A-Za-z0-9_\-])eyJ[A-Za-z0-9_\-]{10,4096}\.eyJ[A-Za-z0-9_\-]{10}")),
    ("a private key", re.compile(r"-----BEGIN (?:[A-Z]{1,12} ){0,2}PRIVATE KEY")),
)  # fmt: skip
"""Secrets that have a form of their own, by the name that a refusal gives them. Sources: the documented or published formats of each vendor."""

_EMAIL = re.compile(r"[A-Za-z0-9._%+\-]{1,64}@(?:[A-Za-z0-9\-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])")


@dataclass(frozen=True, slots=True)
class UriRule:
    """One rule of an account, compiled. A limit that is None is none.

    name:               as the administrator called it; the refusal names it.
    hosts:              hosts it applies to; None for all.
    paths:              patterns of which the path must match one. `*` stands for any characters of one segment, `**` at the end for any rest.
    allowed_parameters: names that the query may hold.
    max_query_length, max_path_length: characters, as sent (percent-encoded).
    max_query_entropy:  bits per character of a value in the query of `MIN_ENTROPY_LENGTH` characters or more.
    refuse_secrets:     refuse URIs that hold one of `SECRETS`.
    refuse_emails:      refuse URIs that hold an e-mail address.
    reason:             what the administrator wants a refused caller to be told.
    """

    name: str
    hosts: AllowedHosts | None = None
    paths: tuple[str, ...] | None = None
    allowed_parameters: frozenset[str] | None = None
    max_query_length: int | None = None
    max_query_entropy: float | None = None
    max_path_length: int | None = None
    refuse_secrets: bool = False
    refuse_emails: bool = False
    reason: str = ""

    def problem(self, uri: ParsedUri) -> str | None:
        """Return what the rule does not let pass, in words that tell nothing of the URI; None when it lets it pass or does not apply."""
        if self.hosts is not None and not self.hosts.allows(uri):
            return None
        if self.max_path_length is not None and len(uri.path) > self.max_path_length:
            return f"its path is longer than {self.max_path_length} characters"
        if self.max_query_length is not None and len(uri.query) > self.max_query_length:
            return f"its query is longer than {self.max_query_length} characters"
        if self.paths is not None:
            path = decoded(uri.path)
            if path is None or not _keeps(path, self.paths):
                return "its path matches no allowed pattern"
        if uri.query and (self.allowed_parameters is not None or self.max_query_entropy is not None):
            problem = self._query_problem(uri.query)
            if problem is not None:
                return problem
        return secret_problem(uri, secrets=self.refuse_secrets, emails=self.refuse_emails)

    def _query_problem(self, query: str) -> str | None:
        for pair in query.split("&"):
            name, _, value = pair.partition("=")
            if self.allowed_parameters is not None and unquote_plus(name) not in self.allowed_parameters:
                return "it has a query parameter that is not allowed"
            if self.max_query_entropy is not None:
                for text in (name, value):
                    plain = decoded(text)
                    if plain is None or entropy(plain) > self.max_query_entropy:
                        return f"a value in its query has more than {self.max_query_entropy:g} bits of entropy per character"
        return None


def secret_problem(uri: ParsedUri, *, secrets: bool, emails: bool) -> str | None:
    """Return which secret format or e-mail address a URI holds, in words that tell nothing of it; None when it holds none."""
    if not (secrets or emails):
        return None
    texts = _readings(uri.href)
    if texts is None:
        return "it is percent-encoded too often to be read"
    for text in texts:
        if secrets:
            for what, form in SECRETS:
                if form.search(text):
                    return f"it holds {what}"
        if emails and "@" in text and _EMAIL.search(text):
            return "it holds an e-mail address"
    return None


def decoded(text: str) -> str | None:
    """Undo percent-encoding until nothing changes; None when it is deeper than `ROUNDS`."""
    for _ in range(ROUNDS):
        if "%" not in text:
            return text
        plain = unquote(text, errors="replace")
        if plain == text:
            return text
        text = plain
    return text if unquote(text, errors="replace") == text else None


def entropy(text: str) -> float:
    """Return Shannon's entropy in bits per character; 0 for what is too short to say."""
    size = len(text)
    if size < MIN_ENTROPY_LENGTH:
        return 0.0
    return -sum(count / size * math.log2(count / size) for count in Counter(text).values())


def _readings(text: str) -> list[str] | None:
    """Return the text at every depth of percent-encoding; None when there are more than `ROUNDS`."""
    texts = [text]
    while "%" in texts[-1]:
        plain = unquote(texts[-1], errors="replace")
        if plain == texts[-1]:
            break
        if len(texts) > ROUNDS:
            return None
        texts.append(plain)
    return texts


def _keeps(path: str, patterns: tuple[str, ...]) -> bool:
    segments = path.split("/")
    # A segment that another program would resolve or split again is in no pattern.
    if any(segment in (".", "..") or "\\" in segment for segment in segments):
        return False
    return any(_matches(segments, pattern.split("/")) for pattern in patterns)


def _matches(segments: list[str], pattern: list[str]) -> bool:
    if pattern[-1] == "**":
        pattern = pattern[:-1]
        if len(segments) <= len(pattern):
            return False
        segments = segments[: len(pattern)]
    return len(segments) == len(pattern) and all(map(_fits, segments, pattern))


def _fits(segment: str, pattern: str) -> bool:
    """Match one segment with stars: the pieces between them, each at its first place. That is enough, as a star takes anything."""
    first, *rest = pattern.split("*")
    if not rest:
        return segment == pattern
    last = rest.pop()
    if len(segment) < len(first) + len(last) or not segment.startswith(first) or not segment.endswith(last):
        return False
    at, end = len(first), len(segment) - len(last)
    for piece in rest:
        at = segment.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True
