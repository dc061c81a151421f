r"""The deep scan's rules: what counts as a URI in a string.

**What does**:

- `scheme://host`, any scheme of two letters or more; also after other letters or digits (`1.https://host`).
- With the web's own schemes (http, https, ftp, ws, wss, file) any number and kind of slashes: `https:/host`, `https:\\host`, `https:////host`; for
  http, https and ftp none at all, where what follows has a dot, is an IPv6 address or a number of six digits, or is localhost: `https:host.example`.
- `//host` where nothing but a reference can be meant: at the start of a value, after a quote, bracket, `=` or `<`, or after a blank where a path,
  query or port follows; and only where the host has a dot, is an address or localhost. `\\host` only at the start of a value or after a quote,
  `(` or `=`.
- All of it also percent-encoded, as HTML entities, as `\u0068` or `\/` inside the text, or in full-width characters, three times over at most; inside
  other URIs; in member names; in `data:` URIs of text (HTML, SVG, JSON and so on), decoded. Other `data:` URIs are content that nobody reads as text.

A URI ends at a blank, a control character, a double quote, `<`, `>` or a backquote, and where the quote or bracket that it follows closes. Tabs and
line breaks, which a parser takes out, belong to it inside quotes and brackets, or where it is the whole value. Punctuation after a host ends it only
if no further label follows: `https://a.example, and` is a.example, `https://a.example,b.example` is one strange host, and what is behind a full stop
of any script is part of the host.

**What does not**: a name without scheme or slashes (`evil.example/x`), which every program reads as it likes; `// comment` and `a//b`; a drive
(`C:\`, `c://`); a scheme without a host (`https://`, `http://...`, `http://{host}/`, `sqlite:///file`): it names no place. A template that holds a
part of a host (`https://{x}.example`) does count, and no list allows it.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

from stockade.policy.uris.parse import MAX_CHARACTERS


class TooMuchWorkError(Exception):
    """A request makes the scan look at more than it may cost."""


class Work:
    """What the scan of one request may still cost, in about the time that one character takes to be looked at closely."""

    __slots__ = ("_left",)

    def __init__(self, left: int) -> None:
        self._left = left

    def spend(self, cost: int) -> None:
        """Use some of it; TooMuchWorkError when there is none left."""
        self._left -= cost
        if self._left < 0:
            raise TooMuchWorkError


_COLON = re.compile(r":(?:(?=[\t\r\n]*[\\/])|(?<=[tT][pP]:)|(?<=[pP][sS]:))((?:[\t\r\n]*[\\/])*)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*\Z")
_SPECIAL = re.compile(r"(?:https?|wss?|ftp|file)\Z", re.IGNORECASE)
_TAIL = re.compile(
    rf"[^ \t\n\r\x0b\x0c\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\"<>`]{{0,{MAX_CHARACTERS}}}"
)
_AUTHORITY = re.compile(r"[^/\\?#]*")
_NAME = re.compile(r"\[[0-9A-Fa-f:.]+\](?::[0-9]+)?|[A-Za-z0-9_.\-]*(?::[0-9]+)?")
_GOES_ON = re.compile(r"[.。．｡][^\W]|[.。．｡][\-_]|@|^%")
_PLACEHOLDER = re.compile(r"\$?\{[^{}]*\}+|\$\w+|%\(?\w*\)?[sd]|[*…]")
_NAMELESS = re.compile(r"[^A-Za-z0-9\u0080-\U0010ffff:\[]*(?::[0-9]*)?")
_BRACKETED = re.compile(r"\[(?:[0-9A-Fa-f]{0,4}(?::|\.[0-9])|[^\]]*\.[A-Za-z])")
_BARE = re.compile(
    r"[^\s/\\?#@]*@|(?:[^\s/\\?#@:]*[.。．｡%][^\s/\\?#:])|\[|(?:localhost|[0-9]{6,}|0[xX][0-9a-fA-F]+)(?![\w\-])"
)
_RELATIVE = re.compile(r"(?<![A-Za-z0-9:\\/_).\-])[\\/]{2,}(?=[^\s\\/])")
_RELATIVE_HOST = re.compile(
    r"(?:[^\s/\\?#@]*@)*(?:(?:[\w\-%]+[.。．｡])+(?:[^\W\d_]{2,}|xn--[\w\-]+|[0-9]+|0[xX][0-9a-fA-F]+)|localhost|\[[0-9A-Fa-f:.]+\]|[0-9]{6,}"
    r"|0[xX][0-9a-fA-F]+)\.?(?P<port>:[0-9]+)?(?=[/\\?#\"'<>)\]},;|`\s]|\Z)"
)
_CLOSERS: Final = {"'": "'", "(": ")", "[": "]", "{": "}", '"': '"', "<": ">", "`": "`"}
_TRAILING: Final = ".,;:!?'*_~|、，。；：！？…"
_ESCAPED = re.compile(r"\\u([0-9A-Fa-f]{4})|\\x([0-9A-Fa-f]{2})|\\[nrt]")
_SOFT_PATH = re.compile(r"\\(?:[nrtbfuxv0-9\"'\\]|\Z)|[\x00-\x1f\x7f]")
_BREAKS: Final = {9: None, 10: None, 13: None}
"""What a parser drops wherever it stands."""
_CONTROLS: Final = "".join(map(chr, range(0x21)))


def place_named(uri: str) -> str:
    """Return what stands before the path: one place may be found under several encodings of the rest."""
    return re.match(r"[^:/\\]*:?[/\\]*[^/]*", uri)[0].lower()  # type: ignore[index]


def decoded(text: str) -> str:
    """Return the text with one layer of every encoding undone; the same text where there is none."""
    if "\\" in text:
        text = _ESCAPED.sub(_unescaped, text).replace("\\/", "/")
    if "%" in text:
        text = unquote(text, errors="replace")
    if "&" in text:
        text = html.unescape(text)
    if "／" in text or "：" in text or "＼" in text:
        text = unicodedata.normalize("NFKC", text)
    return text


def _unescaped(found: re.Match[str]) -> str:
    number = found[1] or found[2]
    return chr(int(number, 16)) if number else "\n"


def uris_in(text: str, work: Work, *, opened: bool, closed: bool) -> Iterator[str]:
    """Return the URIs in a text. opened, closed: a quote stands before it and behind it; both, and it is a whole value."""
    work.spend(512 + len(text) // 4)
    if opened and closed and not text.isprintable():
        # The whole value: a parser drops controls around it, and tabs and line breaks inside.
        joined = text.strip(_CONTROLS).translate(_BREAKS)
        if " " not in joined and joined != text.strip(_CONTROLS):
            head = re.match(r"([A-Za-z][A-Za-z0-9+.\-]*):", joined)
            if head is not None and (_SPECIAL.fullmatch(head[1]) or joined.startswith("//", head.end())):
                if _BARE.match(joined[head.end() :].lstrip("\\/")) or _SPECIAL.fullmatch(head[1]) is None:
                    yield joined
            elif _RELATIVE.match(joined) and _RELATIVE_HOST.match(joined.lstrip("\\/")):
                yield joined
    shown = text.replace("\\/", "/") if ":\\/\\/" in text else text  # JSON inside a string
    for colon in _COLON.finditer(shown):
        yield from _absolute(shown, colon, work)
    if "//" in text or "\\" in text:
        for slashes in _RELATIVE.finditer(text):
            uri = _relative(text, slashes, opened, work)
            if uri is not None:
                yield uri


def _absolute(text: str, colon: re.Match[str], work: Work) -> tuple[str, ...]:
    work.spend(128)
    head = text[max(0, colon.start() - 40) : colon.start()]
    special = _SPECIAL.search(head)
    scheme = special or _SCHEME.search(head)
    slashes = colon[1].translate(_BREAKS)
    if special is None and (
        not slashes.startswith("//") or len(slashes) > 2 or (scheme is not None and len(scheme[0]) < 2)
    ):
        return ()
    start = colon.start() - (len(scheme[0]) if scheme is not None else 0)
    first = colon.end()
    tail = _TAIL.match(text, first)[0]  # type: ignore[index]
    work.spend(len(tail))
    before = text[start - 1] if start else ""
    closer = _CLOSERS.get(before)
    if closer in ("'", ")", "]", "}"):
        tail = tail.partition(closer)[0] if not tail.startswith("[") else tail
    more: tuple[str, ...] = ()
    if closer is not None:
        more = _broken(text, start, first, closer)
    if "&" in tail:
        # Markup: a quote or blank that is written as an entity does not end an attribute.
        inside = html.unescape(tail).translate(_BREAKS)
        if inside != tail and _GOES_ON.search(_AUTHORITY.match(inside)[0]):  # type: ignore[index]
            more = (*more, f"{scheme[0] if scheme else ''}:{slashes}{inside}")
    named = _named(tail)
    if named is None:
        return more
    if not slashes and not (
        special is not None and special[0].lower() in ("http", "https", "ftp") and _BARE.match(tail[:300])
    ):
        return more
    if scheme is None:
        return (f"//{named}", *more) if _RELATIVE_HOST.match(named) else more
    if special is not None and special[0].lower() == "file" and not slashes:
        return more
    return f"{scheme[0]}:{slashes}{named}", *more


def _broken(text: str, start: int, first: int, closer: str) -> tuple[str, ...]:
    """Return the URI between a quote or bracket and its end where tabs or line breaks stand in its authority."""
    end = text.find(closer, first, first + MAX_CHARACTERS)
    inner = text[start : end if end >= 0 else start]
    if not any(sign in inner for sign in "\t\r\n") or " " in inner:
        return ()
    return (inner.translate(_BREAKS),)


def _named(tail: str) -> str | None:
    """Return host and path as far as they belong to the URI; None when no place is named."""
    authority = _AUTHORITY.match(tail)[0]  # type: ignore[index]
    if _NAMELESS.fullmatch(_PLACEHOLDER.sub("", authority)) or (
        authority[:1] == "[" and not _BRACKETED.match(authority)
    ):
        return None
    name = _NAME.match(authority)[0]  # type: ignore[index]
    rest = authority[len(name) :]
    if not rest:
        behind = tail[len(name) :]
        if behind.startswith("\\"):
            following = _AUTHORITY.match(behind.lstrip("\\/"))[0]  # type: ignore[index]
            return tail if _GOES_ON.search(following) else name.rstrip(".:")
        if not behind:
            return name.rstrip(".:")
        soft = _SOFT_PATH.search(behind)
        return _trimmed(name + (behind[: soft.start()] if soft is not None else behind))
    more_ports = rest[0] == ":" and len(tail) > len(authority)
    if name and not name.endswith(".") and not _GOES_ON.search(rest) and not more_ports:
        return name.rstrip(":")
    return _trimmed(tail)


def _trimmed(uri: str) -> str:
    while uri:
        shorter = uri.rstrip(_TRAILING)
        for opening, closing in ("()", "[]", "{}"):
            if shorter.endswith(closing) and opening not in shorter:
                shorter = shorter[:-1]
        if shorter == uri:
            break
        uri = shorter
    return uri


def _relative(text: str, slashes: re.Match[str], opened: bool, work: Work) -> str | None:
    start = slashes.start()
    tail = _TAIL.match(text, slashes.end())[0]  # type: ignore[index]
    work.spend(128 + len(tail))
    host = _RELATIVE_HOST.match(tail)
    if host is None:
        return None
    begins = opened and not text[:start].strip(_CONTROLS)
    before = text[start - 1] if start else ""
    if "\\" in slashes[0] and not begins and (not before or before not in "\"'(="):
        return None
    if begins or (before and before in "\"'(=<>[`,|;{"):
        pass
    elif (before and not before.isspace()) or (
        host["port"] is None and tail[host.end() : host.end() + 1] not in ("/", "?", "#")
    ):
        return None
    named = _named(tail)
    return None if named is None else slashes[0] + named
