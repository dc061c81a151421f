r"""What in a text may become a link: where it begins, how far its host reaches, and what the account's list says of it.

A text is read by programs that are not known here: Markdown and HTML renderers, linkifiers, tools that take JSON. So a beginning is looked for
in two readings, the text as it stands and the text with escapes undone (entities, backslashes, `\u`, CSS, percent), and a host is allowed only
when every reading of it that a URL parser accepts is. Which host a reading names is said by the same parser and list as for requests.
Sources: CommonMark 0.31 (link destinations, backslash escapes, entities), GitHub Flavored Markdown (autolinks), linkify-it (names without a
scheme), HTML (attributes), URL Standard (tabs and newlines, backslashes, slashes left out).
"""

from __future__ import annotations

import html
import re
import string
from array import array
from dataclasses import dataclass
from typing import Final

from stockade.policy.uris.allowed import AllowedHosts
from stockade.policy.uris.found import FoundUri
from stockade.policy.uris.loss_prevention import LossPrevention

MAX_AUTHORITY: Final = 512
"""Characters from the beginning of a URI to the end of its host. Longer ones are refused unread."""

LOOK_BACK: Final = 256
"""Characters before a beginning that say what it is: a name may be 253 long."""

_SCHEMES = ("https", "http", "wss", "ws", "ftps", "ftp")
_OPAQUE = ("mailto", "javascript", "vbscript")
"""Schemes without a host: what they send and whither is no host's matter, so no list allows them."""
_BREAK = r"[\t\r\n]{0,64}"
"""What URL parsers drop wherever it stands; more of them in a row are taken for the end of a text."""
_WORD_STARTS = r"(?<![A-Za-z0-9])"


def _prefixes(*words: str) -> str:
    return "|".join(
        re.escape(text) for text in sorted({word[:size] for word in words for size in range(1, len(word) + 1)})
    )


BEGINNING: Final = re.compile(
    rf"""{_WORD_STARTS}(?:
        (?P<scheme>{"|".join(_SCHEMES)}):(?:{_BREAK}[/\\])*
      | (?P<opaque>{"|".join(_OPAQUE)}):
      | (?P<www>www\.)
    )
    | (?<![A-Za-z0-9/\\])(?P<slashes>[/\\](?:{_BREAK}[/\\])+)
    | (?<=[A-Za-z0-9])(?P<path>[/?\#])""",
    re.IGNORECASE | re.VERBOSE,
)
"""Where a URI may begin. `slashes`: after an unknown scheme, or without one; `path`: after a name that may be a host."""

UNFINISHED: Final = re.compile(
    rf"(?:{_WORD_STARTS}(?:{_prefixes(*_SCHEMES, 'www')}|{_prefixes(*(word + ':' for word in _OPAQUE))})"
    rf"|(?<![A-Za-z0-9/\\])[/\\]{_BREAK})\Z",
    re.IGNORECASE,
)
"""The end of a text that the next piece may turn into a beginning."""

_MARKS = re.compile(r"[/\\&%?#]")
_WITH_COLON = re.compile(rf"{_WORD_STARTS}(?:{'|'.join(_SCHEMES + _OPAQUE)}):", re.IGNORECASE)
_LETTERS = string.ascii_letters
_STARTED = frozenset(word[:size] for word in (*_SCHEMES, *_OPAQUE, "www") for size in range(1, len(word) + 1))


def interesting(text: str) -> bool:
    """Say whether a text holds anything that `BEGINNING`, `UNFINISHED` or an escape could match; most pieces of prose do not."""
    if _MARKS.search(text) is not None:
        return True
    last = text[len(text.rstrip(_LETTERS)) :]
    if last and last.lower() in _STARTED:
        return True
    if ":" in text and _WITH_COLON.search(text) is not None:
        return True
    return "." in text and "www." in text.lower()


_ESCAPE = re.compile(
    r"&(?:\#(?:[xX][0-9a-fA-F]{1,6}|[0-9]{1,7});?|[A-Za-z]{2,24};)"
    r"|\\(?:u[0-9a-fA-F]{4}|u\{[0-9a-fA-F]{1,6}\}|x[0-9a-fA-F]{2}|[nrt]|[0-9a-fA-F]{1,6}[ \t\n]?|[^\w\s])"
    r"|%[0-9a-fA-F]{2}"
)
_OPEN = re.compile(
    r"(?:&(?:[A-Za-z]{0,24}|\#[0-9]{0,7}|\#[xX][0-9a-fA-F]{0,6})"
    r"|\\(?:u[0-9a-fA-F]{0,3}|u\{[0-9a-fA-F]{0,6}|x[0-9a-fA-F]?|[nrt]|[0-9a-fA-F]{0,6})|%[0-9a-fA-F]?)\Z"
)
_MAX_ESCAPE = 26
ESCAPING: Final = re.compile(r"[&\\%]")

HOST_ENDS: Final = re.compile(r'[/?\x00-\x20\s<>"`]|(?<!&)#')
_QUOTED_HOST_ENDS: Final = re.compile(r'[/?\x00-\x08\x0b\x0c\x0e-\x20<>"`]|(?<!&)#')
"""Inside quotes a host goes on over tabs and newlines: HTML's attributes may hold them and URL parsers drop them."""
_PATH_BEGINS = re.compile(r"[/?#\\]")
_ONLY_BREAKS = re.compile(rf"{_BREAK}\Z")
_HOST_CHARACTER = r"[\w.\-:%\u3002\uff0e\uff61\u00ad\u200b-\u200f\u2060\ufeff\t\r\n]"
_HOST = re.compile(rf"(?:[^@/?#\\\[\](){{}}'\",;<>|*^]*@)*(?:\[[^\]\s]*\])?{_HOST_CHARACTER}*")
_PUNCTUATION = ".,;:!?'*_~)]}\\&=$+-"
_GOES_ON = re.compile(r"@|[.\u3002\uff0e\uff61]\w")
"""What makes the characters behind a host's apparent end part of it: user information that ends later, or further labels."""
_REACHES_ON = re.compile(r"@|[\t\r\n]\S")
_HAS_DOT = re.compile(r"[.\u3002\uff0e\uff61@\[]|%2e|\A(?:0x[0-9a-f]+|[0-9]{6,10})\Z", re.IGNORECASE)

_LINK = re.compile(
    r"(?:\]\(|\]:|(?<![\w-])(?:src|href|srcset|poster|action|formaction|data|background|cite|longdesc|ping|manifest|xlink:href|url|content)"
    r"\s*=\s*\\?[\"']?|url\(\s*\\?[\"']?)\Z",
    re.IGNORECASE,
)
_MAX_KNOWN = 256

# As linkify-it: what chat programs turn into links without a scheme. Generic domains in common use, and all two-letter ones of countries.
_GENERIC = (
    "aero app art asia bid biz blog cafe cam cat chat cfd click cloud club com coop cyou dev digital edu email expert fun gdn gov group icu "
    "info ink int jobs link live lol mil mobi monster museum name net news ngrok one online ooo org page pics pro quest rest run sbs shop "
    "site social space store stream support surf tech tel test today top travel trycloudflare uno web website wiki work works world wtf xxx "
    "xyz zip example"
)
_COUNTRIES = (
    "ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc cd cf cg ch ci ck cl cm "
    "cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw "
    "gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc "
    "md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt "
    "pw py qa re ro rs ru rw sa sb sc sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz "
    "ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw"
)
_DOMAINS = frozenset(f"{_GENERIC} {_COUNTRIES}".split())
_NAME = re.compile(r"(?<![\w.@/\\:%-])(?P<host>(?:[\w-]{1,63}\.)+[A-Za-z][A-Za-z0-9-]{1,62})(?P<port>:[0-9]{1,5})?\Z")
_MAX_LAST_LABEL = 70
"""A label has at most 63 characters, and a port stands behind it."""
_PATH_CHARACTER = re.compile(r"[\w%&=+~$@/?#-]")


@dataclass(slots=True)
class Candidate:
    """A beginning. Positions are those of the text as it stands; `escaped`: it is one only with escapes undone."""

    kind: str
    text: str
    start: int
    end: int
    before: str
    escaped: bool


@dataclass(slots=True)
class Refused:
    """A URI that may not stand.

    host: "" where it cannot be read. link: it stands where Markdown or HTML has a destination. quote: the quote it stands in, "" for none.
    to: how far it reaches at least, where signs in its host look like its end; 0 for no further than its beginning.
    """

    host: str
    link: bool
    quote: str
    to: int = 0


HOLD: Final = "hold"
"""The text ends before it can be said."""


class Unescaped:
    """A text with its escapes undone. Each character knows where in the text it came from.

    open_at: where an escape has begun that has not ended, -1 for none; closed: what comes before it, undone.
    """

    __slots__ = ("_starts", "before", "closed", "open_at", "text")

    def __init__(self, raw: str, before: str, *, final: bool) -> None:
        parts: list[str] = [before]
        starts = array("l", [-1] * len(before))
        at, self.before, self.open_at = 0, before, -1
        may_be_open = len(raw) + 1 if final else len(raw) - _MAX_ESCAPE
        for match in _ESCAPE.finditer(raw):
            start = match.start()
            if start >= may_be_open and _OPEN.match(raw, start):
                self.open_at = start
                break
            parts.append(raw[at:start])
            starts.extend(range(at, start))
            parts.append(_undone(match[0]))
            starts.append(start)
            at = match.end()
        if self.open_at < 0 and not final and (cut := _OPEN.search(raw, max(at, may_be_open))) is not None:
            self.open_at = cut.start()
        closed = raw[at : self.open_at] if self.open_at >= 0 else raw[at:]
        parts.append(closed)
        self.closed = "".join(parts)
        self.text = self.closed + raw[at + len(closed) :]
        starts.extend(range(at, len(raw) + 1))
        self._starts = starts

    def raw(self, position: int) -> int:
        """Return the position in the text as it stands."""
        return self._starts[position]

    def last(self, raw_position: int) -> str:
        """Return the character before a position of the text as it stands, undone; "" at its start."""
        low, high = 0, len(self._starts) - 1
        while low < high:  # the first character that starts there or later
            middle = (low + high) // 2
            if self._starts[middle] < raw_position:
                low = middle + 1
            else:
                high = middle
        return self.text[low - 1] if low else ""


def _undone(escape: str) -> str:
    """Return the one character an escape stands for."""
    if escape[0] == "&":
        return html.unescape(escape)[:1] or "\ufffd"
    if escape[0] == "%":
        return chr(int(escape[1:], 16))
    digits = escape[1:].lstrip("ux{").rstrip("} \t\n")
    if escape[1] in "nrt":
        return {"n": "\n", "r": "\r", "t": "\t"}[escape[1]]
    try:
        code = int(digits, 16) if escape[1] in "ux" or escape[1].isalnum() else -1
    except ValueError:
        code = -1
    if code < 0:
        return escape[1]
    return chr(code) if code <= 0x10FFFF else "\ufffd"


class Judge:
    """Says of a beginning what becomes of it."""

    def __init__(self, allowed: AllowedHosts) -> None:
        self._demands = LossPrevention(allowed)
        self._known: dict[str, str | None] = {}

    def _refused_host(self, uri: str) -> str | None:
        """Return the host of a URI that requests may not carry either, "" for one that cannot be read; a text often names a host again."""
        try:
            return self._known[uri]
        except KeyError:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            refused = self._demands.refuse(FoundUri("", uri))
            host = self._known[uri] = refused.host if refused is not None else None
            return host

    def look(self, text: str, candidate: Candidate, *, final: bool) -> Refused | str | None:
        """Return Refused, HOLD when more of the text is needed, None when nothing is wrong here.

        text: as it stands, with what comes before the candidate.
        """
        if candidate.kind == "path":
            return self._path(text, candidate, final=final)
        window = text[max(0, candidate.start - LOOK_BACK) : candidate.start]
        link, quote = _context(window)
        end, too_long = candidate.end, len(text) - candidate.start > MAX_AUTHORITY
        if not final and _ONLY_BREAKS.match(text, end):
            return Refused("", link, quote) if too_long else HOLD
        if candidate.kind == "opaque":
            if text[end : end + 1].isspace() or end == len(text):
                return None
            return Refused("", link, quote) if link or candidate.text[0] in "mM" else None
        begin = candidate.start if candidate.kind == "www" else end
        found = (_QUOTED_HOST_ENDS if quote else HOST_ENDS).search(text, begin)
        if found is not None:
            stop = found.start()
        elif final or too_long:
            stop = len(text)
        else:
            return HOLD
        if stop - candidate.start > MAX_AUTHORITY:
            return Refused("", link, quote)
        scheme = candidate.text.partition(":")[0].lower() if candidate.kind == "scheme" else "https"
        needs_dot = _needs_dot(candidate, window, link=link)
        host = self._host(scheme, text[begin:stop], candidate.escaped, bool(quote), quote, needs_dot=needs_dot)
        if host is None:
            return None
        authority = text[begin:stop].rstrip("\\")  # a backslash may be the escape of what ends it
        to = begin + len(authority) if _REACHES_ON.search(authority) else 0
        return Refused(host, link or bool(quote), quote, to)

    def _path(self, text: str, candidate: Candidate, *, final: bool) -> Refused | str | None:
        """Judge a name without a scheme by what follows it: alone it carries nothing."""
        start = candidate.start
        dot = text.rfind(".", max(0, start - _MAX_LAST_LABEL), start)
        if dot < 0 or text[dot + 1 : start].partition(":")[0].lower() not in _DOMAINS:
            return None
        window = text[max(0, start - LOOK_BACK) : start]
        name = _NAME.search(window)
        if name is None:
            return None
        if candidate.end == len(text):
            return None if final else HOLD
        if not _PATH_CHARACTER.match(text, candidate.end):
            return None
        host = self._refused_host(f"https://{name['host']}")
        if host is None:
            return None
        link, quote = _context(window[: name.start()])
        return Refused(host, link or bool(quote), quote)

    def _host(
        self, scheme: str, authority: str, escaped: bool, quoted: bool, quote: str, *, needs_dot: bool
    ) -> str | None:
        """Return the host that is refused, "" for one that cannot be read, None when all readings are allowed or there is no host."""
        readings = [] if escaped else [authority.partition("\\")[0]]
        undone = authority
        for _ in range(3):
            if not ESCAPING.search(undone):
                break
            again = Unescaped(undone, "", final=True).text
            if again == undone:
                break
            undone = again
            readings.append(_PATH_BEGINS.split(undone, maxsplit=1)[0])
        if not readings:
            readings.append(_PATH_BEGINS.split(authority, maxsplit=1)[0])
        for number, reading in enumerate(readings):
            read = reading if quoted else HOST_ENDS.split(reading, maxsplit=1)[0]
            refused = self._reading(scheme, read, quote, strict=number == 0, needs_dot=needs_dot)
            if refused is not None:
                return refused
        return None

    def _reading(self, scheme: str, text: str, quote: str, *, strict: bool, needs_dot: bool) -> str | None:
        match = _HOST.match(text)
        whole = match[0] if match is not None else ""
        host = whole.rstrip(_PUNCTUATION + "\t\r\n") if not whole.endswith("]") else whole
        rest = text[len(whole) :]
        if quote == "'" and "@" not in rest:
            rest = rest.partition("'")[0]
        if host and (not needs_dot or _HAS_DOT.search(host)):
            refused = self._refused_host(f"{scheme}://{host}")
            if refused or (refused == "" and strict):
                return refused
        if rest and _GOES_ON.search(rest):
            # `https://allowed.example)@other.example`: some linkifiers read on. What no URL parser accepts leads nowhere.
            further = (whole + rest).rstrip(_PUNCTUATION)
            return self._refused_host(f"{scheme}://{further}") or None
        return None


def _context(window: str) -> tuple[bool, str]:
    """Say of what comes before a URI whether it makes it a destination of Markdown or HTML, and which quote the URI stands in."""
    bare = window.rstrip()
    last = bare[-1:]
    if not last or last not in "(<=:\"'":
        return False, ""
    if last == "<":
        return True, ""
    return _LINK.search(bare[-32:]) is not None, last if last in "\"'" else ""


def _needs_dot(candidate: Candidate, window: str, *, link: bool) -> bool:
    r"""Say whether the host must look like one: `http:8080`, `// comment` and `\\n` are no URIs, unless they stand for one."""
    if candidate.kind == "www":
        return True
    slashes = candidate.text if candidate.kind == "slashes" else candidate.text.partition(":")[2]
    if candidate.kind == "scheme":
        return not slashes.strip() and not link
    if "/" not in slashes:
        return True
    after_colon = candidate.before == ":" or window.rstrip("\t\r\n").endswith(":")
    return not (after_colon or link)
