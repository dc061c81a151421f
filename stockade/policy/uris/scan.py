r"""The deep scan: find URIs in any string of a request, on the bytes as they came.

What counts as a URI there: `text.py`. In `data:` URIs of text (HTML, SVG, JSON and so on) they are looked for too, decoded; other `data:` URIs
are content that nobody reads as text.

There is one pass per kind of sign over the raw bytes, in C. Only where one is found, the few bytes around it, from blank to blank or quote, are
decoded and looked at. So a member said twice is seen twice, and text without signs costs a few milliseconds per megabyte. What goes with
the request is bounded: after `MAX_FOUND` URIs, or `WORK`, the rest counts as one that cannot be read.
"""

from __future__ import annotations

import binascii
import json
import re
from functools import cached_property
from typing import Final
from urllib.parse import unquote

import msgspec

from stockade.policy.uris.found import FoundUri
from stockade.policy.uris.text import TooMuchWorkError, Work, decoded, place_named, uris_in

MAX_FOUND: Final = 4096
"""URIs of one request that are looked at."""
WORK: Final = 2 * 1024 * 1024
"""What looking closely may cost in a request, in characters; and a quarter of the body's size on top. URIs inside URIs cost as often as they are
found, so that without it a body of nothing but `http:` would take minutes."""
ROUNDS: Final = 3
"""How many encodings on top of each other are undone."""
_MAX_DEPTH: Final = 2
"""How many `data:` URIs inside each other are opened."""

# On the bytes as they came. Each begins with a character that C can look for, and is loose: what it finds is looked at.
_COLONS = re.compile(
    rb""":(?<=[pPsSeEaAnrt]:)(?:(?<=[tT][pP]:)|(?<=[tT][pP][sS]:)|(?<=[lL][eE]:)(?=[/\\])|(?<=[dD][aA][tT][aA]:)"""
    rb"""|(?<=\\[nrt]:)|(?<=\\[nrt][pPsS]:)|(?<=\\[nrt][pP][sS]:))"""
)
_SLASHES = re.compile(rb"""/(?<=[:"'(=<>\[`,|;{ \t\r\nnrt/\\]/)(?:/(?![\s"'*=#<>,;)]|--|\\[^/\\u])|\\[/\\u])""")
_BACKSLASHES = re.compile(
    rb"""\\(?:u(?:00(?:2[fF56]|3[aA]|5[cC]|[4-7]|0[9aAdD])|[fF][fF](?:0[fF]|1[aA])(?:/|\\[/\\]|\\u[fF][fF](?:0[fF]|3[cC])))"""
    rb"""|/(?:/|\\[/\\u])|\\(?<=["'(=]\\\\)(?:/|\\[/\\]))"""
)
_PERCENT = re.compile(rb"%(?:25)*(?:3[aA]|2[fF]|5[cC])")
_ENTITY = re.compile(
    rb"&(?:amp;)*(?:#(?:0*(?:58|47|92)|[xX]0*(?:3[aA]|2[fF]|5[cC]))(?![0-9A-Fa-f])|(?:sol|colon|bsol)\b)"
)
_FULL_WIDTH = re.compile(rb"\xef\xbc(?:\x8f(?=[/\\]|\xef\xbc[\x8f\xbc])|\x9a(?=[/\\]|\xef\xbc[\x8f\xbc]))")

# The usual spelling, whole: nothing behind it can change what it names, and nothing else is in it.
_USUAL = re.compile(
    rb"""[Hh][Tt][Tt][Pp][Ss]?://[A-Za-z0-9](?:[A-Za-z0-9.\-]{0,255}[A-Za-z0-9])?(?::[0-9]{1,5})?"""
    rb"""(?:(?=[ "]|\\")|/[A-Za-z0-9/._~?=+,!@$&*\-]{0,2000}(?=[ "')>\]]|\\[nrt"]))"""
)

_DATA = re.compile(rb":([^,\"\\]{0,200}); *base64,", re.IGNORECASE)
_BASE64 = re.compile(rb"[A-Za-z0-9+/=_\-\\%]*")
_TEXT_MEDIA = re.compile(rb"^$|^;|^text/|html|xml|svg|json|script", re.IGNORECASE)

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],]', re.DOTALL)
_SHOWN_NAME = re.compile(rb'"([A-Za-z0-9_$@\-]{1,64})"')
_set: Final = object.__setattr__  # the base class is frozen


class _Paths:
    """The paths of what was found in one body, worked out together when somebody asks: for requests that pass, usually nobody."""

    def __init__(self, body: bytes, found: list[tuple[int, str]]) -> None:
        self._body, self._found = body, found

    @cached_property
    def by_offset(self) -> dict[int, str]:
        return _places(self._body, sorted({at for at, _ in self._found}))


class ScannedUri(FoundUri):
    """A URI that the deep scan found in a JSON body."""

    # Of the class, as they are the same for all: setting a frozen one's fields costs more than finding the URI.
    declared = False
    inline = False

    def __init__(self, paths: _Paths, at: int, uri: str) -> None:
        _set(self, "uri", uri)
        self.__dict__["_where"] = paths, at

    @property
    def path(self) -> str:
        paths, at = self.__dict__["_where"]
        found: str = paths.by_offset[at]
        return found


def scan_json(body: bytes) -> tuple[FoundUri, ...]:
    """Return the URIs in a JSON body, or in several one after another; each once, where it stands first."""
    found = _scan(body, Work(WORK + len(body) // 4), 0)
    if not found:
        return ()
    paths = _Paths(body, found)
    return tuple(ScannedUri(paths, at, uri) for at, uri in found)


def scan_text(text: str) -> list[str]:
    """Return the URIs in one string, each once."""
    return [uri for _, uri in _scan(_literal(text), Work(WORK + len(text) // 4), 0)]


def _literal(text: str) -> bytes:
    try:
        return msgspec.json.encode(text)
    except UnicodeEncodeError:  # lone surrogates
        return json.dumps(text).encode()


def _scan(body: bytes, work: Work, depth: int) -> list[tuple[int, str]]:
    """Return (offset of the surrounding bytes, URI)."""
    signs = [found.start() for found in _COLONS.finditer(body)]
    if b"/" in body:
        signs += [found.start() for found in _SLASHES.finditer(body)]
    if b"\\" in body:
        signs += [found.start() for found in _BACKSLASHES.finditer(body)]
    signs += _rare(_PERCENT, b"%", body)
    signs += _rare(_ENTITY, b"&", body)
    if not body.isascii():
        signs += [found.start() for found in _FULL_WIDTH.finditer(body)]
    if not signs:
        return []
    found = _Found()
    try:
        _look_at(body, sorted(signs), found, work, depth)
    except TooMuchWorkError:
        found.give_up(signs[-1])
    return found.places


def _look_at(body: bytes, signs: list[int], found: _Found, work: Work, depth: int) -> None:
    usuals: set[bytes] = set()
    looked = 0
    for sign in signs:
        if sign < looked:
            continue
        usual = (_USUAL.match(body, sign - 5) if sign > 4 else None) or (
            _USUAL.match(body, sign - 4) if sign > 3 else None
        )
        if usual is not None and body.find(b"//", sign + 3, usual.end()) < 0:
            work.spend(128)
            looked = usual.end()
            text = usual[0]
            if text not in usuals:
                usuals.add(text)
                found.add(sign, text.decode("ascii").rstrip(".,!?*_~"))
            continue
        data = _DATA.match(body, sign)
        if data is not None:
            work.spend(128)
            looked = data.end()
            for uri in _inside(body, data, work, depth) if depth < _MAX_DEPTH else ():
                found.add(sign, uri)
            continue
        start, looked, inside, opened, closed = _around(body, sign, looked)
        _look(found, work, start, inside, opened, closed)


def _rare(pattern: re.Pattern[bytes], sign: bytes, body: bytes) -> list[int]:
    """Return where the pattern stands. A sign that is rare is hopped to, which costs a fiftieth of looking at every byte."""
    count = body.count(sign)
    if count * 2000 > len(body) > 4096:
        return [found.start() for found in pattern.finditer(body)]
    places, at = [], -1
    for _ in range(count):
        at = body.index(sign, at + 1)
        if pattern.match(body, at):
            places.append(at)
    return places


class _Found:
    """What was found so far, and when to stop."""

    def __init__(self) -> None:
        self.places: list[tuple[int, str]] = []
        self._seen: set[str] = set()

    def add(self, at: int, uri: str) -> None:
        if uri in self._seen:
            return
        if len(self.places) >= MAX_FOUND:
            raise TooMuchWorkError
        self._seen.add(uri)
        self.places.append((at, uri))

    def give_up(self, at: int) -> None:
        """Add what cannot be read, so that no list allows it."""
        if "" not in self._seen:
            self.places.append((at, ""))


def _around(body: bytes, sign: int, after: int) -> tuple[int, int, str | None, bool, bool]:
    """Return start, end and text around a sign, and whether a quote stands before and behind it. None: it cannot be decoded."""
    quote = body.rfind(b'"', after, sign)
    start = max(body.rfind(b" ", quote + 1 if quote >= 0 else after, sign), quote, after - 1) + 1
    closing = body.find(b'"', sign)
    if closing < 0:
        closing = len(body)
    end = body.find(b" ", sign, closing)
    opened, closed = quote >= 0 and not body[quote + 1 : start].strip(), False
    if end < 0 or not body[end : min(closing, end + 64)].strip():
        end = closing
        closed = True
    raw = body[start:end]
    if closed and raw.endswith(b"\\") and (len(raw) - len(raw.rstrip(b"\\"))) % 2:
        raw = raw[:-1]  # the quote itself is escaped: one inside the text
    if b"\\" not in raw:
        return start, end, raw.decode("utf-8", "replace"), opened, closed
    try:
        return start, end, msgspec.json.decode(b'"' + raw + b'"', type=str), opened, closed
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return start, end, str(json.loads(b'"' + raw + b'"', strict=False)), opened, closed
    except ValueError:
        return start, end, None, opened, closed


def _look(found: _Found, work: Work, at: int, text: str | None, opened: bool, closed: bool) -> None:
    if text is None:
        found.add(at, "")
        return
    if len(text) > 4096 and not any(sign in text[64:] for sign in ".:%&["):
        return  # base64: no host without a dot, a colon or a bracket
    places: set[str] = set()
    for uri in uris_in(text, work, opened=opened, closed=closed):
        places.add(place_named(uri))
        found.add(at, uri)
    for _ in range(ROUNDS):
        before, text = text, decoded(text)
        if before == text:
            break
        work.spend(len(before))
        for uri in uris_in(text, work, opened=opened, closed=closed):
            place = place_named(uri)
            if place not in places:
                places.add(place)
                found.add(at, uri)


def _inside(body: bytes, data: re.Match[bytes], work: Work, depth: int) -> list[str]:
    """Return the URIs inside a `data:` URI of text."""
    if not _TEXT_MEDIA.search(data[1]):
        return []
    payload = _BASE64.match(body, data.end())[0].replace(b"\\", b"")  # type: ignore[index]
    if b"%" in payload:
        payload = unquote(payload.decode("ascii")).encode("ascii", "ignore")
    payload = payload.translate(bytes.maketrans(b"-_", b"+/"), b"=")
    inside = binascii.a2b_base64(payload[: len(payload) - (len(payload) % 4 == 1)] + b"==")
    return [uri for _, uri in _scan(_literal(inside.decode("utf-8", "replace")), work, depth + 1)]


def _places(body: bytes, offsets: list[int]) -> dict[int, str]:
    """Return the JSON paths of the strings at offsets, which are sorted: `messages[0].content`. Names that could tell something are not told."""
    found: dict[int, str] = {}
    stack: list[int | str | None] = []
    last, waiting = b"", len(offsets)
    for token in _TOKEN.finditer(body):
        sign = token[0]
        if sign[:1] == b'"':
            is_name = bool(stack) and not isinstance(stack[-1], int) and last in (b"{", b",")
            while waiting and offsets[-waiting] < token.end():
                found[offsets[-waiting]] = f"{_joined(stack[:-1])} (name)".lstrip() if is_name else _joined(stack)
                waiting -= 1
            if not waiting:
                break
            if is_name:
                stack[-1] = _shown(sign)
        elif sign == b"{":
            stack.append(None)
        elif sign == b"[":
            stack.append(0)
        elif sign == b",":
            if stack and isinstance(stack[-1], int):
                stack[-1] += 1
        elif stack:
            stack.pop()
        last = sign[:1]
    return found | dict.fromkeys(offsets[len(offsets) - waiting :], "")


def _shown(literal: bytes) -> str:
    name = _SHOWN_NAME.fullmatch(literal)
    return name[1].decode("ascii") if name is not None else "*"


def _joined(stack: list[int | str | None]) -> str:
    path = ""
    for step in stack:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step is not None:
            path += f".{step}" if path else step
    return path
